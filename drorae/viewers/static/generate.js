// Generate: one line of what to make, three large pictures, and below them what takes more pictures to see. Nothing is
// sampled before somebody asks; what was made once is remembered, so the same again is instant.

const { html, segments } = parts;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const { generators, guidance: GUIDANCES, none, needs } = props.config;
const SHOWN = 3;
const SCALES = "1, 1.5, 2, 3";
const NAMES = { cfg: "classifier-free guidance", autoguidance: "AutoGuidance" };
const ROWS = { guided: "guided", unguided: "unguided", other: "another text" };
const DECODERS = { original: "same decoder", finetuned: "retrained" };

const view = {
  generator: 0,
  texts: generators.map(({ start }) => start),
  number: null, // of the class that was chosen from the list
  settings: generators.map(({ settings }) => ({ ...settings, seed: 0, negative: "", other: "" })),
  pick: "chosen",
  row: "guided",
  decoder: null, // the one that was trained last
  focus: 0, // which of the large pictures the film is of
  set: null, // what is shown
  seeds: [], // of the large pictures
  run: null, // what is being made
  halted: null, // pictures that were stopped half-way, while they are looked at
  says: null, // a sentence in place of the one about the model: {text, error}
};
const sets = new Map(); // everything that was made, by what was asked
const runs = new Map(); // by key
let count = 0;

const generator = () => generators[view.generator];
const settings = () => view.settings[view.generator];
const text = () => view.texts[view.generator].trim();

// What is asked for: a class by its number where its name is known, else what was typed.
function subject(typed = text()) {
  const { kind, names } = generator();
  if (kind === "text") return typed;
  if (view.number !== null && names[view.number] === typed) return view.number;
  const at = names.findIndex((name) => name.toLowerCase() === typed.toLowerCase());
  return at < 0 ? typed : at;
}

const sampler = () => {
  const { steps, guidance, scale, negative, other } = settings();
  const away = guidance === "cfg" ? negative.trim() : "";
  return { generator: generator().title, steps, guidance, scale, negative: away, other: other.trim() };
};

// Seeds that somebody chose for this, with these very settings.
function chosenSeeds() {
  const { chosen } = generator();
  const { steps, guidance, scale, negative, other } = sampler();
  if (!chosen || negative || other) return null;
  const made = chosen.settings;
  if (made.steps !== steps || made.guidance !== guidance || made.scale !== scale) return null;
  return chosen.seeds[text().toLowerCase()] ?? null;
}
const seedsFrom = (seed, number) => Array.from({ length: number }, (_, i) => seed + i);
const wanted = () =>
  view.pick === "chosen" && chosenSeeds() ? chosenSeeds() : seedsFrom(settings().seed, settings().count);

function setOf(wish) {
  const id = JSON.stringify(wish);
  if (!sets.has(id)) sets.set(id, { id, wish, label: text(), rows: {}, decoders: [] });
  return sets.get(id);
}
const setNow = () => setOf({ ...sampler(), subject: subject() });
const samplesOf = (set) => set?.rows[rowOf(set)] ?? new Map();
const rowOf = (set) => (set.rows[view.row] ? view.row : (Object.keys(set.rows)[0] ?? "guided"));
// One picture of a sample; what ships with a generator has one decoder's alone.
const pictureOf = (sample) => sample.pictures[decoderOf(view.set)] ?? Object.values(sample.pictures).filter(Boolean)[0];
const decoderOf = (set) => (set.decoders.includes(view.decoder) ? view.decoder : set.decoders[set.decoders.length - 1]);
const sampleOf = (seed) => samplesOf(view.set).get(seed);

// Runs: one at a time.

function begin(run, wish) {
  if (view.run) halt(view.run);
  count += 1;
  const key = `generate ${count}`;
  Object.assign(run, { key, step: 0, count: 0, stopped: false });
  runs.set(key, run);
  view.run = run;
  if (run.what === "pictures") view.halted = null;
  view.says = null;
  store.request("generate", { key, ...wish });
  draw();
}

function halt(run) {
  run.stopped = true;
  store.halt("generate");
  view.run = null;
  if (run.previews?.size) view.halted = run;
  run.tell(words.stopped(run.step, run.count));
  draw();
}

store.hear("generate", ({ key, value, error }) => {
  const run = runs.get(key);
  if (!run) return;
  if (error) {
    runs.delete(key);
    if (!run.stopped) run.tell(error, true);
  } else {
    if (value.step !== undefined) Object.assign(run, { step: value.step, count: value.count });
    run.take(value);
    // a step that was being computed when the run was stopped still arrives, and even the end may
    if (value.loading) run.tell(`Loading ${value.loading} ...`);
    else if (value.running) run.tell((run.stopped ? words.stopped : words.running)(run.step, run.count));
    else runs.delete(key);
  }
  if (!runs.has(key) && view.run === run) view.run = null;
  draw();
});

// The line above the pictures speaks of them.
function tell(sentence, error = false) {
  view.says = sentence ? { text: sentence, error } : null;
}

// Pictures of what the line says, of some seeds; those that were made before are there at once.
function make(seeds) {
  if (!text()) {
    tell("Say what to make first.", true);
    draw();
    find("ask").focus();
    return;
  }
  const set = setNow();
  const missing = seeds.filter((seed) => !set.rows[rowOf(set)]?.has(seed));
  const before = view.set;
  if (!missing.length) {
    show(set, seeds);
    tell(null);
    draw();
    return;
  }
  const run = {
    what: "pictures",
    seeds: seeds.slice(0, SHOWN),
    label: set.label,
    previews: new Map(),
    frames: [],
    times: [],
    tell,
    take(value) {
      if (value.running) {
        preview(run, value);
        return;
      }
      if (!value.rows) return;
      keep(set, value);
      show(set, seeds);
      tell(null);
      parts.say(`${set.label}: ${words.inWords(value.seeds.length)} pictures are there.`);
    },
  };
  if (before !== set) view.focus = 0;
  begin(run, { what: "pictures", ...set.wish, seeds: missing });
}

function preview(run, { rows, seeds, time }) {
  const first = rows?.[0];
  if (!first) return;
  seeds.forEach((seed, i) => {
    run.previews.set(seed, first.pictures[i]);
  });
  const at = Math.max(0, seeds.indexOf(run.seeds[view.focus]));
  run.frames.push(first.pictures[at]);
  run.times.push(time);
}

// Put what a sampling returned into its set; `as` renames its only row.
function keep(set, { rows, seeds, label, decoders }, as = null) {
  set.decoders = decoders;
  set.label = label;
  for (const row of rows) {
    const name = as ?? row.name;
    const lengths = lib.unpack(row.latents);
    const places = lengths.length / seeds.length;
    set.rows[name] ??= new Map();
    seeds.forEach((seed, i) => {
      const latent = lengths.subarray(places * i, places * (i + 1));
      const pictures = Object.fromEntries(decoders.map((decoder) => [decoder, row.pictures[decoder]?.[i]]));
      set.rows[name].set(seed, { pictures, film: row.film[i], times: row.times, latent });
    });
  }
}

function show(set, seeds) {
  view.set = set;
  view.halted = null;
  view.seeds = seeds.slice(0, SHOWN);
  view.focus = Math.min(view.focus, view.seeds.length - 1);
  remember();
}

// The address of what is shown.
function remember() {
  const { title: _, kind, settings: usual } = generator();
  const { steps, guidance, scale, negative } = sampler();
  const ask = { kind, [kind === "text" ? "prompt" : "label"]: text(), seed: lib.writeNumbers(view.seeds) };
  if (negative) ask.negative = negative;
  for (const [name, value] of Object.entries({ steps, guidance, scale })) if (value !== usual[name]) ask[name] = value;
  view.asked = JSON.stringify(ask);
  store.set({ ask });
}

// What a link asks for. With seeds it is made at once: who opens such a link wants to see those pictures.
function follow(ask) {
  view.asked = JSON.stringify(ask);
  const kind = ask.kind ?? (ask.prompt === undefined ? "class" : "text");
  const at = generators.findIndex((each) => each.kind === kind);
  if (at < 0) {
    tell(`The link asks for ${kind === "text" ? "words" : "a class"}, and no generator here takes that.`, true);
    return;
  }
  view.generator = at;
  view.number = null;
  const said = kind === "text" ? ask.prompt : ask.label;
  if (said !== undefined) view.texts[at] = String(said);
  const now = settings();
  Object.assign(now, generator().settings, { negative: ask.negative ?? "", other: "" });
  for (const name of ["steps", "scale"]) if (Number(ask[name]) > 0) now[name] = Number(ask[name]);
  if (generator().guidance.includes(ask.guidance)) now.guidance = ask.guidance;
  const seeds = lib.readNumbers(ask.seed, 2 ** 32).slice(0, 8);
  const chosen = chosenSeeds();
  view.pick = chosen && (!seeds.length || lib.writeNumbers(chosen) === lib.writeNumbers(seeds)) ? "chosen" : "first";
  if (seeds.length && view.pick === "first") now.seed = Math.min(...seeds);
  fillSettings();
  if (seeds.length && text()) make(seeds);
}

// What ships with the generator is there when the view is first opened.
function first() {
  if (!generator().first || sets.size) return;
  const set = setNow();
  count += 1;
  const key = `generate ${count}`;
  const take = ({ first: shipped }) => {
    if (!shipped || view.set || view.run) return;
    for (const value of shipped.values) keep(set, value);
    show(set, chosenSeeds() ?? wanted());
    view.asked = "{}";
    store.set({ ask: {} }); // nobody has asked for anything yet
  };
  runs.set(key, { key, take, tell: () => {}, stopped: false });
  store.request("generate", { key, what: "first", generator: generator().title });
}

// The line: Class or Words, and a list that opens under it.

const input = find("ask");
const list = find("list");
let offered = [];
let active = -1;

function offer(all = false) {
  const { kind, names, suggestions } = generator();
  const typed = all ? "" : input.value.trim().toLowerCase();
  const choices = kind === "text" ? suggestions.map((name) => [name, null]) : names.map((name, i) => [name, i]);
  offered = choices.filter(([name]) => name.toLowerCase().includes(typed)).slice(0, 60);
  active = offered.findIndex(([name]) => name === input.value);
  const open = offered.length > 0 && !(offered.length === 1 && active === 0 && !all);
  list.hidden = !open;
  input.setAttribute("aria-expanded", open);
  list.replaceChildren(
    ...offered.map(([name], i) =>
      html("span", { role: "option", id: `generate-option-${i}`, "aria-selected": i === active, textContent: name }),
    ),
  );
  pointAt(active);
}
function close() {
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}
function pointAt(at) {
  active = at;
  [...list.children].forEach((option, i) => {
    option.setAttribute("aria-selected", i === at);
  });
  if (at >= 0) {
    input.setAttribute("aria-activedescendant", `generate-option-${at}`);
    list.children[at].scrollIntoView({ block: "nearest" });
  } else input.removeAttribute("aria-activedescendant");
}
function take(at) {
  const [name, number] = offered[at];
  input.value = name;
  view.number = number;
  said();
  close();
}
function said() {
  view.texts[view.generator] = input.value;
  if (view.says?.error) tell(null);
  view.pick = chosenSeeds() ? view.pick : "first";
  if (chosenSeeds() && !view.unpicked) view.pick = "chosen";
  draw();
}
input.addEventListener("input", () => {
  view.number = null;
  said();
  offer();
});
input.addEventListener("click", () => (list.hidden ? offer(true) : close()));
input.addEventListener("blur", close);
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (list.hidden) offer(true);
    else if (offered.length) pointAt((active + (event.key === "ArrowDown" ? 1 : -1) + offered.length) % offered.length);
  } else if (event.key === "Enter" && !list.hidden && active >= 0 && offered[active][0] !== input.value) {
    event.preventDefault();
    take(active);
  } else if (event.key === "Escape" && !list.hidden) {
    close();
    event.stopPropagation();
  }
});
list.addEventListener("pointerdown", (event) => {
  event.preventDefault(); // the field keeps the focus
  const at = [...list.children].indexOf(event.target.closest('[role="option"]'));
  if (at >= 0) take(at);
});

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  close();
  if (view.run) halt(view.run);
  else make(wanted());
});

function choose(at) {
  view.generator = at;
  view.number = null;
  view.pick = chosenSeeds() && !view.unpicked ? "chosen" : "first";
  tell(null);
  fillSettings();
  draw();
}

// Settings, folded into their own summary.

find("fold").addEventListener("click", () => {
  find("settings").hidden = !find("settings").hidden;
  find("fold").setAttribute("aria-expanded", !find("settings").hidden);
});

const field = (name, control, note = "", kind = "") =>
  html("label", { className: `set ${kind}` }, [name, control, ...(note ? [html("small", { textContent: note })] : [])]);
const numberInput = (value, low, high, step, change) => {
  const node = html("input", { type: "number", min: low, max: high, step, value, inputMode: "decimal" });
  node.addEventListener("input", () => change(node.value === "" ? null : Number(node.value)));
  return node;
};
const textInput = (value, change) => {
  const node = html("input", { type: "text", value, autocomplete: "off" });
  node.addEventListener("input", () => change(node.value));
  return node;
};
const select = (choices, value, change) => {
  const options = choices.map(([name, title]) => html("option", { value: name, textContent: title }));
  const node = html("select", {}, options);
  node.value = String(value);
  node.addEventListener("change", () => change(node.value));
  return node;
};

function fillSettings() {
  const { kind, guidance } = generator();
  const now = settings();
  const set = (name) => (value) => {
    now[name] = value;
    if (name !== "seed" && name !== "count") view.pick = chosenSeeds() && !view.unpicked ? "chosen" : "first";
    else view.pick = "first";
    if (name === "guidance") fillSettings();
    draw();
  };
  const models = generators.map((each, at) => [at, each.title, each.kind]).filter((each) => each[2] === kind);
  const named = guidance.map((name) => [name, GUIDANCES[name]]);
  find("settings").replaceChildren(
    field(
      "Model",
      select(models, view.generator, (at) => choose(Number(at))),
    ),
    field("Guidance", select(named, now.guidance, set("guidance"))),
    field("Scale", numberInput(now.scale, 1, 10, 0.1, set("scale")), "1 is no guidance."),
    field("Steps", numberInput(now.steps, 1, 100, 1, set("steps")), "Up to 100."),
    field("First seed", numberInput(now.seed, 0, 2 ** 32 - 1, 1, set("seed")), "The others count up."),
    field("Pictures", numberInput(now.count, 1, 8, 1, set("count")), "Up to 8 at once."),
    ...(kind === "text"
      ? [
          field(
            "Away from",
            textInput(now.negative, set("negative")),
            now.guidance === "cfg" ? "A text to avoid." : "Only with classifier-free guidance.",
          ),
          field("Another text", textInput(now.other, set("other")), "The same seeds, to compare."),
        ]
      : []),
    ...(needs && kind === "class" ? [html("p", { className: "needs", textContent: needs })] : []),
  );
}

segments(find("pick"), view.pick, pick);
function pick(value) {
  view.pick = value;
  view.unpicked = value === "first";
  if (view.run) halt(view.run);
  if (view.set) make(wanted());
  draw();
}

// The large pictures.

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
    { className: "pictures", tabIndex: 0, role: "group", "aria-label": "Pictures" }, // on a phone it scrolls sideways
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
  const seeds = [...view.seeds];
  const run = {
    what: "pictures",
    seeds,
    label: set.label,
    previews: new Map(),
    frames: [],
    times: [],
    tell,
    take(result) {
      if (result.running) {
        preview(run, result);
        return;
      }
      if (!result.rows) return;
      keep(set, result, "unguided");
      view.row = "unguided";
      tell(null);
    },
  };
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
  const tag = made ? (view.pick === "chosen" ? "chosen" : "unpicked") : run?.stopped ? "stopped" : "under way";
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
  const { chosen } = generator();
  const isChosen = view.pick === "chosen" && chosenSeeds() !== null;
  const [strong, rest] = words.picked(view.seeds.length, samples.size, isChosen ? chosen.looked_at : null);
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
          view.pick = chosenSeeds()?.includes(seed) && view.pick === "chosen" ? "chosen" : "first";
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

// The film of the picture in focus is the strip above.
let filmed = null;
function drawFilm() {
  const run = pictureRun();
  const { steps } = sampler();
  let film = null;
  if (run) {
    if (run.frames.length) film = { label: run.label, steps, times: [...run.times], pictures: [...run.frames] };
  } else {
    const seed = view.seeds[view.focus];
    const made = seed === undefined ? null : sampleOf(seed);
    if (made) {
      const pictures = [...made.film, pictureOf(made)];
      const times = [...made.times.slice(0, made.film.length), 0];
      film = {
        label: view.set.label,
        steps: view.set.wish.steps,
        times,
        pictures,
        latent: made.latent,
        side: Math.sqrt(made.latent.length),
      };
    }
  }
  if (!film) return;
  const id = `${film.label} ${film.times.join()} ${film.pictures.map((each) => each.length).join()} ${film.pictures[film.pictures.length - 1].slice(-80)}`;
  if (id === filmed) return;
  filmed = id;
  store.film = film;
  store.set({ film });
}

function drawLine() {
  const { kind, note, chosen } = generator();
  const now = settings();
  const kinds = new Set(generators.map((each) => each.kind));
  find("kind").hidden = kinds.size < 2;
  segments(find("kind"), kind, (value) => {
    if (value !== kind) choose(generators.findIndex((each) => each.kind === value));
  });
  if (input.value !== view.texts[view.generator]) input.value = view.texts[view.generator];
  input.placeholder = kind === "text" ? "two dogs run on the grass" : "golden retriever";
  input.setAttribute("aria-label", kind === "text" ? "Words: what to make" : "Class: what to make");
  const run = find("run");
  run.textContent = view.run ? "Stop" : "Make pictures";
  run.classList.toggle("main", true);
  const how = { ...now, guidance: now.guidance === "none" ? null : NAMES[now.guidance] };
  const isChosen = view.pick === "chosen" && chosenSeeds();
  find("summary").textContent = words.settings({ ...how, seed: now.seed, count: isChosen ? null : now.count });
  find("says").className = view.says?.error ? "says error" : "says";
  find("says").textContent = view.says?.text ?? note;
  find("pick").hidden = !chosen || !chosenSeeds();
  segments(find("pick"), view.pick, pick);
}

function draw() {
  if (!generators.length) return;
  drawLine();
  for (let at = 0; at < SHOWN; at += 1) drawPicture(at);
  drawSeeds();
  drawFilm();
  for (const each of below) each.draw();
}

// Below: grid, walk, from my photo, morph. Each is a heading, a line of controls, a sentence and its pictures.

function part(title, explanation, controls, press, name) {
  const heading = html("h2", { textContent: title });
  const button = html("button", { type: "button", className: "btn", textContent: name });
  const told = html("p", { className: "told", role: "status" });
  const result = html("div", { className: "result" });
  const self = { node: null, heading, button, told, result, run: null, draw: () => {} };
  self.tell = (sentence, error = false) => {
    told.textContent = sentence ?? "";
    told.classList.toggle("error", error);
  };
  button.addEventListener("click", () => {
    if (self.run && view.run === self.run) halt(self.run);
    else press();
  });
  self.draw = () => {
    const mine = self.run !== null && view.run === self.run;
    button.textContent = mine ? "Stop" : name;
    button.disabled = view.run !== null && !mine;
  };
  self.begin = (wish, take) => {
    self.run = { what: wish.what, tell: self.tell, take };
    self.tell("Waiting for its turn ...");
    begin(self.run, wish);
  };
  self.node = html("section", { className: "part" }, [
    heading,
    html("p", { textContent: explanation }),
    html("div", { className: "asks" }, [...controls, button]),
    told,
    result,
  ]);
  return self;
}
const asked = () => {
  if (text()) return true;
  tell("Say what to make first.", true);
  draw();
  window.scrollTo({ top: 0 });
  input.focus();
  return false;
};
const below = [];

// Eight pictures in a row, with what stands under each; they play to and fro.
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
      if (!asked()) return;
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

function buildWalk() {
  const ask = { from: 0, to: 1, end: "" };
  const names = html("datalist", { id: "generate-names" });
  const end = textInput("", (value) => {
    ask.end = value;
  });
  end.setAttribute("list", "generate-names");
  const play = player(() => self.result.querySelectorAll(".walk"));
  const number = (name) =>
    numberInput(ask[name], 0, 2 ** 32 - 1, 1, (value) => {
      ask[name] = value;
    });
  const [from, to] = [number("from"), number("to")];
  const self = part(
    "Walk between two",
    "From one seed to another along the arc between their noises, and from what the line above says to something else, if you name it.",
    [
      field("From seed", from, "", "narrow"),
      field("To seed", to, "", "narrow"),
      field("To class or words", end, "", "wide"),
      names,
    ],
    () => {
      if (!asked()) return;
      play.stop();
      const last = ask.end.trim() || text();
      const [start, { from: a, to: b }] = [text(), { ...ask }];
      const wish = { what: "walk", ...sampler(), other: "", subject: subject(), end: subject(last), seeds: [a, b] };
      const other = last !== start;
      self.heading.textContent = other
        ? `Walk from ${start}, seed ${a}, to ${last}, seed ${b}`
        : `Walk from seed ${a} to seed ${b}`;
      self.begin(wish, (value) => {
        if (!value.pictures?.length) return;
        const captions = value.pictures.map((_, i) =>
          i === 0 ? `seed ${a}` : i === value.pictures.length - 1 ? `seed ${b}` : "",
        );
        self.result.replaceChildren(stripOf(value.pictures, captions, `From seed ${a} to seed ${b}`));
        if (value.running) return;
        self.tell("");
        self.result.append(play.button);
      });
    },
    "Walk",
  );
  const draw = self.draw;
  self.draw = () => {
    draw();
    const { kind, names: known, suggestions } = generator();
    const choices = kind === "text" ? suggestions : known;
    if (names.dataset.of !== generator().title) {
      names.dataset.of = generator().title;
      names.replaceChildren(...choices.slice(0, 1000).map((value) => html("option", { value })));
    }
    end.placeholder = text() ? `the same: ${text()}` : "";
    // the walk begins with the pictures that are shown
    const shown = view.seeds.join();
    if (view.seeds.length > 1 && self.seen !== shown && !view.run) {
      self.seen = shown;
      [ask.from, ask.to] = [view.seeds[0], view.seeds[view.seeds.length - 1]];
      [from.value, to.value] = [ask.from, ask.to];
    }
  };
  return self;
}

// The photos of the tray, to choose from.
function photoSelect(change) {
  const node = html("select");
  node.addEventListener("change", () => change(node.value));
  const fill = (value) => {
    const known = [...store.photos.values()].filter((each) => each.example || each.file);
    const id = known.map(({ key }) => key).join();
    if (node.dataset.of !== id) {
      node.dataset.of = id;
      node.replaceChildren(...known.map(({ key, name }) => html("option", { value: key, textContent: name })));
    }
    if (node.value !== value) node.value = value ?? "";
  };
  return { node, fill };
}
const photoWish = (key) => {
  const { example, file } = store.photo(key) ?? {};
  return { example: example ?? null, file: file ?? null };
};
const captioned = (source, name, note = "") =>
  html("figure", { className: "fig" }, [
    html("figcaption", {}, [name, html("span", { className: "score", textContent: note })]),
    html("img", { src: source, alt: name }),
  ]);

function buildFromPhoto() {
  const ask = { photo: null, time: 0.7 };
  const photo = photoSelect((key) => {
    ask.photo = key;
  });
  const shown = html("small", { className: "num", textContent: words.noise(ask.time) });
  const slider = html("input", { type: "range", min: 5, max: 100, value: 70, "aria-label": "Share of noise" });
  slider.addEventListener("input", () => {
    ask.time = slider.value / 100;
    shown.textContent = words.noise(ask.time);
  });
  const self = part(
    "From your photo",
    "The photo's latent gets noise, and the denoiser takes it away again under what the line above says. Little noise keeps the photo, much noise keeps only its layout.",
    [field("Photo", photo.node), html("label", { className: "set wide" }, ["Noise", slider, shown])],
    () => {
      if (!asked()) return;
      const now = { label: text(), start: null };
      const wish = { what: "photo", ...sampler(), other: "", subject: subject(), seeds: [settings().seed] };
      self.begin({ ...wish, photos: [photoWish(ask.photo)], time: ask.time }, (value) => {
        if (value.rebuilt) now.start = value;
        if (!now.start || (!value.rebuilt && !value.pictures?.length)) return;
        const { rebuilt, noisy, time } = now.start;
        self.result.replaceChildren(
          html("div", { className: "three" }, [
            captioned(rebuilt, "Your photo, rebuilt"),
            captioned(noisy, "With noise", words.noise(time)),
            captioned(value.pictures?.[0] ?? noisy, `As ${now.label}`, `seed ${settings().seed}`),
          ]),
        );
        if (!value.running) self.tell("");
      });
    },
    "Denoise",
  );
  const draw = self.draw;
  self.draw = () => {
    draw();
    if (!store.photos.has(ask.photo)) ask.photo = state.photo;
    photo.fill(ask.photo);
  };
  return self;
}

function buildMorph() {
  const ask = { start: null, end: null };
  const [start, end] = ["start", "end"].map((name) =>
    photoSelect((key) => {
      ask[name] = key;
    }),
  );
  const play = player(() => self.result.querySelectorAll(".walk"));
  const self = part(
    "Morph between two photos",
    "The latents in between, decoded. A generator has to paint such places: where the latent holds more of a photo, so do the pictures between two of them.",
    [field("From", start.node), field("To", end.node)],
    () => {
      play.stop();
      const names = [ask.start, ask.end].map((key) => store.photo(key)?.name ?? "");
      self.begin({ what: "morph", photos: [photoWish(ask.start), photoWish(ask.end)] }, (value) => {
        if (!value.last) return;
        const row = (name, pictures) => [
          html("h3", { className: "rowname", textContent: name }),
          stripOf(
            pictures,
            pictures.map((_, i) => (i === 0 ? names[0] : i === pictures.length - 1 ? names[1] : "")),
            name,
          ),
        ];
        const layers = words.inWords(store.config.layers || 12);
        self.result.replaceChildren(
          ...(value.fused ? row(`All ${layers} layers`, value.fused) : []),
          ...row("Last layer only", value.last),
          play.button,
        );
        self.tell("");
      });
    },
    "Morph",
  );
  const draw = self.draw;
  self.draw = () => {
    draw();
    if (!store.photos.has(ask.start)) ask.start = state.photo;
    if (!store.photos.has(ask.end))
      ask.end = state.second ?? [...store.photos.keys()].find((key) => key !== ask.start) ?? null;
    start.fill(ask.start);
    end.fill(ask.end);
  };
  return self;
}

find("maker").hidden = !generators.length;
find("none").hidden = generators.length > 0;
find("none").querySelector("p").textContent = none;
if (generators.length) below.push(buildGrid(), buildWalk(), buildFromPhoto());
below.push(buildMorph());
find("more").append(...below.map(({ node }) => node));

store.on(["photos", "photo", "second"], () => {
  for (const each of below) each.draw();
});
for (const each of below) each.draw();
if (generators.length) {
  view.pick = chosenSeeds() ? "chosen" : "first";
  fillSettings();
  const linked = store.read(window.location.search);
  store.on(["ask"], () => {
    if (JSON.stringify(state.ask) !== view.asked && Object.keys(state.ask).length) follow(state.ask);
    draw();
  });
  if (linked.view === "generate" && Object.keys(linked.ask).length) follow(linked.ask);
  else first();
  draw();
}
