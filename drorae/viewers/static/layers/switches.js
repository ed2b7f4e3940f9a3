// Switches: one for every layer.

let hint = "";
let channels = [];
function build(layers) {
  if (channels.length === layers) return;
  channels = Array.from({ length: layers }, (_, k) => {
    const range = html("span", { className: "range", hidden: true });
    const bar = html("span", { className: "bar" });
    const worth = html("em");
    const toggle = html("button", { type: "button", className: "toggle" }, [
      html("strong", { textContent: k + 1 }),
      html("span", { className: "well" }, [range, bar]),
      worth,
      html("span", { className: "switch" }),
    ]);
    const only = html("button", {
      type: "button",
      className: "only",
      textContent: "only",
      "aria-label": `Only layer ${k + 1}`,
    });
    const node = html("div", { className: "chan", "data-layer": k }, [toggle, only]);
    toggle.addEventListener("click", (event) => (event.shiftKey ? alone(k) : store.toggle(k)));
    only.addEventListener("click", () => alone(k));
    node.addEventListener("pointerenter", () => store.set({ hot: k }));
    node.addEventListener("pointerleave", () => store.set({ hot: null }));
    return { node, range, bar, worth, toggle, only };
  });
  find("channels").replaceChildren(...channels.map(({ node }) => node));
}

const others = (layer) => [...Array(channels.length).keys()].filter((each) => each !== layer);
const isAlone = (layer) => state.off.length === channels.length - 1 && !state.off.includes(layer);

store.toggle = (layer) => {
  const off = state.off.includes(layer) ? state.off.filter((each) => each !== layer) : [...state.off, layer];
  if (off.length >= channels.length) {
    hint = "Keep at least one layer. Strength 0 shows the last one alone.";
    draw();
    parts.say(hint);
    return;
  }
  store.set({ off: off.sort((a, b) => a - b) });
};
const alone = (layer) => store.set({ off: isAlone(layer) ? [] : others(layer) });

// Quantiles of what a layer is worth over the validation photos, dB: what its removal takes away.
function rangeOf(layer) {
  const change = store.config.usage?.removed?.[layer]?.change;
  return change ? [-change.q90, -change.q10] : null;
}

function drawChannels({ layers, psnr }) {
  build(layers);
  const removed = latestFrames()?.frames.removed ?? [];
  const ranges = channels.map((_, k) => rangeOf(k));
  const top = Math.max(WORTH.top, ...ranges.map((range) => range?.[1] ?? 0));
  const bottom = Math.min(WORTH.bottom, ...ranges.map((range) => range?.[0] ?? 0));
  const y = (value) => (100 * (top - clamp(value, bottom, top))) / (top - bottom);
  find("channels").style.setProperty("--zero", `${y(0)}%`);
  channels.forEach(({ node, range, bar, worth, toggle, only }, k) => {
    const frame = removed[k];
    const value = frame && frame.psnr !== null && psnr !== null ? psnr - frame.psnr : null;
    bar.hidden = value === null;
    if (value !== null) {
      bar.className = value < 0 ? "bar harms" : "bar";
      bar.style.top = `${y(Math.max(value, 0))}%`;
      bar.style.height = `${Math.max(1.5, Math.abs(y(value) - y(0)))}%`;
    }
    range.hidden = !ranges[k];
    if (ranges[k]) {
      range.style.top = `${y(ranges[k][1])}%`;
      range.style.height = `${Math.max(2, y(ranges[k][0]) - y(ranges[k][1]))}%`;
    }
    worth.textContent = value === null ? "\u00a0" : signedNumber(value, 1);
    toggle.setAttribute("aria-pressed", !state.off.includes(k));
    const means = value === null ? "" : `, worth ${signedNumber(value, 1)} dB here`;
    toggle.setAttribute("aria-label", `Layer ${k + 1}${means}`);
    only.setAttribute("aria-pressed", isAlone(k));
    node.toggleAttribute("data-hot", state.hot === k);
  });
}
