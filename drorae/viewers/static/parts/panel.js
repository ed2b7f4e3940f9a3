// Panels: large pictures that are pointed at, pinned and zoomed together.

(() => {
  const { selection, html, isTouched, listen, outline, panels, redraw, shape, svg, visible } = parts;
  const { clamp } = lib;
  const { state } = store;
  const LOUPE = 24; // pixels of the picture across

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
    const node = html("div", { className: "shot", tabIndex: points ? 0 : -1, role: "group", "aria-label": label }, [
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
      if (!known) {
        self.painted = false;
        node.classList.toggle("waits", store.photo() !== null); // what it shows is of another photo
      }
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
      outline(mark, points ? selection() : null);
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
      lens.style.top = `${inner.top - outer.top + (y / height) * inner.height - (isTouched() ? 90 : 0)}px`;
    }

    if (points) listen(self);
    panels.push(self);
    new ResizeObserver(redraw).observe(node); // it may come, or be shown, after all that it shows is known
    return Object.assign(self, {
      // A sentence in place of the picture; none takes it away.
      say(text) {
        message.hidden = !text;
        message.textContent = text ?? "";
      },
    });
  }

  Object.assign(parts, { panel });
})();
