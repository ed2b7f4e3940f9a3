// Eight pictures in a row, with what stands under each, and a player to and fro.

function stripOf(pictures, captions, alt) {
  const nodes = pictures.map((source, i) =>
    html("figure", {}, [
      html("img", { src: source, alt: `${alt}, ${i + 1} of ${pictures.length}` }),
      html("figcaption", { textContent: captions[i] ?? "" }),
    ]),
  );
  return html("div", { className: "walk" }, nodes);
}
function player(strips) {
  const button = html("button", { type: "button", className: "btn small", textContent: "Play" });
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
    for (const strip of strips()) {
      strip.classList.remove("plays");
      for (const figure of strip.children) figure.removeAttribute("data-now");
    }
  };
  button.addEventListener("click", () => {
    if (timer) {
      stop();
      return;
    }
    button.textContent = "Pause";
    let at = 0;
    const turn = () => {
      if (!parts.visible(button)) {
        stop();
        return;
      }
      for (const strip of strips()) {
        strip.classList.add("plays");
        const last = strip.children.length - 1;
        const now = last - Math.abs(last - (at % (2 * last)));
        [...strip.children].forEach((figure, i) => {
          figure.toggleAttribute("data-now", i === now);
        });
      }
      at += 1;
    };
    turn();
    timer = setInterval(turn, 420);
  });
  return { button, stop };
}
