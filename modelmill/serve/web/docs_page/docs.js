// Shows the OpenAPI document: operations by tag, each with its parameters, body, example and answers.

const wanted = await (await fetch("/openapi.json")).json();

function make(tag, words, name) {
  const made = document.createElement(tag);
  if (words !== undefined) made.textContent = words;
  if (name) made.className = name;
  return made;
}

function resolve(schema, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > 6) return schema;
  if (schema.$ref) return resolve(wanted.components.schemas[schema.$ref.split("/").pop()], depth + 1);
  if (Array.isArray(schema)) return schema.map((part) => resolve(part, depth + 1));
  return Object.fromEntries(Object.entries(schema).map(([key, part]) => [key, resolve(part, depth + 1)]));
}

function block(title, value) {
  const pre = make("pre", typeof value === "string" ? value : JSON.stringify(value, null, 2));
  pre.tabIndex = 0;
  return [make("h3", title), pre];
}

function pairs(title, entries) {
  const list = make("dl");
  for (const [name, words] of entries) list.append(make("dt", name), make("dd", words));
  return entries.length ? [make("h3", title), list] : [];
}

function operation(path, method, given) {
  const details = make("details");
  const summary = make("summary");
  summary.append(make("span", method.toUpperCase(), `method ${method}`), make("code", path), make("span", given.summary, "what"));
  const inside = make("div", undefined, "inside");
  inside.append(...pairs("Parameters", given.parameters.map((one) => [one.name, one.description ?? one.schema.type])));
  const bodies = Object.entries(given.requestBody?.content ?? {});
  for (const [kind, { example }] of bodies) {
    if (example) inside.append(...block("Try", curl(path, method, kind, example)));
  }
  for (const [kind, body] of bodies) inside.append(...block(`Body, ${kind}`, resolve(body.schema)));
  const answers = Object.entries(given.responses);
  for (const [code, one] of answers.filter(([code]) => code < "400")) inside.append(...answered(code, one));
  const refusals = answers.filter(([code]) => code >= "400");
  inside.append(...pairs("Refusals", refusals.map(([code, one]) => [code, one.description])));
  details.append(summary, inside);
  return details;
}

// An answer by its code; one that leads elsewhere has no body.
function answered(code, given) {
  const bodies = Object.entries(given.content ?? {});
  if (!bodies.length) return pairs("Answer", [[code, given.description]]);
  return bodies.flatMap(([kind, body]) => {
    const schema = resolve(body.schema);
    return block(`Answer ${code}, ${kind}`, Object.keys(schema).length ? schema : "JSON");
  });
}

// Where the page was shown to who has a key, curl needs it, too.
const KEY = document.getElementById("main").dataset.withKey ? '-H "Authorization: Bearer $MODELMILL_KEY" ' : "";

// curl takes {name} for a pattern, so that it stands as NAME.
function curl(path, method, kind, example) {
  const url = location.origin + path.replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase());
  const verb = method === "post" ? "" : `-X ${method.toUpperCase()} `;
  return `curl ${verb}${url} ${KEY}-H 'content-type: ${kind}' -d '${JSON.stringify(example).replaceAll("'", "'\\''")}'`;
}

document.getElementById("version").textContent = wanted.info.version;
document.getElementById("description").prepend(`${wanted.info.description} `);
const host = document.getElementById("operations");
for (const tag of wanted.tags) {
  host.append(make("h2", tag.name[0].toUpperCase() + tag.name.slice(1)), make("p", tag.description, "quiet"));
  for (const [path, methods] of Object.entries(wanted.paths)) {
    for (const [method, given] of Object.entries(methods)) {
      if (given.tags.includes(tag.name)) host.append(operation(path, method, given));
    }
  }
}
document.getElementById("main").removeAttribute("aria-busy");
