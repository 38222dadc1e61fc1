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
  const json = given.requestBody?.content["application/json"];
  if (json?.example) inside.append(...block("Try", `curl ${location.origin}${path} -d '${JSON.stringify(json.example).replaceAll("'", "'\\''")}'`));
  if (json) inside.append(...block("Body", resolve(json.schema)));
  const binary = given.requestBody?.content["application/octet-stream"];
  if (binary) inside.append(make("p", `Or application/octet-stream: ${binary.schema.description}.`, "quiet"));
  const [kind, answer] = Object.entries(given.responses["200"].content)[0];
  const schema = resolve(answer.schema);
  inside.append(...block(`Answer, ${kind}`, Object.keys(schema).length ? schema : "JSON"));
  const refusals = Object.entries(given.responses).filter(([code]) => code !== "200");
  inside.append(...pairs("Refusals", refusals.map(([code, one]) => [code, one.description])));
  details.append(summary, inside);
  return details;
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
