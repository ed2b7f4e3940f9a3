// What the views are made of: nodes, panels that are pointed at and zoomed together, bars of weights, the density of the
// validation photos. One selection is shared by all of them.

// biome-ignore lint/correctness/noUnusedVariables: the views use it
const parts = (() => {
  const { clamp, decodeBase64, mean, number, percent, signedNumber, tokensWithin, unpack } = lib;
  const { state } = store;
  const LOUPE = 24; // pixels of the picture across
  const HOLD = 350; // ms until a touch opens the loupe
  const ZOOMS = 12; // largest zoom

  // An HTML node. Names with a hyphen are attributes ("aria-pressed", "data-layer"), the others properties.
  function html(tag, properties = {}, children = []) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key.includes("-") || key === "role") node.setAttribute(key, value);
      else node[key] = value;
    }
    node.append(...[children].flat());
    return node;
  }

  function svg(name, attributes = {}, children = []) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...[children].flat());
    return node;
  }

  // A word that explains itself on hover and focus.
  const TERMS = {
    dB: "How close to the photo. 6 dB more is half the error.",
    RAE: "An encoder that understands, and a decoder that paints from its last layer.",
    latent: () => {
      const routes = store.data("routes");
      if (!routes) return "What is kept of the photo: some numbers for each place.";
      const places = words.grouped(routes.rows * routes.columns);
      return `What is kept: ${places} places with ${store.config.channels} numbers each.`;
    },
    tokenizer: "Turns a picture into few numbers, and the numbers back into a picture.",
    token: "One place of the photo, as the encoder sees it: a small square of pixels.",
    route: "One way through the machine: which layers are kept, and which decoder paints.",
    PSNR: "How close to the photo, in decibels. 6 dB more is half the error.",
    SSIM: "How alike the structures are: 1 is the same picture.",
  };
  let shownTerm = null;
  function term(name, text = name) {
    const tip = () => (typeof TERMS[name] === "function" ? TERMS[name]() : TERMS[name]);
    const node = html(
      "span",
      { className: "term", tabIndex: 0, role: "button", "aria-label": `${text}: ${tip()}` },
      text,
    );
    const show = () => {
      hide();
      const box = node.getBoundingClientRect();
      shownTerm = html("div", { className: "drorae tip", textContent: tip(), "aria-hidden": "true" });
      document.body.append(shownTerm);
      const left = clamp(
        box.left + box.width / 2 - shownTerm.offsetWidth / 2,
        8,
        window.innerWidth - shownTerm.offsetWidth - 8,
      );
      const above = box.top - shownTerm.offsetHeight - 8;
      shownTerm.style.left = `${left + window.scrollX}px`;
      shownTerm.style.top = `${(above > 4 ? above : box.bottom + 8) + window.scrollY}px`;
    };
    const hide = () => {
      shownTerm?.remove();
      shownTerm = null;
    };
    for (const kind of ["pointerenter", "focus"]) node.addEventListener(kind, show);
    for (const kind of ["pointerleave", "blur"]) node.addEventListener(kind, hide);
    node.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    return node;
  }

  const dark = () => document.body.classList.contains("dark") || document.documentElement.classList.contains("dark");
  const css = (name) =>
    getComputedStyle(document.querySelector(".drorae") ?? document.body)
      .getPropertyValue(name)
      .trim();
  const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Pictures, decoded once.

  const decoded = new Map();
  function image(source) {
    if (!decoded.has(source)) {
      const picture = new Image();
      const ready = new Promise((resolve, reject) => {
        picture.onload = () => resolve(picture);
        picture.onerror = () => reject(new Error("a picture could not be decoded"));
      });
      picture.src = source;
      decoded.set(source, { picture, ready });
      if (decoded.size > 200) decoded.delete(decoded.keys().next().value);
      ready.then(redraw, () => {});
    }
    const { picture } = decoded.get(source);
    return picture.complete && picture.naturalWidth ? picture : null;
  }

  // The picture of a route of the photo that is shown, or null while it is not there.
  const route = (name, key) => {
    const source = store.data("routes", key)?.pictures[name];
    return source ? image(source) : null;
  };

  function pixels(picture) {
    const canvas = html("canvas", {
      width: picture.naturalWidth ?? picture.width,
      height: picture.naturalHeight ?? picture.height,
    });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  }

  // The frame of a sprite, painted on a context of width x height.
  function paintFrame(context, sprite, index, { columns, width, height }) {
    const [x, y] = [(index % columns) * width, Math.floor(index / columns) * height];
    context.drawImage(sprite, x, y, width, height, 0, 0, context.canvas.width, context.canvas.height);
  }

  // Paint one colour [r, g, b] per cell on a canvas of columns x rows pixels.
  function paintPixels(canvas, columns, rows, colourOf) {
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const all = context.createImageData(columns, rows);
    for (let i = 0; i < columns * rows; i += 1) all.data.set([...colourOf(i), 255], 4 * i);
    context.putImageData(all, 0, 0);
  }

  // Numbers of a photo, unpacked once.
  const unpacked = new WeakMap();
  function numbers(name, key) {
    const routes = store.data("routes", key);
    if (!routes?.[name]) return null;
    if (!unpacked.has(routes)) unpacked.set(routes, {});
    const known = unpacked.get(routes);
    known[name] ??= unpack(routes[name]);
    return known[name];
  }

  // The tokens that are looked at: a rectangle, the one under the pointer, or null for the whole photo.
  const chosen = () => (state.area.length ? state.area : state.token === null ? null : [state.token]);

  // Share of every layer: the mean over tokens, or over the photo.
  function shares(tokens = null, key = state.photo) {
    const routes = store.data("routes", key);
    const all = numbers("shares", key);
    if (!all) return null;
    const { layers } = routes;
    const list = tokens === null ? [...Array(all.length / layers).keys()] : [tokens].flat();
    return Array.from({ length: layers }, (_, k) => mean(list.map((token) => all[token * layers + k])));
  }

  // The principal components of a layer, as colours.
  function components(layer) {
    const routes = store.data("routes");
    if (!routes?.components) return null;
    const colours = new Uint8Array(decodeBase64(routes.components));
    const count = routes.rows * routes.columns;
    const canvas = document.createElement("canvas");
    paintPixels(canvas, routes.columns, routes.rows, (i) =>
      colours.subarray(3 * (layer * count + i), 3 * (layer * count + i + 1)),
    );
    return canvas;
  }

  // Panels: large pictures that are pointed at, pinned and zoomed together.

  const panels = [];
  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      for (const each of panels) each.draw();
      const shown = panels.filter(({ node }) => visible(node));
      if (shown.length && shown.every(({ painted }) => painted)) document.documentElement.dataset.painted = "1";
      for (const call of painters) call();
    });
  }
  const painters = [];
  // Call a function whenever something that is drawn may have changed.
  const whenDrawn = (call) => painters.push(call);

  const visible = (node) => node.offsetParent !== null;
  const shape = () => {
    const routes = store.data("routes");
    return routes ? { width: routes.width, height: routes.height, rows: routes.rows, columns: routes.columns } : null;
  };

  // A panel. `paint(context, width, height)` draws the picture at its own size and says whether it could; `over` draws what
  // lies over its left part, up to `state.split` percent; `loupe` is off for maps of tokens, whose pixels are large anyway.
  // Where it `drags`, a rectangle of tokens can be drawn, by hand or with Shift and arrows.
  function panel({ label, paint, over = null, loupe = true, full = null, points = true, size = shape, drags = false }) {
    const canvas = html("canvas", { className: "px" });
    const upper = over ? html("canvas", { className: "px over" }) : null;
    const mark = html("div", { className: "mark", hidden: true });
    const first = html("div", { className: "mark first", hidden: true, textContent: "A" });
    const pane = html("div", { className: "pane" }, [canvas, ...(upper ? [upper] : []), first, mark]);
    const lens = html("canvas", { className: "lens", hidden: true });
    const message = html("p", { className: "message", hidden: true });
    const node = html("div", { className: "shot", tabIndex: points ? 0 : -1, role: "img", "aria-label": label }, [
      html("div", { className: "clip" }, pane),
      lens,
      message,
    ]);
    if (full) {
      const button = html("button", {
        type: "button",
        className: "corner",
        title: "Full screen (F)",
        "aria-label": "Full screen",
      });
      button.append(
        svg(
          "svg",
          { viewBox: "0 0 16 16", "aria-hidden": "true" },
          svg("path", { d: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4" }),
        ),
      );
      button.addEventListener("click", () => store.set({ full }));
      node.append(button);
    }
    const self = { node, pane, canvas, loupe, points, full, drags, draw, aim, source };

    function draw() {
      const known = size();
      if (!known || !visible(node)) return;
      const { width, height } = known;
      for (const each of upper ? [canvas, upper] : [canvas]) {
        if (each.width !== width) each.width = width;
        if (each.height !== height) each.height = height;
      }
      const done = paint(canvas.getContext("2d"), width, height);
      if (upper && over) over(upper.getContext("2d"), width, height);
      const wide = width / Math.max(width, height);
      const high = height / Math.max(width, height);
      pane.style.setProperty("--wide", wide);
      pane.style.setProperty("--high", high);
      if (upper) upper.style.clipPath = `inset(0 ${100 - state.split}% 0 0)`;
      self.painted = done !== false;
      node.classList.toggle("waits", !self.painted);
      // whole multiples of a picture's pixels are drawn as squares, everything else smoothly
      const scale = (node.clientWidth * wide * state.zoom.scale * (window.devicePixelRatio || 1)) / width;
      const sharp = Math.abs(scale - Math.round(scale)) < 0.01 || state.zoom.scale >= 3;
      for (const each of [canvas, upper]) each?.style.setProperty("image-rendering", sharp ? "pixelated" : "auto");
      aim();
    }

    // The mark and the lens, where everything is pointed at.
    function aim() {
      const known = shape();
      const { zoom, pixel } = state;
      const t = (at) => clamp(0.5 - at * zoom.scale, 1 - zoom.scale, 0) * 100;
      pane.style.transform = zoom.scale === 1 ? "" : `translate(${t(zoom.x)}%, ${t(zoom.y)}%) scale(${zoom.scale})`;
      outline(mark, points ? chosen() : null);
      outline(first, points ? state.against : null);
      lens.hidden = true;
      if (!known) return;
      const { rows, columns, width, height } = known;
      if (!pixel || !loupe || !points || !visible(node)) return;
      lens.hidden = false;
      drawLens(pixel, { rows, columns, width, height });
    }

    function source([x]) {
      return upper && (100 * x) / canvas.width < state.split ? upper : canvas;
    }

    function drawLens([x, y], { rows, columns, width, height }) {
      const ratio = window.devicePixelRatio || 1;
      const side = Math.round(lens.clientWidth * ratio);
      if (!side) return;
      lens.width = side;
      lens.height = side;
      const context = lens.getContext("2d");
      const zoom = side / LOUPE;
      const [left, top] = [x - LOUPE / 2, y - LOUPE / 2];
      context.imageSmoothingEnabled = false;
      context.fillStyle = "#777";
      context.fillRect(0, 0, side, side);
      context.drawImage(source([x, y]), -left * zoom, -top * zoom, width * zoom, height * zoom);
      const [cellX, cellY] = [width / columns, height / rows];
      const at = [Math.floor(x / cellX) * cellX - left, Math.floor(y / cellY) * cellY - top];
      for (const [line, colour] of [
        [3, "rgba(0,0,0,.75)"],
        [1.6, "#fff"],
      ]) {
        context.lineWidth = line * ratio;
        context.strokeStyle = colour;
        context.strokeRect(at[0] * zoom, at[1] * zoom, cellX * zoom, cellY * zoom);
      }
      const [outer, inner] = [node.getBoundingClientRect(), pane.getBoundingClientRect()];
      lens.style.left = `${inner.left - outer.left + (x / width) * inner.width}px`;
      lens.style.top = `${inner.top - outer.top + (y / height) * inner.height - (touching ? 90 : 0)}px`;
    }

    if (points) listen(self);
    panels.push(self);
    return Object.assign(self, {
      // A sentence in place of the picture; none takes it away.
      say(text) {
        message.hidden = !text;
        message.textContent = text ?? "";
      },
    });
  }

  // Put a mark around tokens, in percent of what it lies on; null hides it.
  function outline(mark, tokens) {
    const known = shape();
    mark.hidden = !tokens || !known;
    if (mark.hidden) return;
    const { rows, columns } = known;
    const [down, right] = [tokens.map((each) => Math.floor(each / columns)), tokens.map((each) => each % columns)];
    const [top, left] = [Math.min(...down), Math.min(...right)];
    const [high, wide] = [Math.max(...down) - top + 1, Math.max(...right) - left + 1];
    mark.style.cssText = `left:${(100 * left) / columns}%;top:${(100 * top) / rows}%;width:${(100 * wide) / columns}%;height:${(100 * high) / rows}%`;
  }

  let touching = false;

  // Pixel of the picture under a pointer.
  function pixelUnder(self, event) {
    const known = shape();
    if (!known) return null;
    const box = self.pane.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    return [x * known.width, y * known.height];
  }

  function point(pixel) {
    const none = state.area.length ? { area: [] } : {};
    store.set({ pixel, token: pixel && tokenAt(pixel), ...none });
  }

  function tokenAt([x, y]) {
    const known = shape();
    if (!known) return null;
    const column = Math.floor((x / known.width) * known.columns);
    const row = Math.floor((y / known.height) * known.rows);
    return row * known.columns + column;
  }

  // Look at the tokens of the rectangle with these two at its corners.
  function frame(one, other) {
    const area = tokensWithin(one, other, shape().columns);
    store.set({ area: area.length > 1 ? area : [], token: other, pixel: null, pinned: true });
  }

  // A small map under the same pointer, and under the same keys as the panels; a click stays its own.
  function follow(node, pane) {
    const self = { pane, full: null };
    node.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch" && !state.pinned) point(pixelUnder(self, event));
    });
    node.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch" && !state.pinned) point(null);
    });
    node.addEventListener("keydown", (event) => {
      if (event.key.startsWith("Arrow") || event.key === "Escape") press(self, event);
    });
  }

  function pin() {
    if (state.token !== null) store.set({ pinned: !state.pinned });
  }

  function release() {
    store.set({ pinned: false, pixel: null, token: null, against: null, ...(state.area.length ? { area: [] } : {}) });
  }

  function zoomTo(scale, [x, y]) {
    const next = clamp(scale, 1, ZOOMS);
    store.set({
      zoom: next === 1 ? { scale: 1, x: 0.5, y: 0.5 } : { scale: next, x: clamp(x, 0, 1), y: clamp(y, 0, 1) },
    });
  }

  function listen(self) {
    const { node, pane } = self;
    const fingers = new Map();
    let pressed = null;
    let holding = 0;
    let pinch = null;
    const place = (event) => {
      const box = pane.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    node.addEventListener("pointermove", (event) => {
      if (event.target.closest(".handle")) return;
      if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event);
      if (pinch && fingers.size === 2) {
        const [a, b] = [...fingers.values()];
        const distance = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        zoomTo((pinch.scale * distance) / pinch.distance, pinch.place);
        return;
      }
      if (event.pointerType === "touch") {
        if (touching) {
          event.preventDefault();
          point(pixelUnder(self, event));
        }
        return;
      }
      const held = pressed && event.buttons > 0;
      if (held && self.drags && state.zoom.scale === 1) {
        const [from, to] = [pixelUnder(self, { clientX: pressed.x, clientY: pressed.y }), pixelUnder(self, event)];
        if (from && to && (pressed.moved || tokenAt(from) !== tokenAt(to))) {
          pressed.moved = true;
          frame(tokenAt(from), tokenAt(to));
        }
        return;
      }
      if (held && state.zoom.scale > 1) {
        const box = node.getBoundingClientRect();
        const { zoom } = state;
        const moved = [
          (event.clientX - pressed.x) / box.width / zoom.scale,
          (event.clientY - pressed.y) / box.height / zoom.scale,
        ];
        if (Math.hypot(...moved) > 0.004) {
          pressed.moved = true;
          const low = 0.5 / zoom.scale;
          store.set({
            zoom: {
              scale: zoom.scale,
              x: clamp(pressed.zoom.x - moved[0], low, 1 - low),
              y: clamp(pressed.zoom.y - moved[1], low, 1 - low),
            },
          });
        }
        return;
      }
      if (!state.pinned) point(pixelUnder(self, event));
    });
    node.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch" && !state.pinned) point(null);
    });
    node.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button, .handle")) return;
      pressed = { x: event.clientX, y: event.clientY, zoom: state.zoom, moved: false };
      if (event.pointerType !== "touch") return;
      fingers.set(event.pointerId, event);
      clearTimeout(holding);
      if (fingers.size === 2) {
        const [a, b] = [...fingers.values()];
        const [x, y] = [(a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2];
        pinch = {
          scale: state.zoom.scale,
          distance: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1,
          place: place({ clientX: x, clientY: y }),
        };
        return;
      }
      holding = setTimeout(() => {
        touching = true;
        node.style.touchAction = "none";
        point(pixelUnder(self, event));
      }, HOLD);
    });
    const lift = (event) => {
      clearTimeout(holding);
      fingers.delete(event.pointerId);
      if (fingers.size < 2) pinch = null;
      node.style.touchAction = "";
      if (touching) {
        touching = false;
        store.set({ pixel: null, pinned: state.token !== null });
        pressed = null;
      }
    };
    for (const kind of ["pointerup", "pointercancel"]) node.addEventListener(kind, lift);
    node.addEventListener("touchmove", (event) => touching && event.preventDefault(), { passive: false });
    node.addEventListener("click", (event) => {
      if (event.target.closest("button, .handle") || !pressed || pressed.moved) return;
      const pixel = pixelUnder(self, event);
      if (!pixel) return;
      const mouse = event.pointerType !== "touch";
      if (state.pinned) {
        const before = state.token;
        point(pixel);
        store.set({ pinned: state.token !== before, pixel: mouse ? pixel : null });
        return;
      }
      point(pixel);
      store.set({ pinned: true, pixel: mouse ? pixel : null });
    });
    node.addEventListener("dblclick", (event) => {
      if (event.target.closest("button, .handle")) return;
      event.preventDefault();
      zoomTo(state.zoom.scale > 1 ? 1 : 3, place(event));
    });
    node.addEventListener(
      "wheel",
      (event) => {
        // a page is scrolled by the wheel; with Ctrl (and by a pinch on a touchpad), or once zoomed in, it zooms
        if (!event.ctrlKey && state.zoom.scale === 1) return;
        event.preventDefault();
        zoomTo(
          state.zoom.scale * 1.0015 ** -event.deltaY,
          state.zoom.scale > 1 ? [state.zoom.x, state.zoom.y] : place(event),
        );
      },
      { passive: false },
    );
    node.addEventListener("keydown", (event) => press(self, event));
  }

  // Keys on a panel: arrows move by one token, Enter pins, Escape lets go, + and - zoom, F opens full screen.
  function press(self, event) {
    const known = shape();
    if (!known || event.ctrlKey || event.metaKey || event.altKey) return;
    const { rows, columns, width, height } = known;
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const token = state.token ?? Math.floor(rows / 2) * columns + Math.floor(columns / 2);
    const [row, column] = [Math.floor(token / columns), token % columns];
    const centre = (r, c) => [((c + 0.5) * width) / columns, ((r + 0.5) * height) / rows];
    if (move) {
      const [r, c] =
        state.token === null
          ? [row, column]
          : [clamp(row + move[0], 0, rows - 1), clamp(column + move[1], 0, columns - 1)];
      if (event.shiftKey && self.drags) {
        if (!state.area.length) self.corner = token;
        frame(self.corner, r * columns + c);
      } else point(centre(r, c));
      say(aboutToken(r * columns + c));
    } else if (event.key === "Enter") pin();
    else if (event.key === "Escape") release();
    else if (event.key === "+" || event.key === "-") {
      const [x, y] = centre(row, column);
      zoomTo(state.zoom.scale * (event.key === "+" ? 1.5 : 1 / 1.5), [x / width, y / height]);
    } else if (event.key.toLowerCase() === "f" && self.full) store.set({ full: self.full });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  const rowAndColumn = (token) => {
    const { columns } = shape();
    return [Math.floor(token / columns) + 1, (token % columns) + 1];
  };

  // The tokens that are looked at, in words.
  function place(tokens, row = "row", column = "col") {
    if (tokens.length > 1) return `mean of ${tokens.length} places`;
    const [r, c] = rowAndColumn(tokens[0]);
    return `${row} ${r}, ${column} ${c}`;
  }

  function aboutToken(token) {
    const tokens = state.area.length ? state.area : [token];
    const here = shares(tokens);
    const where = words.capital(place(tokens, "row", "column"));
    if (!here) return `${where}.`;
    const order = [...here.keys()].sort((a, b) => here[b] - here[a]);
    const [most, least] = [order[0], order[order.length - 1]];
    return `${where}: layer ${most + 1} added most, ${signedNumber(here[most], 2)}; layer ${least + 1} least, ${signedNumber(here[least], 2)}.`;
  }

  // Tell it to screen readers once the hand rests: what follows every key would never end.
  let resting = 0;
  function say(text) {
    clearTimeout(resting);
    resting = setTimeout(() => {
      const said = document.getElementById("said");
      if (said) said.textContent = text;
    }, 400);
  }

  // Bars: the weight of every layer, of the photo or of the place that is pointed at, with the photo's mean as a line.
  const ZERO = 33; // percent of the track
  const REACH = 0.72; // share at its right end
  function drawBars(node) {
    const average = shares();
    if (!average) {
      node.replaceChildren();
      return;
    }
    const tokens = chosen();
    const here = tokens ? shares(tokens) : average;
    const line = state.against ? shares(state.against) : average; // what it is compared with
    const scale = (100 - ZERO) / REACH;
    const order = [...average.keys()].sort((a, b) => average[b] - average[a]);
    const most = order
      .slice(0, 2)
      .filter((k) => average[k] > 0)
      .map((k) => k + 1);
    const held = order
      .reverse()
      .filter((k) => average[k] < -0.04)
      .slice(0, 3)
      .map((k) => k + 1);
    const rows = here.map((value, k) => {
      const size = Math.min(Math.abs(value) * scale, value < 0 ? ZERO : 100 - ZERO);
      const bar = html("u", { className: value < 0 ? "neg" : "" });
      bar.style.cssText = `left:${value < 0 ? ZERO - size : ZERO}%;width:${size}%`;
      const tick = html("s", { hidden: !tokens });
      tick.style.left = `${clamp(ZERO + line[k] * scale, 0, 100)}%`;
      return html("div", { className: "row", "data-layer": k }, [
        html("span", { textContent: k + 1 }),
        html("span", { className: "track" }, [bar, tick]),
        html("span", { textContent: signedNumber(value, 2) }),
      ]);
    });
    const where = tokens ? place(tokens) : "whole photo";
    const bold = (text) => html("b", { textContent: text });
    const hint = state.pinned
      ? "Pinned. Esc lets go."
      : matchMedia("(hover: none)").matches
        ? "Tap to pin."
        : "Click to pin.";
    const note =
      tokens === null
        ? [
            "Most added: ",
            bold(words.list(most)),
            ".",
            ...(held.length ? [" Held back: ", bold(held.join(", ")), "."] : []),
          ]
        : [bold("Line:"), ` ${state.against ? `A, ${place(state.against)}` : "the photo's mean"}. ${hint}`];
    const title = tokens === null ? "Weights" : "Weights here";
    const text = here.map((value, k) => `layer ${k + 1} ${signedNumber(value, 2)}`).join(", ");
    node.replaceChildren(
      html("div", { className: "cap" }, [
        html("span", { textContent: tokens ? "Here" : title }),
        html("span", { className: "score", textContent: where }),
      ]),
      html("div", { className: "bars num", role: "img", "aria-label": `${title}: ${text}` }, rows),
      html("div", { className: "key" }, [
        html("span", { textContent: "\u25c2 held back" }),
        html("span", { textContent: "added \u25b8" }),
      ]),
      html("p", { className: "say" }, note),
    );
    for (const row of node.querySelectorAll(".row")) {
      const layer = Number(row.dataset.layer);
      row.toggleAttribute("data-hot", state.hot === layer);
      row.addEventListener("pointerenter", () => store.set({ hot: layer }));
      row.addEventListener("pointerleave", () => store.set({ hot: null }));
    }
  }

  // The same as twelve upright bars, for narrow screens. Screen readers have the others.
  function drawUpright(node) {
    const tokens = chosen();
    const here = shares(tokens);
    if (!here) {
      node.replaceChildren();
      return;
    }
    const [zero, scale] = [62, 62 / REACH];
    const where = tokens ? place(tokens, "row", "column") : "whole photo";
    const bars = here.map((value, k) => {
      const size = Math.min(Math.abs(value) * scale, value < 0 ? 100 - zero - 20 : zero);
      const bar = html("u", { className: value < 0 ? "neg" : "" });
      bar.style.cssText = `top:${value < 0 ? zero : zero - size}%;height:${size}%`;
      return html("div", {}, [bar, html("span", { textContent: k + 1 })]);
    });
    node.replaceChildren(
      html("div", { className: "cap" }, [
        "How each layer is used",
        html("span", { className: "score", textContent: where }),
      ]),
      html("div", { className: "vbars num" }, bars),
    );
  }

  // The gain of the photo that is shown, dB; null where there is no fusion.
  function gain(key) {
    const metrics = store.data("routes", key)?.metrics;
    const last = metrics?.drorae ?? metrics?.phase2;
    return last && metrics.rae.psnr !== null && last.psnr !== null ? last.psnr - metrics.rae.psnr : null;
  }

  // How sure: this photo among the validation photos.
  function drawStanding(node) {
    const value = gain();
    if (value === null) {
      node.replaceChildren();
      return;
    }
    const [strong, rest] = words.certainty(value);
    const text = html("span", { className: "txt" }, [html("b", { textContent: strong }), rest]);
    const standing = store.data("standing");
    if (!standing?.photos) {
      node.replaceChildren(text);
      return;
    }
    const size = standing.size;
    const tip = `Every photo the model never saw, by what it gained; the thick line is this one. Measured at ${size} \u00d7 ${size} pixels.`;
    const rank = html("span", { className: "term", tabIndex: 0, title: tip, textContent: words.rank(standing) });
    text.append(" ", rank);
    const { from, to, counts } = standing.density;
    const top = Math.max(...counts);
    const x = (at) => (100 * (at - from)) / (to - from);
    const steps = counts.map((count, i) => `${(100 * (i + 0.5)) / counts.length},${20 - (17 * count) / top}`).join(" ");
    const plot = svg("svg", { viewBox: "0 0 100 22", preserveAspectRatio: "none", "aria-hidden": "true" }, [
      svg("polygon", { points: `0,20 ${steps} 100,20`, class: "hill" }),
      svg("line", {
        x1: clamp(x(standing.gain), 0, 100),
        x2: clamp(x(standing.gain), 0, 100),
        y1: 0,
        y2: 22,
        class: "this",
        "vector-effect": "non-scaling-stroke",
      }),
    ]);
    node.replaceChildren(
      text,
      html("small", { textContent: signedNumber(from, 0) || "0" }),
      plot,
      html("small", { textContent: signedNumber(to, 0) }),
    );
  }

  // A group of buttons of which one is pressed.
  function segments(node, current, choose) {
    for (const button of node.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", button.value === String(current));
      button.onclick = () => choose(button.value);
    }
  }

  // How to look at what came back: views of Picture, and the two beside it.
  const WAYS = {
    pictures: "Pictures",
    helped: "Where it helped",
    frequency: "By size of detail",
    tokenizers: "Other tokenizers",
  };
  function ways(node) {
    if (!node.childElementCount)
      node.append(
        ...Object.entries(WAYS).map(([value, textContent]) => html("button", { type: "button", value, textContent })),
      );
    segments(node, state.view === "picture" ? (state.helped ? "helped" : "pictures") : state.view, (value) => {
      if (value in { frequency: 1, tokenizers: 1 }) {
        store.go(value);
        return;
      }
      store.go("picture");
      store.set({ helped: value === "helped" });
      requestAnimationFrame(() => {
        const target = document.querySelector(`.picture [data-part="${value === "helped" ? "helped" : "root"}"]`);
        (target ?? document.querySelector(".picture"))?.scrollIntoView({
          behavior: calm() ? "auto" : "smooth",
          block: "start",
        });
      });
    });
  }

  // Size of the detail of a band, in pixels per wave.
  function bandName(edges, band) {
    const size = (edge) => number(1 / edge, 1 / edge < 10 && (1 / edge) % 1 ? 1 : 0);
    if (band === 0) return `over ${size(edges[1])}`;
    if (band === edges.length - 2) return `under ${size(edges[band])}`; // with the corners of the spectrum
    return `${size(edges[band + 1])}\u2013${size(edges[band])}`;
  }

  // What came back in every band: the share of the last layer's error that is gone with a route; null where it had none.
  function recovered({ energies }, name) {
    return energies.rae.map((lost, band) => (lost > 0.01 && energies[name] ? 1 - energies[name][band] / lost : null));
  }

  const lastRoute = (routes) => ["drorae", "phase2"].find((name) => routes.pictures[name]) ?? null;

  function drawBands(node, routes) {
    const name = lastRoute(routes);
    if (!name || !routes.edges) return;
    const [now, before] = [recovered(routes, name), name === "drorae" ? recovered(routes, "phase2") : []];
    node.replaceChildren(
      ...now.flatMap((value, band) => {
        const well = html("span", { className: "well" });
        if (value !== null) {
          const bar = html("i", { className: value < 0 ? "neg" : "" });
          bar.style.width = `${100 * clamp(Math.abs(value), 0, 1)}%`;
          well.append(bar);
        }
        if ((before[band] ?? null) !== null) {
          const line = html("s");
          line.style.left = `${100 * clamp(before[band], 0, 1)}%`;
          well.append(line);
        }
        return [
          html("span", { className: "name", textContent: bandName(routes.edges, band) }),
          well,
          html("span", { textContent: value === null ? "" : percent(value) }),
        ];
      }),
    );
  }

  function save(name, blob) {
    const href = URL.createObjectURL(blob);
    html("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000); // a busy browser reads it later
  }

  store.on(
    ["photo", "data", "decoder", "split", "layer", "off", "beta", "region", "helped", "view", "config", "second"],
    redraw,
  );
  store.on(["token", "pixel", "zoom", "pinned", "area", "against"], () => {
    for (const each of panels) if (visible(each.node)) each.aim();
  });
  store.on(["zoom"], redraw);
  window.addEventListener("resize", redraw);

  return {
    TERMS,
    bandName,
    calm,
    chosen,
    components,
    css,
    dark,
    drawBands,
    drawBars,
    drawStanding,
    drawUpright,
    follow,
    gain,
    html,
    image,
    lastRoute,
    numbers,
    outline,
    paintFrame,
    paintPixels,
    panel,
    panels,
    pin,
    pixels,
    place,
    point,
    press,
    recovered,
    redraw,
    release,
    route,
    rowAndColumn,
    save,
    say,
    segments,
    shape,
    shares,
    svg,
    term,
    visible,
    ways,
    whenDrawn,
  };
})();
