// The page of a model: asks it for what is drawn or filled in, and shows the answer.

import { drawingPad } from "./draw.js";
import { bare, placeholder, rowForm } from "./form.js";

const SHOWN = 10;
const page = document.getElementById("try");
const answer = document.getElementById("answer");
const problem = document.getElementById("problem");
const blank = answer.innerHTML;
const reference = page.dataset.reference;
let asked = 0;

async function start() {
  const model = await (await fetch(`/api/models/${encodeURIComponent(reference)}`)).json();
  if (model.error) return fail(model.error);
  const image = model.inputs.length === 1 && model.inputs[0].kind === "image";
  const host = document.getElementById("fields");
  const example = image ? model.example[0] : model.example;
  const source = image ? drawingPad(host, model.inputs[0], example, () => ask(model, read)) : rowForm(host, model.inputs);
  const read = () => (image ? { [model.inputs[0].name]: source.read() } : source.read());

  document.getElementById("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(model, read);
  });
  document.getElementById("clear").addEventListener("click", () => {
    source.clear();
    asked++;
    answer.innerHTML = blank;
    problem.hidden = true;
  });
  const show = () => {
    source.fill(example);
    ask(model, read);
  };
  document.getElementById("fill").addEventListener("click", show);
  if (model.example.length && !image) source.fill(example);
  const shown = (field, index) => (model.example.length ? bare(field, model.example[index]) : placeholder(field));
  programs(Object.fromEntries(model.inputs.map((field, index) => [field.name, shown(field, index)])));
  page.removeAttribute("aria-busy");
  if (location.hash === "#example" && model.example.length) show();
}

async function ask(model, read) {
  const turn = ++asked;
  let row;
  try {
    row = read();
  } catch (error) {
    return fail(error.message);
  }
  programs(row);
  const started = performance.now();
  try {
    const response = await fetch(`/predict/${encodeURIComponent(reference)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify([row]),
    });
    const body = await response.json();
    if (turn !== asked) return undefined;
    if (!response.ok) return fail(body.error);
    return succeed(model, body, performance.now() - started);
  } catch {
    return fail("The service did not answer. Is it still running?");
  }
}

function succeed(model, body, milliseconds) {
  problem.hidden = true;
  const prediction = body.predictions[0];
  const parts = [];
  if ("label" in prediction) {
    parts.push(paragraph("headline", String(prediction.label)));
  } else if ("value" in prediction) {
    parts.push(paragraph("headline", amount(prediction.value)));
  } else {
    const pre = document.createElement("pre");
    pre.textContent = JSON.stringify(prediction, null, 2);
    parts.push(pre);
  }
  parts.push(paragraph("quiet", `Version ${body.version} answered in ${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms.`));
  if (prediction.probabilities) parts.push(bars(prediction.probabilities));
  answer.replaceChildren(...parts);
}

function bars(probabilities) {
  // Object keys that look like numbers come sorted; by probability is what is wanted anyway.
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
  const list = document.createElement("ol");
  list.className = sorted.every(([name]) => name.length < 4) ? "bars few" : "bars";
  list.setAttribute("aria-label", "Probabilities");
  for (const [name, probability] of sorted) {
    const item = document.createElement("li");
    const track = part("track", "");
    const fill = part("fill", "");
    fill.style.width = `${(100 * probability).toFixed(2)}%`;
    track.append(fill);
    track.setAttribute("aria-hidden", "true");
    const title = part("name", name);
    title.title = name;
    item.append(title, track, part("value", `${(100 * probability).toFixed(1)} %`));
    list.append(item);
  }
  return list;
}

function amount(value) {
  if (value === null) return "not a number";
  return Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(3) : Number(value.toPrecision(6)).toLocaleString("en");
}

function programs(row) {
  const json = JSON.stringify([row]);
  const key = page.dataset.withKey ? ' -H "Authorization: Bearer $MODELMILL_KEY"' : "";
  document.getElementById("curl").textContent = `curl ${location.origin}/predict/${reference}${key} -d '${json.replaceAll("'", "'\\''")}'`;
  document.getElementById("python").textContent =
    `${key ? "import os\n\n" : ""}import modelmill\n\nclient = modelmill.Client("${location.origin}"${key && ', key=os.environ["MODELMILL_KEY"]'})\nclient.predict("${reference}", ${pythonic(json)})`;
}

function pythonic(json) {
  // Outside strings only: null, true and false are spelled otherwise.
  return json.replace(/"(?:[^"\\]|\\.)*"|null|true|false/g, (part) => ({ null: "None", true: "True", false: "False" })[part] ?? part);
}

function fail(message) {
  problem.textContent = message;
  problem.hidden = false;
}

function paragraph(name, words) {
  const made = document.createElement("p");
  made.className = name;
  made.textContent = words;
  return made;
}

function part(name, words) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = words;
  if (name === "track" || name === "fill") made.style.display = "block";
  return made;
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
}

start().catch(() => fail("The page could not be set up: the service does not answer."));
