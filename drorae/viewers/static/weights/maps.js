// Small maps, and the keys that step through them.

// A map under the shared pointer; a click chooses it.
function mapButton(choose) {
  const canvas = html("canvas", { "aria-hidden": "true" });
  const [first, mark] = [
    html("div", { className: "mark", hidden: true }),
    html("div", { className: "mark", hidden: true }),
  ];
  const pane = html("div", { className: "pane" }, [canvas, first, mark]);
  const line = html("div", { className: "line num" });
  const node = html("button", { type: "button", className: "map", onclick: choose }, [
    html("div", { className: "face" }, pane),
    line,
  ]);
  parts.follow(node, pane);
  node.addEventListener("keydown", stepKeys);
  return {
    node,
    label(name, value, title) {
      line.replaceChildren(bold(name), soft(value));
      node.setAttribute("aria-label", title);
    },
    paint(columns, rows, colourOf) {
      pane.style.setProperty("--wide", columns / Math.max(columns, rows));
      pane.style.setProperty("--high", rows / Math.max(columns, rows));
      parts.paintPixels(canvas, columns, rows, colourOf);
    },
    aim(tokens) {
      parts.outline(mark, tokens);
    },
  };
}

// Keys of the maps and of the large one: [ and ] step through the layers.
function stepKeys(event) {
  const step = { "[": -1, "]": 1 }[event.key]; // many keyboards need AltGr or Option for them
  if (!step || !routes()) return;
  event.preventDefault();
  const names = state.like === null ? [...Array(routes().layers).keys()].map(String) : mapNames();
  const at = state.like === null ? state.layer : names.indexOf(state.like);
  const next = (at + step + names.length) % names.length;
  if (state.like === null) store.set({ layer: next });
  else chooseLike(names[next]);
  parts.say(find("headline").textContent);
}

// As many maps as are asked for, made once.
const made = [];
function mapsOf(number) {
  while (made.length < number) {
    const at = made.length;
    made.push(mapButton(() => (state.like === null ? store.set({ layer: at }) : chooseLike(mapNames()[at]))));
  }
  return made.slice(0, number);
}
