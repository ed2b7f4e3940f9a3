// Layers: what becomes of the photo without a layer, with one alone, at another strength; everywhere, or where it is painted.

const { html, panel, svg, term } = parts;
const { clamp, number, signedNumber, tokensBetween, writeNumbers } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const WORTH = { top: 6.7, bottom: -1.5 }; // dB at the ends of a layer's bar, at least: the same for every photo
const CURVE = { top: 2, bottom: -12 }; // dB against the photo as trained, at the ends of the curve
const PAUSE = 200; // ms without a change until the server is asked
const KEPT = 12; // answers of the server for each photo
const BRUSHES = { 1: "Small", 3: "Medium", 7: "Large" }; // tokens across

// What is chosen, and what is known of it.

const best = (routes) => ["drorae", "phase2", "rae"].find((name) => routes.pictures[name]);
const trainedStrength = () => store.data("frames")?.beta ?? store.data("routes")?.beta ?? null;
const same = (one, other) => Math.abs(one - other) < 1e-6;
const asTrained = () => state.beta === null || same(state.beta, trainedStrength());
const strength = () => (asTrained() ? trainedStrength() : state.beta);
const wish = () => `${state.off}|${asTrained() ? "" : state.beta}|${writeNumbers(state.region)}`;
const SUBTITLE = find("subtitle").textContent;
const AS_TRAINED = { off: [], beta: null, region: [] };

// The frames painted so far, with a sprite that is decoded: the one before is good until the next is.
let latest = null;
function latestFrames() {
  const [routes, frames] = [store.data("routes"), store.data("frames")];
  if (!frames?.betas) return null;
  const sprite = frames.sprite ? parts.image(frames.sprite) : null;
  if (sprite || latest?.routes !== routes) latest = { routes, frames, sprite };
  return latest;
}

// Where the frame of what is chosen is, or will be, among those of the photo; null if it has to be asked for.
function place({ betas, layers }) {
  const { off, region } = state;
  if (region.length) return null;
  if (!off.length) {
    const index = betas ? betas.findIndex((beta) => same(beta, strength())) : 0;
    return index < 0 ? null : ["strengths", index];
  }
  if (!asTrained()) return null;
  if (off.length === 1) return ["removed", off[0]];
  if (off.length === layers - 1) return ["alone", [...Array(layers).keys()].find((layer) => !off.includes(layer))];
  return null;
}

const answers = new WeakMap(); // of the server: routes of a photo to its frames by wish
function answersTo(routes) {
  if (!answers.has(routes)) answers.set(routes, new Map());
  const all = answers.get(routes);
  const value = store.data("intervene");
  if (value && !all.has(value.id)) {
    all.set(value.id, value);
    if (all.size > KEPT) all.delete(all.keys().next().value);
  }
  return all;
}

// What is chosen: its `frame` of numbers, and how to `paint` it; or `waits`, and for whom.
function choice() {
  const routes = store.data("routes");
  if (!routes) return { waits: "routes" };
  const all = latestFrames();
  const trained = all?.frames.strengths[all.frames.betas.findIndex((beta) => same(beta, all.frames.beta))];
  if (asTrained() && !state.off.length) {
    const picture = parts.route(best(routes));
    const frame = { ...trained, ...routes.metrics[best(routes)] };
    return picture ? { frame, usual: true, paint: (context, w, h) => context.drawImage(picture, 0, 0, w, h) } : {};
  }
  const at = place({ betas: store.data("frames")?.betas, layers: routes.layers });
  if (at) {
    const frame = all?.sprite ? all.frames[at[0]][at[1]] : null;
    const usual = parts.route(best(routes));
    if (!frame || !usual) return { waits: "frames" };
    return { frame, paint: (context) => parts.paintFrame(context, all.sprite, frame.index, all.frames, usual) };
  }
  const frame = answersTo(routes).get(wish());
  if (!frame) return { waits: "intervene" };
  const picture = parts.image(frame.picture);
  return picture ? { frame, paint: (context, w, h) => context.drawImage(picture, 0, 0, w, h) } : {};
}

// Ask the server once nothing has changed for a while; an answer that came too late is kept, and the next one asked for.
let timer = 0;
let scheduled = null;
let asked = null;
function ask() {
  const id = `${store.mark()} ${wish()}`;
  if (scheduled === id || store.waits("intervene") || asked === id) return;
  scheduled = id;
  clearTimeout(timer);
  timer = setTimeout(() => {
    scheduled = null;
    if (id !== `${store.mark()} ${wish()}` || stroke !== null || store.waits("intervene")) return;
    asked = id;
    const { layers } = store.data("routes");
    const kept = [...Array(layers).keys()].filter((layer) => !state.off.includes(layer)).map((layer) => layer + 1);
    store.need("intervene", {
      id: wish(),
      layers: state.off.length ? kept : null,
      beta: strength(),
      tokens: state.region.length ? state.region : null,
    });
  }, PAUSE);
}
