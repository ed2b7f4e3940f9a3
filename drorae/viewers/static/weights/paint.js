// Weights: how every layer is used, place by place; and what resembles a place, layer by layer.

const { html, panel } = parts;
const { clamp, divergingColour, gradient, mean, number, percent, signedNumber, unpack } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const REACH = 0.7; // share at the ends of the scale: the same for every photo and layer
const HELD = -0.02; // share from which a cell counts as held back, for eyes that take the two colours for one
const ALIKE = 0.5; // cosine similarity from which a place counts as resembling another
const REST = 300; // ms a pointer rests before what resembles the place is asked for
const RAE = "This model reads its last layer alone, so there is nothing to weigh.";

const root = find("root");
const bold = (textContent) => html("b", { textContent });
const soft = (textContent) => html("span", { className: "score", textContent });
const layerName = (layer) => `Layer ${layer + 1}`;
const routes = () => store.data("routes");
const count = () => routes().rows * routes().columns;
const layerShares = (layer) => {
  const all = parts.numbers("shares");
  return Float32Array.from({ length: count() }, (_, token) => all[token * routes().layers + layer]);
};
const textures = (canvas) => canvas.getContext("2d");

// Colour of a share on the page; of a share that lies over the photo, which is multiplied by it in the light.
const colour = (share) => divergingColour("routing", share / REACH, parts.dark());

// A panel's picture at the screen's own pixels, so that signs in the cells stay sharp.
const screen = (node, shape) => () => {
  const known = shape();
  if (!known) return null;
  const scale = (node().clientWidth * (window.devicePixelRatio || 1)) / Math.max(known.width, known.height) || 1;
  return { ...known, width: Math.round(known.width * scale), height: Math.round(known.height * scale) };
};

function drawPhoto(context, picture, width, height) {
  context.imageSmoothingEnabled = width % picture.naturalWidth > 0;
  context.globalCompositeOperation = "source-over";
  context.drawImage(picture, 0, 0, width, height);
}

// One colour per token over what is painted already.
function lay(context, width, height, columns, rows, colourOf) {
  const cells = document.createElement("canvas");
  parts.paintPixels(cells, columns, rows, colourOf);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, 0, 0, width, height);
}

// The photo in grey, one layer's weights over it in colour, and a minus where it is held back.
function paintUse(context, width, height) {
  const picture = parts.route("original");
  const values = parts.numbers("shares") && layerShares(state.layer);
  if (!picture || !values) return false;
  const { rows, columns } = routes();
  const dark = parts.dark();
  drawPhoto(context, picture, width, height);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = dark ? "rgb(14 15 17 / 0.45)" : "rgb(255 255 255 / 0.4)";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = dark ? "screen" : "multiply";
  lay(context, width, height, columns, rows, (i) => colour(values[i]));
  context.globalCompositeOperation = "source-over";
  const [wide, high] = [width / columns, height / rows];
  context.fillStyle = dark ? "#cfe3ff" : "#0c2f6b";
  values.forEach((value, token) => {
    if (value > HELD) return;
    const [x, y] = [(token % columns) * wide, Math.floor(token / columns) * high];
    context.fillRect(x + wide * 0.3, y + high * 0.46, wide * 0.4, Math.max(1, high * 0.09));
  });
  return true;
}
