// What the viewers do alike with their part of the page. A viewer's script is one function body, which begins with
// lib.js and this file; `element`, `props`, `watch` and `trigger` come from Gradio.

// biome-ignore lint/correctness/noUnusedVariables: the script after it uses it
const shared = (() => {
  const { clamp, divergingColour } = lib;

  const find = (name) => element.querySelector(`[data-part="${name}"]`);

  const setAttributes = (node, attributes) => {
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  // An HTML node. Names with a hyphen are attributes ("aria-pressed", "data-layer"), the others properties.
  function htmlNode(tag, properties = {}, children = []) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key.includes("-")) node.setAttribute(key, value);
      else node[key] = value;
    }
    node.append(...children);
    return node;
  }

  function svgNode(name, attributes, text) {
    const node = setAttributes(document.createElementNS("http://www.w3.org/2000/svg", name), attributes);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function loadPicture(source) {
    return new Promise((resolve, reject) => {
      const picture = new Image();
      picture.onload = () => resolve(picture);
      picture.onerror = () => reject(new Error("a picture could not be decoded"));
      picture.src = source;
    });
  }

  // Paint one colour [r, g, b] per token on a canvas of columns x rows pixels.
  function paintPixels(canvas, columns, rows, colourOf) {
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    for (let i = 0; i < columns * rows; i += 1) pixels.data.set([...colourOf(i), 255], 4 * i);
    context.putImageData(pixels, 0, 0);
  }

  // Paint values (row-major, already divided by their limit).
  function paintMap(canvas, values, columns, rows, scale) {
    paintPixels(canvas, columns, rows, (i) => divergingColour(scale, values[i]));
  }

  // Pictures and maps of this viewer are so many pixels or tokens wide and high.
  function setShape(width, height) {
    element.style.setProperty("--shape", `${width} / ${height}`);
  }

  // Outline a set of tokens of a grid, cells of `cell` pixels: the edges that have one of them on one side only.
  function outlineTokens(context, tokens, { rows, columns }, cell, strokes) {
    const inside = new Set(tokens);
    context.beginPath();
    for (const token of inside) {
      const [row, column] = [Math.floor(token / columns), token % columns];
      const edges = [
        [row > 0 && inside.has(token - columns), column, row, column + 1, row],
        [row < rows - 1 && inside.has(token + columns), column, row + 1, column + 1, row + 1],
        [column > 0 && inside.has(token - 1), column, row, column, row + 1],
        [column < columns - 1 && inside.has(token + 1), column + 1, row, column + 1, row + 1],
      ];
      for (const [inner, x1, y1, x2, y2] of edges) {
        if (inner) continue;
        context.moveTo(x1 * cell, y1 * cell);
        context.lineTo(x2 * cell, y2 * cell);
      }
    }
    context.lineCap = "square";
    for (const [width, colour] of strokes) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }

  // Column and row of a grid under a pointer.
  function cellUnder(node, event, { rows, columns }) {
    const box = node.getBoundingClientRect();
    const at = (offset, length, count) => clamp(Math.floor((offset / length) * count), 0, count - 1);
    return [at(event.clientX - box.left, box.width, columns), at(event.clientY - box.top, box.height, rows)];
  }

  function tokenUnder(node, event, grid) {
    const [column, row] = cellUnder(node, event, grid);
    return row * grid.columns + column;
  }

  // Tell it to screen readers once the hand rests: what follows every key or every value would never end.
  let waiting = 0;
  function say(text) {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      find("said").textContent = text;
    }, 500);
  }

  // What was to be said is not said.
  const hush = () => clearTimeout(waiting);

  // Put nodes in the place of others. A button that had the focus leaves it to the one of its name, by default its
  // number.
  function replace(place, nodes, name = (_, i) => i) {
    const buttons = () => [...place.querySelectorAll('button, [role="button"]')];
    const at = buttons().indexOf(document.activeElement);
    const focused = at < 0 ? null : name(document.activeElement, at);
    place.replaceChildren(...nodes);
    if (at >= 0)
      buttons()
        .find((node, i) => name(node, i) === focused)
        ?.focus({ preventScroll: true });
  }

  // A link brings back a view: the example it is about, and what was chosen there. report.js writes one.
  const link = new URLSearchParams(window.location.search);
  let restored = false;

  // True once, for the picture that the link is about.
  function comesFromLink(value) {
    if (restored || (link.get("example") ?? value.example) !== value.example) return false;
    restored = true;
    return true;
  }

  return {
    cellUnder,
    comesFromLink,
    find,
    htmlNode,
    hush,
    link,
    loadPicture,
    outlineTokens,
    paintMap,
    paintPixels,
    replace,
    say,
    setAttributes,
    setShape,
    svgNode,
    tokenUnder,
  };
})();
