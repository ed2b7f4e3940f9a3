// Routing viewer: which layer is added or suppressed at every token. All of it is local; the value came in one piece.

const {
  comesFromLink,
  find,
  htmlNode,
  link,
  loadPicture,
  outlineTokens,
  paintMap,
  replace,
  say,
  setShape,
  tokenUnder,
} = shared;
const {
  clamp,
  decodeBase64,
  divergingColour,
  gradient,
  mean,
  number,
  percent,
  readNumbers,
  robustLimit,
  signedNumber,
  tokensBetween,
  tokensWithin,
} = lib;

const state = { value: null, token: null, pins: [], layer: null, limit: 1, stroke: null, corner: null };
element.__routing = state;

const stage = find("stage");
const STAGE = 640; // canvas pixels; the style scales it to the column
// What is looked at is a token, or several that were brushed over: then it is their mean.
const tokensOf = (chosen) => (Array.isArray(chosen) ? chosen : [chosen]);
const meanOver = (chosen, read) => mean(tokensOf(chosen).map(read));
const tokenCount = () => state.value.rows * state.value.columns;
const share = (chosen, layer) => meanOver(chosen, (token) => state.shares[token * state.value.layers + layer]);
const weight = (chosen, layer) => meanOver(chosen, (token) => state.weights[token * state.value.layers + layer]);
const place = (chosen) =>
  Array.isArray(chosen)
    ? `mean of ${chosen.length} tokens`
    : `row ${Math.floor(chosen / state.value.columns) + 1}, column ${(chosen % state.value.columns) + 1}`;
const LEANING = 0.1; // share of the tokens that are outlined for a layer
let loads = 0;

// What the bars show: two pins, or a pin and the token under the cursor, or that token alone.
function tokensOfBars() {
  if (state.pins.length === 2) return state.pins;
  if (state.pins.length === 1) {
    const other = state.token !== null && state.token !== state.pins[0] ? [state.token] : [];
    return [state.pins[0], ...other];
  }
  return state.token === null ? [] : [state.token];
}

function layerMap(layer) {
  const map = new Float32Array(tokenCount());
  for (let token = 0; token < map.length; token += 1) map[token] = share(token, layer) / state.limit;
  return map;
}

// The tokens that lean on a layer most.
function leaningTokens(layer) {
  const all = [...Array(tokenCount()).keys()];
  return all.sort((a, b) => share(b, layer) - share(a, layer)).slice(0, Math.max(1, Math.round(LEANING * all.length)));
}

function drawStage() {
  const { rows, columns } = state.value;
  const cell = STAGE / Math.max(rows, columns);
  const [width, height] = [Math.round(columns * cell), Math.round(rows * cell)];
  stage.width = width;
  stage.height = height;
  const context = stage.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(state.picture, 0, 0, width, height);
  if (state.layer !== null) {
    context.globalAlpha = 0.72;
    layerMap(state.layer).forEach((value, token) => {
      const [x, y] = [(token % columns) * cell, Math.floor(token / columns) * cell];
      context.fillStyle = `rgb(${divergingColour("routing", value).join(",")})`;
      context.fillRect(x, y, cell, cell);
      if (value > -0.02) return;
      context.fillStyle = "#000"; // a minus, for eyes that take the two colours for one
      context.fillRect(x + cell * 0.35, y + cell * 0.46, cell * 0.3, Math.max(2, cell * 0.08));
    });
    context.globalAlpha = 1;
  }
  context.strokeStyle = "rgba(255,255,255,0.28)";
  context.lineWidth = 1;
  context.beginPath();
  for (let column = 1; column < columns; column += 1) {
    context.moveTo(column * cell, 0);
    context.lineTo(column * cell, height);
  }
  for (let row = 1; row < rows; row += 1) {
    context.moveTo(0, row * cell);
    context.lineTo(width, row * cell);
  }
  context.stroke();

  const outline = (chosen, inner, outer, colour = "#fff") =>
    outlineTokens(context, tokensOf(chosen), state.value, cell, [
      [outer, "#000"],
      [inner, colour],
    ]);
  if (state.layer !== null) outline(leaningTokens(state.layer), 2, 5, "#ffd54a");
  if (state.token !== null) outline(state.token, 2, 5);
  if (state.stroke) outline([...state.stroke], 3, 6);
  state.pins.forEach((chosen, i) => {
    outline(chosen, 4, 8);
    const centre = (read) => (meanOver(chosen, read) + 0.5) * cell;
    const [x, y] = [centre((token) => token % columns), centre((token) => Math.floor(token / columns))];
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
  const cell = (textContent, className = "") => htmlNode("span", { textContent, className });
  const bar = (className) => htmlNode("div", { className });
  const heads = [cell("layer"), cell("suppressed | added", "sides"), cell("share"), cell("w")];
  state.rows = Array.from({ length: state.value.layers }, (_, layer) =>
    htmlNode("div", { className: "row", "data-layer": layer + 1 }, [
      cell(`layer ${layer + 1}`, "name"),
      htmlNode("div", { className: "track" }, [bar("bar first"), bar("bar second")]),
      cell("", "value share"),
      cell("", "value raw"),
    ]),
  );
  find("bars").replaceChildren(htmlNode("div", { className: "row head" }, heads), ...state.rows);
}

function drawBars() {
  const tokens = tokensOfBars();
  find("unpin").hidden = !state.pins.length;
  const names = tokens.map((token, i) => {
    const pin = state.pins.indexOf(token);
    const words = `${pin >= 0 ? "AB"[pin] : "here"}: ${place(token)}`;
    return htmlNode("span", { className: i ? "second" : "first" }, [htmlNode("span", { className: "swatch" }), words]);
  });
  find("names").replaceChildren(...names);
  find("bars").classList.toggle("two", tokens.length === 2);
  const numbers = (values, digits) =>
    values.map((value, i) =>
      htmlNode("span", { className: i ? "second" : "first", textContent: signedNumber(value, digits) }),
    );
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
    row.querySelector(".share").replaceChildren(
      ...numbers(
        tokens.map((token) => share(token, layer)),
        3,
      ),
    );
    row.querySelector(".raw").replaceChildren(
      ...numbers(
        tokens.map((token) => weight(token, layer)),
        3,
      ),
    );
  });

  const last = state.token;
  const order = [...Array(state.value.layers).keys()].sort((a, b) => share(last, b) - share(last, a));
  const [most, least] = [order[0], order[order.length - 1]];
  const low = share(last, least);
  find("where").textContent =
    `Token in ${place(last)}: most added layer ${most + 1} (${signedNumber(share(last, most), 2)}), ` +
    `${low < 0 ? "most suppressed" : "least added"} layer ${least + 1} (${signedNumber(low, 2)})` +
    (state.layer === null
      ? ""
      : `; the photo shows layer ${state.layer + 1}, outlined are the tokens that lean on it most`) +
    (state.corner === null || state.stroke.size < 2 ? "" : `; Enter pins the mean of ${state.stroke.size} tokens`);
  drawFormula();
}

// Equations 4 and 5 of what the bars show first, with its own numbers.
function drawFormula() {
  const [chosen] = tokensOfBars();
  const { layers, beta, divided } = state.value;
  const text = (textContent, kind = "span") => htmlNode(kind, { textContent });
  const symbol = (letter, name) => [text(letter, "i"), text(name, "sub")];
  const terms = Array.from({ length: layers }, (_, layer) => {
    const value = (divided ? weight : share)(chosen, layer);
    const properties = {
      type: "button",
      className: value < 0 ? "term suppresses" : "term adds",
      "data-layer": layer + 1,
      "aria-label": `layer ${layer + 1}, weight ${signedNumber(value, 2)}`,
      "aria-pressed": layer === state.layer,
      onclick: () => chooseLayer(state.layer === layer ? null : layer),
    };
    return htmlNode("button", properties, [text(signedNumber(value, 2)), ...symbol("h", String(layer + 1))]);
  });
  const energy = Math.sqrt(
    meanOver(chosen, (token) => {
      let sum = 0;
      for (let layer = 0; layer < layers; layer += 1) sum += state.weights[token * layers + layer] ** 2;
      return sum;
    }),
  );
  const [fuse, final] = [() => symbol("z", "fuse"), () => symbol("z", "final")];
  const base = () => symbol("z", "base");
  const end = divided ? ` ] / ${number(energy, 2)} )` : " ] )";
  const sum = [...fuse(), text(" = LN( ["), ...terms, text(end)];
  const correction =
    beta === null
      ? [text(" = "), ...fuse()]
      : [text(" = LN( "), ...base(), text(` + ${beta} (`), ...fuse(), text(" \u2212 "), ...base(), text(") )")];
  replace(find("formula"), [htmlNode("div", {}, sum), htmlNode("div", {}, [...final(), ...correction])]);
  const cosine = meanOver(chosen, (token) => state.cosines[token]);
  const one = tokensOf(chosen).length === 1;
  const meaning = divided
    ? `The divisor is \u221a(sum of all w\u00b2)${one ? "" : ", the sum averaged over the tokens"}. `
    : "";
  find("formula-note").textContent =
    `${!one ? `Means over ${tokensOf(chosen).length} tokens. ` : `Token in ${place(chosen)}. `}${meaning}` +
    `The cosine of z_fuse and z_base is ${signedNumber(cosine, 2)}${Math.abs(cosine) < 0.3 ? ": the fused vector points almost nowhere near the last layer's, so it is a correction of its own" : ""}.`;
}

// What a coefficient of the signed share means; a suppressed layer whose share falls is suppressed more.
function aboutTexture(coefficient, added) {
  if (Math.abs(coefficient) < 0.2) return "It does not care about texture here.";
  if (added >= 0.9) return `It is added more where the photo is ${coefficient > 0 ? "textured" : "smooth"}.`;
  if (added <= 0.1) return `It is suppressed more where the photo is ${coefficient > 0 ? "smooth" : "textured"}.`;
  return `Its share ${coefficient > 0 ? "rises" : "falls"} with texture.`;
}

// Share of a layer against the texture of the photo, token by token.
function drawScatter() {
  const { correlation, layers } = state.value;
  const count = tokenCount();
  const strongest = [...Array(layers).keys()].sort(
    (a, b) => Math.abs(correlation[b] ?? 0) - Math.abs(correlation[a] ?? 0),
  )[0];
  const layer = state.layer === null ? strongest : state.layer;
  const canvas = find("scatter");
  const [width, height, edge] = [560, 320, 12];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const most = Math.max(...state.texture, 1e-6);
  const tallest = Math.max(...Array.from({ length: count }, (_, token) => Math.abs(share(token, layer))), 1e-6);
  const y = (value) => height / 2 - ((value / tallest) * (height - 2 * edge)) / 2;
  context.strokeStyle = style.color;
  context.globalAlpha = 0.4;
  context.beginPath();
  context.moveTo(edge, y(0));
  context.lineTo(width - edge, y(0));
  context.stroke();
  context.globalAlpha = 0.75;
  for (let token = 0; token < count; token += 1) {
    const value = share(token, layer);
    context.fillStyle = style.getPropertyValue(value < 0 ? "--suppresses" : "--adds");
    context.beginPath();
    context.arc(edge + (state.texture[token] / most) * (width - 2 * edge), y(value), 4, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
  const known = correlation[layer] !== null;
  const added = Array.from({ length: count }, (_, token) => share(token, layer) > 0).filter(Boolean).length / count;
  const words = known
    ? `Layer ${layer + 1}: r = ${signedNumber(correlation[layer], 2)}. ${aboutTexture(correlation[layer], added)}`
    : `Layer ${layer + 1} is used alike everywhere: there is no coefficient.`;
  find("scatter-words").textContent = words;
  canvas.setAttribute("aria-label", `Share of a layer against texture, one dot per token. ${words}`);
  replace(
    find("correlations"),
    correlation.map((value, i) => {
      const properties = {
        type: "button",
        "data-layer": i + 1,
        "aria-pressed": i === layer,
        "aria-label": `layer ${i + 1}, coefficient ${value === null ? "none" : signedNumber(value, 2)}`,
        onclick: () => chooseLayer(i),
      };
      const name = htmlNode("b", { textContent: `${i + 1}` });
      return htmlNode("button", properties, [name, value === null ? "\u2013" : signedNumber(value, 2)]);
    }),
  );
}

// The layers as the paper describes them, next to the same layers here: mean share, and its spread over the photo.
function drawFingerprint() {
  const { layers, cosine, paper } = state.value;
  const rows = paper.layers.map(({ first, last, text }) => {
    // the same part of another depth, at least one layer
    const from = Math.round(((first - 1) * layers) / paper.depth);
    const end = Math.max(from + 1, Math.round((last * layers) / paper.depth));
    const spreads = []; // of every layer over the photo: how unlike two layers are is another matter
    const values = [];
    for (let layer = from; layer < end; layer += 1) {
      const map = Array.from({ length: tokenCount() }, (_, token) => share(token, layer));
      const middle = mean(map);
      spreads.push(Math.sqrt(mean(map.map((value) => (value - middle) ** 2))));
      values.push(...map);
    }
    const negative = values.filter((value) => value < 0).length / values.length;
    const name = end - from > 1 ? `${from + 1}\u2013${end}` : `${from + 1}`;
    const spread = number(mean(spreads), 2);
    return [name, text, `${signedNumber(mean(values), 2)} \u00b1 ${spread}, suppressed at ${percent(negative)}`];
  });
  const [low, high] = [Math.min(...paper.cosines), Math.max(...paper.cosines)].map((value) => signedNumber(value, 2));
  rows.push(["cosine", `${high} to ${low} on four photos`, signedNumber(cosine, 2)]);
  find("fingerprint").replaceChildren(
    ...rows.map(([name, ...cells]) =>
      htmlNode("tr", {}, [
        htmlNode("th", { scope: "row", textContent: name }),
        ...cells.map((textContent) => htmlNode("td", { textContent })),
      ]),
    ),
  );
}

function drawStrip() {
  const { layers, rows, columns } = state.value;
  const buttons = Array.from({ length: layers }, (_, layer) => {
    const canvas = document.createElement("canvas");
    const map = layerMap(layer);
    paintMap(canvas, map, columns, rows, "routing");
    const average = mean(map) * state.limit;
    const caption = htmlNode("span", {}, [
      htmlNode("b", { textContent: `layer ${layer + 1}` }),
      htmlNode("i", { textContent: signedNumber(average, 2) }),
    ]);
    const properties = {
      type: "button",
      title: `mean share ${signedNumber(average, 3)}`,
      "data-layer": layer + 1,
      onclick: () => chooseLayer(state.layer === layer ? null : layer),
    };
    return htmlNode("button", properties, [canvas, caption]);
  });
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
  drawScatter();
  say(`${find("where").textContent}. ${find("scatter-words").textContent}`);
}

function moveTo(token) {
  if (token === state.token) return;
  state.token = token;
  drawStage();
  drawBars();
}

function dropStroke() {
  state.stroke = null;
  state.corner = null;
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

const tokenAt = (event) => tokenUnder(stage, event, state.value);

function press(event) {
  // many keyboards need AltGr or Option for the brackets
  const modified = event.ctrlKey || event.metaKey || event.altKey;
  if (!state.value || (modified && !["[", "]"].includes(event.key))) return;
  const { rows, columns, layers } = state.value;
  const token = state.token === null ? 0 : state.token;
  const [row, column] = [Math.floor(token / columns), token % columns];
  const go = (r, c) => {
    const to = clamp(r, 0, rows - 1) * columns + clamp(c, 0, columns - 1);
    if (event.shiftKey) {
      state.corner ??= token;
      state.stroke = new Set(tokensWithin(state.corner, to, columns));
    } else if (state.corner !== null) dropStroke();
    moveTo(to);
  };
  const choose = () => {
    const chosen = state.corner === null ? [token] : [...state.stroke];
    dropStroke();
    pin(chosen.length > 1 ? chosen : token);
  };
  const step = (by) =>
    chooseLayer(state.layer === null ? (by > 0 ? 0 : layers - 1) : (state.layer + by + layers) % layers);
  const actions = {
    ArrowUp: () => go(row - 1, column),
    ArrowDown: () => go(row + 1, column),
    ArrowLeft: () => go(row, column - 1),
    ArrowRight: () => go(row, column + 1),
    Home: () => go(0, 0),
    End: () => go(rows - 1, columns - 1),
    Enter: choose,
    " ": choose,
    Escape: () => {
      if (state.corner !== null) return dropStroke();
      state.pins = [];
      chooseLayer(null);
    },
    "[": () => step(-1),
    "]": () => step(1),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
    const pins = state.pins.map((chosen, i) => ` ${"AB"[i]} is pinned: ${place(chosen)}.`);
    say(`${find("where").textContent}.${pins.join("")}`);
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
  state.texture = new Float32Array(decodeBase64(value.texture));
  state.cosines = new Float32Array(decodeBase64(value.cosines));
  state.limit = robustLimit(state.shares, 0.01);
  state.value = value;
  setShape(value.columns, value.rows);
  state.pins = [];
  state.stroke = null;
  state.corner = null;
  if (comesFromLink(value)) {
    state.pins = link
      .getAll("token")
      .slice(0, 2)
      .map((text) => readNumbers(text, tokenCount()))
      .filter((tokens) => tokens.length);
    state.pins = state.pins.map((tokens) => (tokens.length > 1 ? tokens : tokens[0]));
    const [layer] = readNumbers(link.get("layer"), value.layers + 1);
    state.layer = layer > 0 ? layer - 1 : null;
  }
  if (state.layer !== null && state.layer >= value.layers) state.layer = null;
  // the middle, where most photos have their subject
  state.token = Math.floor(value.rows / 2) * value.columns + Math.floor(value.columns / 2);
  find("low").textContent = `suppressed ${number(-state.limit, 2)}`;
  find("high").textContent = `${signedNumber(state.limit, 2)} added`;
  find("ramp").style.background = gradient("routing");
  find("meaning").textContent = value.divided
    ? "The bar is its share, w / \u221a(sum of all w\u00b2); w is the router's raw output, of which only the proportions matter."
    : "The bar is the weight of the layer; the weights of a token add up to 1.";
  find("cosine").textContent =
    `Mean cosine between the fused and the last layer's tokens, before the correction: ${signedNumber(value.cosine, 2)}.`;
  buildBars();
  drawStrip();
  drawStage();
  drawBars();
  drawScatter();
  drawFingerprint();
}

// Dragging brushes over tokens, whose mean is then pinned; a click pins one token.
stage.addEventListener("pointerdown", (event) => {
  if (!state.value || event.pointerType === "touch") return; // a finger scrolls
  state.corner = null;
  moveTo(tokenAt(event));
  state.stroke = new Set([state.token]);
});
stage.addEventListener("pointermove", (event) => {
  if (!state.value || state.corner !== null) return; // keys are choosing a rectangle
  const token = tokenAt(event);
  const between = state.stroke ? tokensBetween(state.token, token, state.value.columns) : [];
  for (const each of between) state.stroke.add(each);
  moveTo(token);
});
stage.addEventListener("pointerleave", () => {
  if (state.stroke && state.corner === null) dropStroke();
});
stage.addEventListener("click", (event) => {
  if (!state.value) return;
  const brushed = state.stroke ? [...state.stroke].sort((a, b) => a - b) : [];
  state.stroke = null;
  moveTo(tokenAt(event));
  pin(brushed.length > 1 ? brushed : tokenAt(event));
});
stage.addEventListener("keydown", press);
find("unpin").addEventListener("click", () => {
  state.pins = [];
  drawStage();
  drawBars();
  stage.focus({ preventScroll: true }); // the button is gone
});
watch("value", load);
load();
