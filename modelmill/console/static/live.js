// Keeps the page of a run up to date while it runs: asks whether anything changed, and puts what changed in its place.
const EVERY_MS = 1500;
const REST = 9; // so many times as long as an answer took nothing is asked: to look on must not slow a search down
const place = document.getElementById("live");
const problem = document.getElementById("problem");

async function look() {
  const now = document.getElementById("now");
  if (now.dataset.state !== "running") return;
  const began = performance.now();
  if (!document.hidden) await renew(now.dataset.stamp);
  setTimeout(look, Math.max(EVERY_MS, REST * (performance.now() - began)));
}

async function renew(stamp) {
  try {
    const reply = await fetch(`${place.dataset.source}?since=${encodeURIComponent(stamp)}`);
    problem.hidden = reply.ok;
    if (!reply.ok) problem.textContent = `The service answers ${reply.status}; what stands here may be old.`;
    if (reply.status === 200) put(await reply.text());
  } catch {
    problem.textContent = "The service does not answer; what stands here may be old.";
    problem.hidden = false;
  }
}

/** Replace what changes, without moving what the reader has scrolled to. */
function put(text) {
  const lefts = [...place.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  place.innerHTML = text;
  place.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = lefts[i] || 0; });
}

setTimeout(look, EVERY_MS);
