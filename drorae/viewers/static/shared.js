// What the viewers share. The scripts of a viewer are one function body; `element`, `props` and `watch` come from Gradio.

function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}

function loadPicture(source) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("a picture could not be decoded"));
    picture.src = source;
  });
}

// Diverging scales from ColorBrewer 2 (RdBu, BrBG), readable with every common colour vision deficiency.
const SCALES = {
  routing: [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]],
  gain: [[140, 81, 10], [223, 194, 125], [245, 245, 245], [128, 205, 193], [1, 102, 94]],
};

// value in [-1, 1] to [r, g, b]
function diverging(scale, value) {
  const stops = SCALES[scale];
  const place = (Math.max(-1, Math.min(1, value)) + 1) / 2 * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  const share = place - low;
  return stops[low].map((channel, i) => Math.round(channel + share * (stops[low + 1][i] - channel)));
}

function gradient(scale) {
  return `linear-gradient(to right, ${SCALES[scale].map((c) => `rgb(${c.join(",")})`).join(",")})`;
}

// Paint values (row-major, already divided by their limit) on a canvas of columns x rows pixels.
function paintMap(canvas, values, columns, rows, scale) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  for (let i = 0; i < columns * rows; i += 1) {
    const [r, g, b] = diverging(scale, values[i]);
    pixels.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}

// An SVG node with these attributes.
function svgNode(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Smallest size that at most `share` of all sizes exceed: keeps a few outliers from washing a whole map out.
function robustLimit(values, share) {
  const sizes = Float32Array.from(values, Math.abs).sort();
  return sizes[Math.min(sizes.length - 1, Math.floor((1 - share) * sizes.length))] || 1;
}

// Black or white, whichever is read better on a colour: at least 4.5 to 1 (WCAG's luminance, 0.179 is even).
function readable(channels) {
  const [r, g, b] = channels.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

function signed(value, digits) {
  const size = Math.abs(value).toFixed(digits);
  return Number(size) === 0 ? size : (value < 0 ? "\u2212" : "+") + size; // no "-0.0"
}

// Pictures and maps of this viewer are so many pixels or tokens wide and high.
function setShape(width, height) {
  element.style.setProperty("--shape", `${width} / ${height}`);
}

// Outline a set of tokens of a grid, cells of `cell` pixels: the edges that have one of them on one side only.
function outlineTokens(context, tokens, { rows, columns }, cell, strokes) {
  const inside = new Set(tokens);
  context.beginPath();
  for (const token of inside) {
    const [row, column] = [Math.floor(token / columns), token % columns];
    const edges = [
      [row > 0 && inside.has(token - columns), column, row, column + 1, row],
      [row < rows - 1 && inside.has(token + columns), column, row + 1, column + 1, row + 1],
      [column > 0 && inside.has(token - 1), column, row, column, row + 1],
      [column < columns - 1 && inside.has(token + 1), column + 1, row, column + 1, row + 1],
    ];
    for (const [shared, x1, y1, x2, y2] of edges) {
      if (shared) continue;
      context.moveTo(x1 * cell, y1 * cell);
      context.lineTo(x2 * cell, y2 * cell);
    }
  }
  context.lineCap = "square";
  for (const [width, colour] of strokes) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}

// The token of a grid under a pointer.
function tokenUnder(canvas, event, { rows, columns }) {
  const box = canvas.getBoundingClientRect();
  const at = (offset, length, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / length) * count)));
  return at(event.clientY - box.top, box.height, rows) * columns + at(event.clientX - box.left, box.width, columns);
}

// The tokens of the rectangle with these two at its corners.
function tokensWithin(one, other, width) {
  const range = (a, b) => Array.from({ length: Math.abs(a - b) + 1 }, (_, i) => Math.min(a, b) + i);
  const columns = range(one % width, other % width);
  return range(Math.floor(one / width), Math.floor(other / width)).flatMap((row) => columns.map((column) => row * width + column));
}

// The tokens on the straight line between two, both included: a quick hand moves over some without an event.
function tokensBetween(from, to, width) {
  const [row, column] = [Math.floor(from / width), from % width];
  const [down, right] = [Math.floor(to / width) - row, (to % width) - column];
  const steps = Math.max(Math.abs(down), Math.abs(right), 1);
  return Array.from({ length: steps + 1 }, (_, i) => Math.round(row + (down * i) / steps) * width + Math.round(column + (right * i) / steps));
}

const find = (name) => element.querySelector(`[data-part="${name}"]`);

// Tell it to screen readers once the hand rests: what follows every key or every value would never end.
let saying = 0;
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => { find("said").textContent = text; }, 500);
}

// Put nodes in the place of others. A button that had the focus leaves it to the one of its name, by default its number.
function replace(place, nodes, name = (node, i) => i) {
  const buttons = () => [...place.querySelectorAll('button, [role="button"]')];
  const at = buttons().indexOf(document.activeElement);
  const focused = at < 0 ? null : name(document.activeElement, at);
  place.replaceChildren(...nodes);
  if (at >= 0) buttons().find((node, i) => name(node, i) === focused)?.focus({ preventScroll: true });
}

// A link brings back a view: the example it is about, and what was chosen there. report.js writes one.
const link = new URLSearchParams(window.location.search);

// True once, for the picture that the link is about.
function comesFromLink(value) {
  if (state.linked || (link.get("example") ?? value.example) !== value.example) return false;
  state.linked = true;
  return true;
}

// "3.7-9" to [3, 7, 8, 9], of the numbers below `end`; what cannot be read is left out.
function readNumbers(text, end) {
  const parts = (text ?? "").split(".").filter(Boolean).flatMap((part) => {
    const [low, high = low] = part.split("-").map(Number);
    if (!(Number.isInteger(low) && Number.isInteger(high) && low >= 0 && high < end && low <= high)) return [];
    return Array.from({ length: high - low + 1 }, (_, i) => low + i);
  });
  return [...new Set(parts)];
}

function writeNumbers(numbers) {
  const runs = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = runs[runs.length - 1];
    if (last && last[1] === number - 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join(".");
}
