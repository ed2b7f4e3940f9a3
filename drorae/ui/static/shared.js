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

function signed(value, digits) {
  return (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
}

const find = (name) => element.querySelector(`[data-part="${name}"]`);

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
