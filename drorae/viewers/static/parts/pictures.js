// Pictures, decoded once, and canvases painted from them and from numbers.

(() => {
  const { html, redraw } = parts;

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

  function pixels(picture) {
    const canvas = html("canvas", {
      width: picture.naturalWidth ?? picture.width,
      height: picture.naturalHeight ?? picture.height,
    });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  }

  // The frame of a sprite, painted on a context of width x height. Where it `differs`, the sprite holds what is to be
  // added to the `usual` picture, modulo 256 and moved by MIDDLE.
  const MIDDLE = 128;
  const usualPixels = new WeakMap();
  const sheet = html("canvas");
  function paintFrame(context, sprite, index, { columns, width, height, differs }, usual) {
    const [x, y] = [(index % columns) * width, Math.floor(index / columns) * height];
    if (!differs) {
      context.drawImage(sprite, x, y, width, height, 0, 0, context.canvas.width, context.canvas.height);
      return;
    }
    [sheet.width, sheet.height] = [width, height];
    const own = sheet.getContext("2d", { willReadFrequently: true });
    own.drawImage(sprite, x, y, width, height, 0, 0, width, height);
    const frame = own.getImageData(0, 0, width, height);
    if (!usualPixels.has(usual)) usualPixels.set(usual, pixels(usual));
    const base = usualPixels.get(usual);
    for (let i = 0; i < frame.data.length; i += 1)
      if (i % 4 < 3) frame.data[i] = (frame.data[i] + base[i] - MIDDLE) & 255;
    own.putImageData(frame, 0, 0);
    context.drawImage(sheet, 0, 0, context.canvas.width, context.canvas.height);
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

  Object.assign(parts, { image, paintFrame, paintPixels, pixels });
})();
