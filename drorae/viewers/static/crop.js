// The crop: which square of the photo the encoder is shown, moved by pointer or keys.

// biome-ignore lint/correctness/noUnusedVariables: it listens to the store
const crop = (() => {
  const { html } = parts;
  const { clamp } = lib;

  function open(key) {
    const about = store.photo(key);
    const routes = store.data("routes", key);
    if (!about || !routes?.notes) return;
    const { width, height } = routes.notes;
    const side = Math.min(width, height);
    const range = [side / 2 / width, side / 2 / height];
    let centre = about.centre ?? [0.5, 0.5];
    const picture = html("img", { alt: "The whole photo", src: about.source ?? about.thumbnail, draggable: false });
    const square = html("div", {
      className: "square",
      tabIndex: 0,
      role: "application",
      "aria-label": "The crop. Arrow keys move it.",
    });
    const frame = html("div", { className: "whole" }, [picture, square]);
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.width = `min(100%, ${(62 * width) / height}vh)`;
    const problem = html("p", { className: "error", role: "alert" });
    const place = () => {
      centre = centre.map((at, axis) => clamp(at, range[axis], 1 - range[axis]));
      square.style.width = `${(100 * side) / width}%`;
      square.style.height = `${(100 * side) / height}%`;
      square.style.left = `${100 * (centre[0] - range[0])}%`;
      square.style.top = `${100 * (centre[1] - range[1])}%`;
    };
    place();
    const toPointer = (event) => {
      const box = frame.getBoundingClientRect();
      centre = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      place();
    };
    let held = false;
    frame.addEventListener("pointerdown", (event) => {
      held = true;
      frame.setPointerCapture(event.pointerId);
      toPointer(event);
    });
    frame.addEventListener("pointermove", (event) => {
      if (held) toPointer(event);
    });
    for (const kind of ["pointerup", "pointercancel"])
      frame.addEventListener(kind, () => {
        held = false;
      });
    square.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      const step = event.shiftKey ? 0.1 : 0.02;
      centre = centre.map((at, axis) => at + move[axis] * step);
      place();
    });
    picture.addEventListener("error", () => {
      problem.textContent = "This browser cannot show the file, so you see only the outline of the crop.";
    });
    const close = () => dialog.close();
    const dialog = html("dialog", { className: "drorae cropper", "aria-label": "Move the crop" }, [
      html("h2", { textContent: "Move the crop" }),
      html("p", { className: "soft", textContent: "The encoder is shown this square of the photo." }),
      frame,
      problem,
      html("div", { className: "line" }, [
        html("button", { type: "button", className: "btn", textContent: "Cancel", onclick: close }),
        html("button", {
          type: "button",
          className: "btn main",
          textContent: "Use this square",
          onclick: () => {
            close();
            store.crop(key, { centre, whole: false });
          },
        }),
      ]),
    ]);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    square.focus();
  }

  store.on(["cropping"], ({ cropping }) => {
    if (!cropping) return;
    store.set({ cropping: null });
    open(cropping);
  });
  return { open };
})();
