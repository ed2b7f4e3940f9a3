// One selection for all panels: pointing, pinning, zooming, by mouse, touch and keys.

(() => {
  const { aboutToken, say, shape } = parts;
  const { clamp, tokensWithin } = lib;
  const { state } = store;
  const HOLD = 350; // ms until a touch opens the loupe
  const ZOOMS = 12; // largest zoom

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
  const isTouched = () => touching;

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

  Object.assign(parts, { follow, isTouched, listen, outline, pin, point, press, release });
})();
