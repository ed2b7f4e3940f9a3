// How sure the gain is: this photo among the validation photos.

(() => {
  const { gain, html, svg } = parts;
  const { clamp, signedNumber } = lib;

  // `name` is the route that is shown. Others were measured with the one that was trained last.
  function drawStanding(node, name) {
    const value = gain(undefined, name);
    const standing = name === parts.lastRoute(store.data("routes")) ? store.data("standing") : null;
    const drawn = [store.state.photo, value, standing?.below, standing?.photos].join(" ");
    if (node.dataset.drawn === drawn) return; // or who has the focus in it would lose it
    node.dataset.drawn = drawn;
    if (value === null) {
      node.replaceChildren();
      return;
    }
    const [strong, rest] = words.certainty(value, name === "drorae" ? gain(undefined, "phase2") : null);
    const text = html("span", { className: "txt" }, [html("b", { textContent: strong }), rest]);
    if (!standing?.photos) {
      node.replaceChildren(text);
      return;
    }
    const size = `${standing.size} \u00d7 ${standing.size} pixels`;
    const { width, height } = parts.shape();
    const at = width === height ? `Measured at ${size}.` : `They are squares of ${size}; this one has about as many.`;
    const tip = `Every photo the model never saw, by what it gained; the thick line is this one. ${at}`;
    text.append(
      " ",
      parts.explainable(words.rank(standing), () => tip),
    );
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

  Object.assign(parts, { drawStanding });
})();
