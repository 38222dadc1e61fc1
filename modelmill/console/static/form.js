// A form with one control a column, that reads as a row of JSON.

export function rowForm(host, fields) {
  host.innerHTML = "";
  const grid = document.createElement("div");
  grid.className = "fields";
  host.append(grid);
  const controls = fields.map((field, index) => control(grid, field, index));
  return {
    clear: () => controls.forEach(({ input }) => write(input, null)),
    fill: (row) => controls.forEach(({ input, field }, index) => write(input, bare(field, row[index]))),
    read() {
      const row = {};
      for (const { input, field } of controls) {
        input.removeAttribute("aria-invalid");
        try {
          row[field.name] = value(field, input.value);
        } catch (error) {
          input.setAttribute("aria-invalid", "true");
          input.focus();
          throw error;
        }
      }
      return row;
    },
  };
}

// The shape of one row's value: without the axis of the rows.
function rowOf(field) {
  return field.shape.filter((_, place) => place !== field.axis);
}

// Whether a row's value is one element, which a plain control holds.
function isOne(field) {
  return rowOf(field).every((size) => size === 1);
}

function isBoolean(field) {
  return field.kind === "boolean" || field.datatype === "BOOL";
}

// A value as its control holds it: one element may come as a list of one.
export function bare(field, value) {
  return isOne(field) && Array.isArray(value) ? value.flat(Infinity)[0] : value;
}

// A value that the model takes, where there is no example: zeros, and one for every axis of any size.
export function placeholder(field) {
  const one = field.kind === "date" ? "2026-05-31" : { BYTES: "text", BOOL: false }[field.datatype] ?? 0;
  return isOne(field) ? one : rowOf(field).reduceRight((inner, size) => Array(Math.max(size, 1)).fill(inner), one);
}

function elements(field) {
  return { BYTES: "texts", BOOL: "booleans" }[field.datatype] ?? "numbers";
}

function control(grid, field, index) {
  const box = document.createElement("div");
  const many = !isOne(field);
  box.className = many ? "field wide" : "field";
  const label = document.createElement("label");
  label.htmlFor = `field-${index}`;
  label.textContent = field.name;
  const note = many ? `${rowOf(field).join(" × ").replaceAll("-1", "any")} ${elements(field)}` : { date: "date", category: "text" }[field.kind] ?? "";
  const words = [note, field.nullable ? "may be empty" : ""].filter(Boolean).join(", ");
  if (words) {
    const small = document.createElement("small");
    small.textContent = ` ${words}`;
    label.append(small);
  }
  const input = many ? document.createElement("textarea") : isBoolean(field) ? choice(field) : text(field);
  input.id = `field-${index}`;
  input.autocomplete = "off";
  if (!field.nullable) input.required = true;
  box.append(label, input);
  grid.append(box);
  return { input, field };
}

function text(field) {
  const input = document.createElement("input");
  if (field.datatype === "BYTES") {
    input.type = "text";
  } else if (field.kind === "date") {
    input.type = "text";
    input.placeholder = "2026-05-31 or 2026-05-31T18:30";
  } else {
    // "number" would hide what is not one, and could not be told from an empty control.
    input.type = "text";
    input.inputMode = "decimal";
  }
  return input;
}

function choice(field) {
  const select = document.createElement("select");
  for (const [value, words] of [...(field.nullable ? [["", "unknown"]] : []), ["false", "no"], ["true", "yes"]]) {
    select.append(new Option(words, value));
  }
  return select;
}

function write(input, value) {
  if (input.tagName === "SELECT") {
    const wanted = value === null || value === undefined ? "" : String(Boolean(value));
    input.value = wanted;
    if (input.selectedIndex < 0) input.selectedIndex = 0;
  } else {
    input.value = value === null || value === undefined ? "" : Array.isArray(value) ? JSON.stringify(value) : String(value);
  }
  input.removeAttribute("aria-invalid");
}

export function value(field, written) {
  const trimmed = written.trim();
  if (trimmed === "") {
    if (field.nullable) return null;
    throw new Error(`${field.name} is empty.`);
  }
  if (!isOne(field)) return list(field, trimmed);
  if (isBoolean(field)) return field.datatype === "BOOL" ? trimmed === "true" : Number(trimmed === "true");
  if (field.datatype === "BYTES") return written;
  if (field.kind === "date") return trimmed;
  return number(field, trimmed);
}

function number(field, written) {
  const found = Number(written.replace(/^([+-]?\d+),(\d+)$/, "$1.$2"));
  if (!Number.isFinite(found)) throw new Error(`${field.name}: “${written}” is not a number.`);
  if (!field.datatype.startsWith("FP") && !Number.isInteger(found)) throw new Error(`${field.name}: “${written}” is not a whole number.`);
  return found;
}

function list(field, written) {
  const size = rowOf(field).includes(-1) ? 0 : rowOf(field).reduce((product, axis) => product * axis, 1);
  try {
    const parsed = JSON.parse(written.startsWith("[") ? written : `[${written.split(/[\s,;]+/).join(",")}]`);
    const flat = parsed.flat(Infinity);
    if (size > 0 && flat.length !== size) throw new Error(`${field.name} wants ${size} ${elements(field)}, there are ${flat.length}.`);
    return parsed;
  } catch (error) {
    throw error instanceof SyntaxError ? new Error(`${field.name} is not a list of ${elements(field)}.`) : error;
  }
}
