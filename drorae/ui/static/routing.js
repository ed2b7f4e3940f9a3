// Routing viewer: which layer is added or suppressed at every token. All of it is local; the value came in one piece.

const state = { value: null, token: null, pins: [], layer: null, limit: 1 };
element.__routing = state;

const stage = find("stage");
const STAGE = 640; // canvas pixels; the style scales it to the column
const share = (token, layer) => state.shares[token * state.value.layers + layer];
const weight = (token, layer) => state.weights[token * state.value.layers + layer];
const place = (token) => `row ${Math.floor(token / state.value.grid) + 1}, column ${(token % state.value.grid) + 1}`;
let loads = 0;

// The tokens the bars show: two pins, or a pin and the token under the cursor, or that token alone.
function shown() {
  if (state.pins.length === 2) return state.pins;
  if (state.pins.length === 1) {
    const other = state.token !== null && state.token !== state.pins[0] ? [state.token] : [];
    return [state.pins[0], ...other];
  }
  return state.token === null ? [] : [state.token];
}

function layerMap(layer) {
  const map = new Float32Array(state.value.grid ** 2);
  for (let token = 0; token < map.length; token += 1) map[token] = share(token, layer) / state.limit;
  return map;
}

function drawStage() {
  const { grid } = state.value;
  stage.width = STAGE;
  stage.height = STAGE;
  const context = stage.getContext("2d");
  const cell = STAGE / grid;
  context.imageSmoothingEnabled = false;
  context.drawImage(state.picture, 0, 0, STAGE, STAGE);
  if (state.layer !== null) {
    context.globalAlpha = 0.72;
    layerMap(state.layer).forEach((value, token) => {
      context.fillStyle = `rgb(${diverging("routing", value).join(",")})`;
      context.fillRect((token % grid) * cell, Math.floor(token / grid) * cell, cell, cell);
    });
    context.globalAlpha = 1;
  }
  context.strokeStyle = "rgba(255,255,255,0.28)";
  context.lineWidth = 1;
  context.beginPath();
  for (let i = 1; i < grid; i += 1) {
    context.moveTo(i * cell, 0);
    context.lineTo(i * cell, STAGE);
    context.moveTo(0, i * cell);
    context.lineTo(STAGE, i * cell);
  }
  context.stroke();

  const outline = (token, inner, outer) => {
    const [x, y] = [(token % grid) * cell, Math.floor(token / grid) * cell];
    context.lineWidth = outer;
    context.strokeStyle = "#000";
    context.strokeRect(x, y, cell, cell);
    context.lineWidth = inner;
    context.strokeStyle = "#fff";
    context.strokeRect(x, y, cell, cell);
  };
  if (state.token !== null) outline(state.token, 2, 5);
  state.pins.forEach((token, i) => {
    outline(token, 4, 8);
    const [x, y] = [(token % grid + 0.5) * cell, (Math.floor(token / grid) + 0.5) * cell];
    context.font = `700 ${Math.round(Math.max(cell * 0.62, 18))}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 5;
    context.strokeStyle = "#000";
    context.strokeText("AB"[i], x, y);
    context.fillStyle = "#fff";
    context.fillText("AB"[i], x, y);
  });
}

function buildBars() {
  const head = document.createElement("div");
  head.className = "row head";
  head.innerHTML = '<span>layer</span><span class="sides">suppressed | added</span><span>share</span><span>w</span>';
  const rows = [];
  for (let layer = 0; layer < state.value.layers; layer += 1) {
    const row = document.createElement("div");
    row.className = "row";
    row.dataset.layer = layer + 1;
    row.innerHTML =
      '<span class="name"></span><div class="track"><div class="bar first"></div><div class="bar second"></div></div>' +
      '<span class="value share"></span><span class="value raw"></span>';
    row.querySelector(".name").textContent = `layer ${layer + 1}`;
    rows.push(row);
  }
  find("bars").replaceChildren(head, ...rows);
  state.rows = rows;
}

function drawBars() {
  const tokens = shown();
  find("unpin").hidden = !state.pins.length;
  const names = tokens.map((token, i) => {
    const name = document.createElement("span");
    name.className = i ? "second" : "first";
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const pin = state.pins.indexOf(token);
    name.append(swatch, `${pin >= 0 ? "AB"[pin] : "here"}: ${place(token)}`);
    return name;
  });
  find("names").replaceChildren(...names);
  find("bars").classList.toggle("two", tokens.length === 2);
  const numbers = (values, digits) =>
    values.map((value, i) => {
      const span = document.createElement("span");
      span.className = i ? "second" : "first";
      span.textContent = signed(value, digits);
      return span;
    });
  state.rows.forEach((row, layer) => {
    row.classList.toggle("chosen", layer === state.layer);
    ["first", "second"].forEach((kind, i) => {
      const bar = row.querySelector(`.bar.${kind}`);
      if (i >= tokens.length) {
        bar.style.display = "none";
        return;
      }
      const value = share(tokens[i], layer);
      bar.style.display = "block";
      bar.classList.toggle("adds", value >= 0);
      bar.classList.toggle("suppresses", value < 0);
      const size = Math.abs(value) * 50;
      bar.style.width = `${size}%`;
      bar.style.left = `${value < 0 ? 50 - size : 50}%`;
    });
    row.querySelector(".share").replaceChildren(...numbers(tokens.map((token) => share(token, layer)), 3));
    row.querySelector(".raw").replaceChildren(...numbers(tokens.map((token) => weight(token, layer)), 3));
  });

  const last = state.token;
  const order = [...Array(state.value.layers).keys()].sort((a, b) => share(last, b) - share(last, a));
  const [most, least] = [order[0], order[order.length - 1]];
  const low = share(last, least);
  find("where").textContent =
    `Token in ${place(last)}: most added layer ${most + 1} (${signed(share(last, most), 2)}), ` +
    `${low < 0 ? "most suppressed" : "least added"} layer ${least + 1} (${signed(low, 2)})` +
    (state.layer === null ? "" : `; the photo shows layer ${state.layer + 1}`);
}

function drawStrip() {
  const { layers, grid } = state.value;
  const buttons = [];
  for (let layer = 0; layer < layers; layer += 1) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.layer = layer + 1;
    const canvas = document.createElement("canvas");
    const map = layerMap(layer);
    paintMap(canvas, map, grid, grid, "routing");
    const mean = (map.reduce((sum, value) => sum + value, 0) / map.length) * state.limit;
    const caption = document.createElement("span");
    const number = document.createElement("i");
    number.textContent = signed(mean, 2);
    const name = document.createElement("b");
    name.textContent = `layer ${layer + 1}`;
    caption.append(name, number);
    button.title = `mean share ${signed(mean, 3)}`;
    button.append(canvas, caption);
    button.onclick = () => chooseLayer(state.layer === layer ? null : layer);
    buttons.push(button);
  }
  find("strip").replaceChildren(...buttons);
  pressStrip();
}

function pressStrip() {
  for (const button of find("strip").children) {
    button.setAttribute("aria-pressed", Number(button.dataset.layer) - 1 === state.layer);
  }
}

function chooseLayer(layer) {
  if (!state.value) return; // the next picture is being decoded
  state.layer = layer;
  pressStrip();
  drawStage();
  drawBars();
}

function moveTo(token) {
  if (token === state.token) return;
  state.token = token;
  drawStage();
  drawBars();
}

// A third pin takes the place of the second; pinning a pinned token takes the pin out.
function pin(token) {
  const at = state.pins.indexOf(token);
  if (at >= 0) state.pins.splice(at, 1);
  else state.pins = [...state.pins.slice(0, 1), token];
  drawStage();
  drawBars();
}

function tokenAt(event) {
  const box = stage.getBoundingClientRect();
  const { grid } = state.value;
  const at = (offset, length) => Math.max(0, Math.min(grid - 1, Math.floor((offset / length) * grid)));
  return at(event.clientY - box.top, box.height) * grid + at(event.clientX - box.left, box.width);
}

function press(event) {
  // many keyboards need AltGr or Option for the brackets
  const modified = event.ctrlKey || event.metaKey || event.altKey;
  if (!state.value || (modified && !["[", "]"].includes(event.key))) return;
  const { grid, layers } = state.value;
  const token = state.token === null ? 0 : state.token;
  const [row, column] = [Math.floor(token / grid), token % grid];
  const go = (r, c) => moveTo(Math.max(0, Math.min(grid - 1, r)) * grid + Math.max(0, Math.min(grid - 1, c)));
  const step = (by) => chooseLayer(state.layer === null ? (by > 0 ? 0 : layers - 1) : (state.layer + by + layers) % layers);
  const actions = {
    ArrowUp: () => go(row - 1, column),
    ArrowDown: () => go(row + 1, column),
    ArrowLeft: () => go(row, column - 1),
    ArrowRight: () => go(row, column + 1),
    Home: () => go(0, 0),
    End: () => go(grid - 1, grid - 1),
    Enter: () => pin(token),
    " ": () => pin(token),
    Escape: () => { state.pins = []; chooseLayer(null); },
    "[": () => step(-1),
    "]": () => step(1),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
}

async function load() {
  loads += 1;
  const mine = loads;
  const value = props.value;
  find("root").hidden = !value;
  state.value = null;
  if (!value) return;
  const picture = await loadPicture(value.picture);
  if (mine !== loads) return; // a newer picture arrived while this one was decoded
  state.picture = picture;
  state.weights = new Float32Array(decodeBase64(value.weights));
  state.shares = new Float32Array(decodeBase64(value.shares));
  state.limit = robustLimit(state.shares, 0.01);
  state.value = value;
  state.pins = [];
  if (state.layer !== null && state.layer >= value.layers) state.layer = null;
  state.token = Math.floor(value.grid / 2) * (value.grid + 1); // the middle, where most photos have their subject
  find("low").textContent = `suppressed \u2212${state.limit.toFixed(2)}`;
  find("high").textContent = `+${state.limit.toFixed(2)} added`;
  find("ramp").style.background = gradient("routing");
  find("meaning").textContent = value.divided
    ? "The bar is its share, w / \u221a(sum of all w\u00b2); w is the router's raw output, of which only the proportions matter."
    : "The bar is the weight of the layer; the weights of a token add up to 1.";
  find("cosine").textContent =
    `Mean cosine between the fused and the last layer's tokens, before the correction: ${signed(value.cosine, 2)}.`;
  buildBars();
  drawStrip();
  drawStage();
  drawBars();
}

stage.addEventListener("pointermove", (event) => { if (state.value) moveTo(tokenAt(event)); });
stage.addEventListener("click", (event) => { if (state.value) { moveTo(tokenAt(event)); pin(tokenAt(event)); } });
stage.addEventListener("keydown", press);
find("unpin").addEventListener("click", () => { state.pins = []; drawStage(); drawBars(); });
watch("value", load);
load();
