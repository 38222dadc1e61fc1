// From a drawing to the picture that a model takes: crop, centre, average areas, scale to its range of values.

export function shrink(ink, width, height, wanted) {
  // ink: Float32Array of width * height, 0 to 1. wanted: {rows, columns, peak, whole}. Gives rows of numbers, or null.
  const box = bounds(ink, width, height);
  if (box === null) return null;
  const sums = integral(ink, width, height);
  // Sets of large pictures (28 x 28) leave a margin around the figure; on small ones it fills the height.
  const room = Math.min(wanted.rows, wanted.columns) >= 20 ? 20 / 28 : 1;
  const scale = Math.max((box.bottom - box.top) / (wanted.rows * room), (box.right - box.left) / (wanted.columns * room));
  const centre = room < 1 ? massCentre(ink, width, box) : [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  const left = centre[0] - (wanted.columns / 2) * scale;
  const top = centre[1] - (wanted.rows / 2) * scale;
  const rows = [];
  for (let y = 0; y < wanted.rows; y++) {
    const row = [];
    for (let x = 0; x < wanted.columns; x++) {
      const total = area(sums, width, height, left + x * scale, top + y * scale, left + (x + 1) * scale, top + (y + 1) * scale);
      const value = Math.min(1, total / (scale * scale)) * wanted.peak;
      row.push(wanted.whole ? Math.round(value) : Math.round(value * 1000) / 1000);
    }
    rows.push(row);
  }
  return rows;
}

function bounds(ink, width, height) {
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (ink[y * width + x] < 0.1) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  return right < 0 ? null : { left, top, right: right + 1, bottom: bottom + 1 };
}

function massCentre(ink, width, box) {
  let total = 0, sumX = 0, sumY = 0;
  for (let y = box.top; y < box.bottom; y++) {
    for (let x = box.left; x < box.right; x++) {
      const value = ink[y * width + x];
      total += value;
      sumX += value * (x + 0.5);
      sumY += value * (y + 0.5);
    }
  }
  return [sumX / total, sumY / total];
}

function integral(ink, width, height) {
  const sums = new Float64Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    let line = 0;
    for (let x = 0; x < width; x++) {
      line += ink[y * width + x];
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + line;
    }
  }
  return sums;
}

function area(sums, width, height, left, top, right, bottom) {
  const at = (x, y) => corner(sums, width, height, x, y);
  return at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top);
}

function corner(sums, width, height, x, y) {
  // The sum above and left of a point between pixels: bilinear in the integral is exact for areas.
  x = Math.min(width, Math.max(0, x));
  y = Math.min(height, Math.max(0, y));
  const column = Math.min(width - 1, Math.floor(x)), line = Math.min(height - 1, Math.floor(y));
  const right = x - column, down = y - line, step = width + 1, start = line * step + column;
  return (sums[start] * (1 - right) + sums[start + 1] * right) * (1 - down)
    + (sums[start + step] * (1 - right) + sums[start + step + 1] * right) * down;
}

export function peakOf(field, example) {
  // The largest value of a pixel: by its type, or by what the example shows.
  if (field.datatype === "UINT8") return 255;
  const largest = Math.max(0, ...(example || []).flat(Infinity));
  if (largest <= 1) return 1;
  return largest <= 16 ? 16 : 255;
}
