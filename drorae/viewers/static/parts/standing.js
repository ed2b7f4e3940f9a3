// How sure the gain is: this photo among the validation photos.

(() => {
  const { gain, html, svg } = parts;
  const { clamp, signedNumber } = lib;

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
    const size = `${standing.size} \u00d7 ${standing.size} pixels`;
    const { width, height } = parts.shape();
    const at = width === height ? `Measured at ${size}.` : `They are squares of ${size}; this one has about as many.`;
    const tip = `Every photo the model never saw, by what it gained; the thick line is this one. ${at}`;
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

  Object.assign(parts, { drawStanding });
})();
