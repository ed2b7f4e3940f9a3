// Seeds in columns, guidance scales in rows.

const SCALES = "1, 1.5, 2, 3";

function buildGrid() {
  const ask = { scales: SCALES, seeds: 4 };
  const self = part(
    "Seeds against guidance",
    "Every column is one seed, every row one guidance scale. Guidance makes pictures clearer and more alike; 1 is none. Press a picture to see it large.",
    [
      field(
        "Scales",
        textInput(ask.scales, (value) => {
          ask.scales = value;
        }),
      ),
      field(
        "Seeds",
        numberInput(ask.seeds, 1, 8, 1, (value) => {
          ask.seeds = value;
        }),
        "",
        "narrow",
      ),
    ],
    () => {
      if (!hasText()) return;
      const scales = ask.scales
        .split(/[,;\s]+/)
        .filter(Boolean)
        .map(Number);
      const seeds = seedsFrom(settings().seed, Math.min(Math.max(ask.seeds ?? 0, 0), 9));
      const cells = [];
      const now = sampler();
      drawTable(scales, seeds, cells);
      self.begin({ what: "grid", ...now, subject: subject(), seeds, scales }, (value) => {
        if (!value.pictures?.length) return;
        cells.splice(0, cells.length, ...value.pictures);
        drawTable(scales, seeds, cells);
        if (!value.running) self.tell(`${text()}: ${scales.length} scales, ${seeds.length} seeds.`);
      });
    },
    "Make the grid",
  );
  function drawTable(scales, seeds, cells) {
    const head = html("tr", {}, [
      html("th", { scope: "col", textContent: "scale" }),
      ...seeds.map((seed) => html("th", { scope: "col", textContent: `seed ${seed}` })),
    ]);
    const body = scales.map((scale, r) =>
      html("tr", {}, [
        html("th", { scope: "row", textContent: String(scale) }),
        ...seeds.map((seed, c) => {
          const source = cells[r * seeds.length + c];
          if (!source) return html("td");
          const button = html("button", { type: "button", title: "See it large" });
          button.append(html("img", { src: source, alt: `seed ${seed} at scale ${scale}` }));
          button.addEventListener("click", () => {
            if (view.run) return;
            settings().scale = scale;
            settings().seed = seed;
            view.pick = "first";
            view.focus = 0;
            fillSettings();
            window.scrollTo({ top: 0, behavior: parts.calm() ? "auto" : "smooth" });
            make([seed]);
          });
          return html("td", {}, button);
        }),
      ]),
    );
    self.result.replaceChildren(
      html(
        "div",
        { className: "scroll" },
        html("table", { className: "seeds num" }, [html("thead", {}, head), html("tbody", {}, body)]),
      ),
    );
  }
  return self;
}
