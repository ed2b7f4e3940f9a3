// The large pictures, and the row of all seeds beside them.

const ROWS = { guided: "guided", unguided: "unguided", other: "another text" };
const DECODERS = { original: "same decoder", finetuned: "retrained" };

const fileName = (seed) =>
  `${view.set.label
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, 60)}-seed${seed}${rowOf(view.set) === "guided" ? "" : `-${rowOf(view.set)}`}.png`;
const fileOf = (seed) => {
  const source = pictureOf(sampleOf(seed));
  const bytes = lib.decodeBase64(source.slice(source.indexOf(",") + 1));
  return new File([bytes], fileName(seed), { type: "image/png" });
};

const figures = seedsFrom(0, SHOWN).map((at) => {
  const picture = html("img", { alt: "", hidden: true });
  const message = html("span", { className: "message", hidden: true });
  const meter = html("span", { className: "meter", hidden: true });
  const shot = html("button", { type: "button", className: "shot", title: "Its film is above" }, [
    picture,
    message,
    meter,
  ]);
  shot.addEventListener("click", () => {
    view.focus = at;
    draw();
  });
  const name = html("span");
  const apart = html("button", { type: "button", className: "btn small", textContent: "Take apart" });
  apart.title = "Opens it in Explore, at its own size";
  apart.addEventListener("click", () => {
    store.openFile(fileOf(view.seeds[at]), { size: picture.naturalWidth });
    window.scrollTo(0, 0);
  });
  const save = html("button", { type: "button", className: "btn small", textContent: "Save" });
  save.title = "A PNG with its settings inside";
  save.addEventListener("click", () => parts.save(fileName(view.seeds[at]), fileOf(view.seeds[at])));
  const caption = html("div", { className: "gcap" }, [name, html("span", { className: "acts" }, [apart, save])]);
  return {
    figure: html("figure", { className: "fig" }, [shot, caption]),
    picture,
    message,
    meter,
    shot,
    name,
    apart,
    save,
  };
});
const says = html("p", { className: "say" });
const thumbs = html("div", { className: "thumbs", role: "group", "aria-label": "All seeds" });
const more = html("button", { type: "button", className: "btn small", textContent: "More seeds" });
const rows = html("span", { className: "seg mini", role: "group", "aria-label": "Guidance" });
const decoders = html("span", { className: "seg mini", role: "group", "aria-label": "Decoder" });
for (const [value, name] of Object.entries(ROWS))
  rows.append(html("button", { type: "button", value, textContent: name }));
for (const [value, name] of Object.entries(DECODERS))
  decoders.append(html("button", { type: "button", value, textContent: name }));
decoders.title = "The decoder that never saw this latent, and the one trained on it";
find("stage").append(
  html(
    "div",
    { className: "pictures", tabIndex: 0, role: "group", "aria-label": "Pictures" },
    figures.map(({ figure }) => figure),
  ),
  html("aside", { className: "insp", "aria-label": "Seeds" }, [
    says,
    thumbs,
    html("div", { className: "switches" }, [rows, decoders, more]),
  ]),
);
more.addEventListener("click", () => {
  const known = new Set(samplesOf(view.set).keys());
  const fresh = [];
  for (let seed = settings().seed; fresh.length < settings().count; seed += 1) if (!known.has(seed)) fresh.push(seed);
  view.pick = "first";
  make(fresh);
});

// The same seeds under no guidance are made when somebody wants to see them.
function chooseRow(value) {
  view.halted = null;
  view.row = value;
  const set = view.set;
  const missing = view.seeds.filter((seed) => !set.rows[value]?.has(seed));
  if (value !== "unguided" || !missing.length) {
    draw();
    return;
  }
  view.row = "guided";
  const run = runOf(set, [...view.seeds], (result) => {
    keep(set, result, "unguided");
    view.row = "unguided";
  });
  begin(run, { what: "pictures", ...set.wish, guidance: "none", negative: "", other: "", seeds: missing });
}

// The run whose pictures are shown: under way, or stopped.
const pictureRun = () => (view.run?.what === "pictures" ? view.run : view.halted);

function drawPicture(at) {
  const { picture, message, meter, shot, name, apart, save, figure } = figures[at];
  const run = pictureRun();
  const seed = run ? run.seeds[at] : view.seeds[at];
  const made = !run && seed !== undefined ? sampleOf(seed) : null;
  const source = run?.previews.get(seed) ?? (made && pictureOf(made));
  figure.hidden = seed === undefined && (run !== null || view.set !== null);
  if (source) picture.src = source;
  picture.hidden = !picture.src;
  picture.alt = seed === undefined ? "" : `${(run ?? view.set)?.label ?? text()}, seed ${seed}`;
  shot.classList.toggle("waits", run !== null && !run.previews.has(seed));
  shot.disabled = !made;
  shot.setAttribute("aria-pressed", made !== null && view.focus === at);
  message.hidden = view.set !== null || run !== null || at !== 0 || view.says !== null;
  message.textContent = "Nothing is made before you ask. Press Make pictures.";
  meter.hidden = !view.run || run !== view.run;
  meter.style.width = `${run?.count ? (100 * run.step) / run.count : 0}%`;
  const tag = made ? (view.chosen ? "chosen" : "unpicked") : run?.stopped ? "stopped" : "under way";
  name.replaceChildren(
    ...(seed === undefined
      ? []
      : [html("b", { textContent: `seed ${seed}` }), html("span", { className: "tag", textContent: tag })]),
  );
  for (const button of [apart, save]) {
    button.disabled = !made;
    button.hidden = seed === undefined;
  }
}

function drawSeeds() {
  const { set } = view;
  const busy = view.run !== null;
  says.hidden = !set;
  thumbs.hidden = !set;
  more.hidden = !set;
  more.disabled = busy;
  if (!set) {
    rows.hidden = true;
    decoders.hidden = true;
    return;
  }
  const samples = samplesOf(set);
  const lookedAt = view.chosen ? generators.find(({ title }) => title === set.wish.generator).chosen.looked_at : null;
  const [strong, rest] = words.choiceOf(view.seeds.length, samples.size, lookedAt);
  says.replaceChildren(html("b", { textContent: strong }), rest);
  const order = [...samples.keys()].sort((a, b) => a - b);
  thumbs.replaceChildren(
    ...order.map((seed) => {
      const source = pictureOf(samples.get(seed));
      const button = html("button", {
        type: "button",
        title: `seed ${seed}`,
        "aria-label": `seed ${seed}`,
        "aria-pressed": view.seeds.includes(seed),
        disabled: busy,
      });
      button.append(html("img", { src: source, alt: "" }));
      button.addEventListener("click", () => {
        const at = view.seeds.indexOf(seed);
        view.halted = null;
        if (at < 0) {
          view.seeds = view.seeds.map((each, i) => (i === view.focus ? seed : each));
          view.chosen &&= chosenSeeds()?.includes(seed) ?? false;
          view.pick = view.chosen ? "chosen" : "first";
          remember();
        } else view.focus = at;
        draw();
        const { figure } = figures[view.focus];
        figure.parentNode.scrollTo({ left: figure.offsetLeft - figure.parentNode.offsetLeft, behavior: "smooth" });
      });
      return button;
    }),
  );
  const guided = set.rows.guided !== undefined;
  rows.hidden = !guided;
  for (const button of rows.querySelectorAll("button")) {
    button.hidden = button.value === "other" && !set.rows.other;
    button.disabled = busy;
  }
  segments(rows, rowOf(set), chooseRow);
  decoders.hidden = set.decoders.length < 2;
  segments(decoders, decoderOf(set), (value) => {
    view.decoder = value;
    draw();
  });
}
