// Bars: the weight of every layer.

(() => {
  const { selection, html, place, shares } = parts;
  const { clamp, signedNumber } = lib;
  const { state } = store;

  // Of the photo or of the place that is pointed at, with the photo's mean as a line.
  const ZERO = 33; // percent of the track
  const REACH = 0.72; // share at its right end
  function drawBars(node) {
    const average = shares();
    if (!average) {
      node.replaceChildren();
      return;
    }
    const tokens = selection();
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
    const tokens = selection();
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

  Object.assign(parts, { drawBars, drawUpright });
})();
