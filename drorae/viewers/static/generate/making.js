// Generate: one line of what to make, three large pictures, and below them what takes more pictures to see. Nothing is
// sampled before somebody asks; what was made once is remembered, so the same again is instant.

const { html, segments } = parts;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const { generators } = props.config;
const SHOWN = 3;

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
  chosen: false, // whether those were chosen by somebody, whatever the line says by now
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
  const isChosen = view.pick === "chosen" && chosenSeeds() !== null;
  const missing = seeds.filter((seed) => !set.rows[rowOf(set)]?.has(seed));
  const before = view.set;
  if (!missing.length) {
    show(set, seeds, isChosen);
    tell(null);
    draw();
    return;
  }
  const run = runOf(set, seeds.slice(0, SHOWN), (value) => {
    keep(set, value);
    show(set, seeds, isChosen);
    parts.say(`${set.label}: ${words.inWords(value.seeds.length)} pictures are there.`);
  });
  if (before !== set) view.focus = 0;
  begin(run, { what: "pictures", ...set.wish, seeds: missing });
}

// A run of pictures of a set; `made` is called with what came out.
function runOf(set, seeds, made) {
  const run = {
    what: "pictures",
    seeds,
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
      made(value);
      tell(null);
    },
  };
  return run;
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

function show(set, seeds, isChosen) {
  view.set = set;
  view.chosen = isChosen;
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
    show(set, chosenSeeds() ?? wanted(), view.pick === "chosen" && chosenSeeds() !== null);
    view.asked = "{}";
    store.set({ ask: {} }); // nobody has asked for anything yet
  };
  runs.set(key, { key, take, tell: () => {}, stopped: false });
  store.request("generate", { key, what: "first", generator: generator().title });
}
