// A pad to draw on, with mouse, finger, pen or keys, that gives the picture a model takes.

import { peakOf, shrink } from "./pixels.js";

const SIDE = 336;
const BRUSH = 32;
const STEP = 14;

export function drawingPad(host, field, example, changed) {
  const [rows, columns, channels] = [...field.shape.slice(1).map((size) => (size > 0 ? size : 28)), 0];
  const wanted = { rows, columns, peak: peakOf(field, example), whole: !field.datatype.startsWith("FP") };
  host.innerHTML = "";
  const board = element("div", "board");
  const pad = element("canvas", "pad");
  pad.width = pad.height = SIDE;
  pad.tabIndex = 0;
  pad.setAttribute("role", "application");
  pad.setAttribute("aria-label", "Drawing pad. Arrow keys move the brush, Space puts it down or up, Delete clears.");
  const sees = element("figure", "sees");
  const small = element("canvas");
  small.width = columns;
  small.height = rows;
  small.setAttribute("aria-hidden", "true");
  const caption = element("figcaption");
  caption.textContent = `What the model sees: ${rows} × ${columns}`;
  sees.append(small, caption);
  board.append(pad, sees);
  const hint = element("p", "hint");
  hint.textContent = "Keys: arrows move, Space puts the brush down or up, Delete clears.";
  host.append(board, hint);

  const pen = pad.getContext("2d", { willReadFrequently: true });
  let picture = null;
  let last = null;
  let down = false;
  const brush = { x: SIDE / 2, y: SIDE / 2, shown: false };

  function line(from, to) {
    if (picture && picture.given) clear();
    pen.strokeStyle = pen.fillStyle = "#fff";
    pen.lineWidth = BRUSH;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x + 0.01, to.y);
    pen.stroke();
    see();
  }

  function see() {
    const data = pen.getImageData(0, 0, SIDE, SIDE).data;
    const ink = new Float32Array(SIDE * SIDE);
    for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3] / 255;
    const values = shrink(ink, SIDE, SIDE, wanted);
    picture = values && { values, given: false };
    show(small, values, wanted.peak, rows, columns);
  }

  function clear() {
    pen.clearRect(0, 0, SIDE, SIDE);
    picture = null;
    show(small, null, 1, rows, columns);
  }

  function place(event) {
    const frame = pad.getBoundingClientRect();
    return { x: ((event.clientX - frame.left) / frame.width) * SIDE, y: ((event.clientY - frame.top) / frame.height) * SIDE };
  }

  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    pad.focus({ preventScroll: true });
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
  });
  pad.addEventListener("pointermove", (event) => {
    if (last === null) return;
    const next = place(event);
    line(last, next);
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, () => {
      if (last !== null) changed();
      last = null;
    });
  }
  pad.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key in moves) {
      const from = { ...brush };
      brush.x = Math.min(SIDE, Math.max(0, brush.x + moves[event.key][0]));
      brush.y = Math.min(SIDE, Math.max(0, brush.y + moves[event.key][1]));
      if (down) line(from, brush);
    } else if (event.key === " ") {
      down = !down;
      if (down) line(brush, brush);
      else changed();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      clear();
    } else {
      return;
    }
    hint.textContent = `Brush ${down ? "down" : "up"} at ${Math.round(brush.x)}, ${Math.round(brush.y)}.`;
    event.preventDefault();
  });

  return {
    clear,
    fill(values) {
      clear();
      picture = { values, given: true };
      show(small, values, wanted.peak, rows, columns);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(small, 0, 0, SIDE, SIDE);
    },
    read() {
      if (picture === null) throw new Error("Draw something first.");
      if (picture.given || !channels) return picture.values;
      return picture.values.map((row) => row.map((value) => Array(channels).fill(value)));
    },
  };
}

function show(canvas, values, peak, rows, columns) {
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const value = values ? values[Math.floor(i / columns)][i % columns] : 0;
    const [red, green, blue] = Array.isArray(value) ? (value.length < 3 ? [value[0], value[0], value[0]] : value) : [value, value, value];
    image.data.set([(255 * red) / peak, (255 * green) / peak, (255 * blue) / peak, 255], 4 * i);
  }
  pen.putImageData(image, 0, 0);
}

function element(tag, name) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  return made;
}
