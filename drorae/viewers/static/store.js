// One store for the whole page: what is looked at, and what is known of every photo. Views read it and subscribe to it;
// pointing, sliding and switching change it and ask the server for nothing.

// biome-ignore lint/correctness/noUnusedVariables: the views use it
const store = (() => {
  const { readNumbers, writeNumbers } = lib;
  const EXPLORE = ["picture", "layers", "weights", "frequency", "tokenizers"];
  const VIEWS = [...EXPLORE, "generate", "photos", "study", "about"];
  const OLDER = { compare: "picture", intervene: "layers", routing: "weights", batch: "photos" }; // names in older links
  const LATER = ["tiles", "standing", "frames", "similar", "tokenizers"]; // ended by a new photo, asked again when it is looked at
  const UNSEEN = ["tiles", "standing"]; // nobody is told that they are not there, so nobody asks for them again
  const LULL = 15_000; // milliseconds after which they are, where the page was too busy
  const KEPT = 8; // photos in the tray
  const NOWHERE = { token: null, pixel: null, pinned: false, area: [], against: null, region: [] }; // of a grid
  const BESIDE = 8; // tokenizers beside the model's own
  const ASKED = ["kind", "label", "prompt", "negative", "seed", "steps", "guidance", "scale"]; // of Generate, in a link

  const state = {
    view: "picture",
    explored: "picture", // the view of Explore that was open last
    photo: null, // key
    second: null, // key of the photo beside it
    pixel: null, // [x, y] under the pointer, in pixels of the picture
    token: null, // row-major
    pinned: false,
    area: [], // tokens of a rectangle that is looked at as one, with `token` at its last corner; empty: the token alone
    against: null, // tokens that others are compared with
    like: null, // map in which Weights looks for what resembles the token; null: the weights
    layer: 1, // whose map lies over the photo, from 0
    hot: null, // layer under the pointer, from 0
    off: [], // layers that are left out, from 0
    beta: null, // null: as trained
    region: [], // tokens to which the changes apply; empty: everywhere
    decoder: "drorae",
    split: 0, // percent of the third panel that shows the last layer
    helped: false, // the maps of Picture are looked at
    zoom: { scale: 1, x: 0.5, y: 0.5 },
    full: null, // route in full screen
    step: 1, // of the guide
    tokenizers: null, // names of those beside the model's own; null: the usual ones
    ask: {}, // what Generate was asked, see ASKED
  };
  const photos = new Map(); // key to photo, in the order of the tray
  const listeners = [];
  const channels = {};
  let config = { examples: [], model: {}, size: 0, layers: 0, whole: false };

  function set(changes) {
    const changed = Object.keys(changes).filter((name) => state[name] !== changes[name]);
    if (!changed.length) return;
    Object.assign(state, changes);
    tell(changed);
  }

  function tell(changed) {
    for (const { names, call } of [...listeners])
      if (names.some((name) => changed.includes(name))) call(state, changed);
  }

  // Call a function whenever one of these names changes: those of the state, "data" and "photos".
  const on = (names, call) => listeners.push({ names, call });

  const photo = (key = state.photo) => photos.get(key) ?? null;
  const data = (kind, key = state.photo) => photos.get(key)?.kinds[kind] ?? null;
  const problem = (kind, key = state.photo) => photos.get(key)?.problems[kind] ?? null;
  const waits = (kind, key = state.photo) => photos.get(key)?.waiting.has(kind) ?? false;

  // Channels: a component of the page for every kind of question.

  function open(kind, ask, stop) {
    channels[kind] = { ask, stop, wish: null };
    for (const wish of unasked.splice(0)) request(wish.kind, wish.wish);
    const wanted = waiting.filter((each) => each.kind === kind);
    for (const { key, wish } of wanted) need(kind, wish, key);
  }
  const waiting = []; // asked before the page was ready to ask
  const unasked = []; // the same, about no photo

  // Questions about no photo: `hear(kind, call)` gets their answers, `request` asks, `halt` stops what is computed.
  const hearers = {};
  const hear = (kind, call) => {
    hearers[kind] = call;
  };
  function request(kind, wish) {
    if (channels[kind]) channels[kind].ask({ model: config.model.name, ...wish });
    else unasked.push({ kind, wish });
  }
  const halt = (kind) => channels[kind]?.stop();

  // What the server is told of a photo.
  function describe(key) {
    const { example, file, name, centre, whole, size, version } = photos.get(key);
    return { key, example, file, name, centre, whole, size, version };
  }

  // Names what is looked at: a photo, and which part of it by which model.
  const mark = (key = state.photo) => `${key} ${photos.get(key)?.version ?? 0}`;

  // Ask for what is not known yet. A photo that was overtaken is not asked for again until it is looked at.
  function need(kind, wish = {}, key = state.photo) {
    const about = photos.get(key);
    if (!about || about.waiting.has(kind)) return;
    const known = about.kinds[kind];
    if (known && !(known.done < known.total) && !Object.keys(wish).length) return;
    if (!channels[kind]) {
      waiting.push({ kind, wish, key });
      return;
    }
    if (kind === "routes") for (const each of photos.values()) for (const later of LATER) each.waiting.delete(later);
    const before = photos.get(channels[kind].wish?.key); // its question is overtaken
    if (before && before !== about) before.waiting.delete(kind);
    about.waiting.add(kind);
    delete about.problems[kind];
    channels[kind].wish = { kind, ...describe(key), model: config.model.name, ...wish };
    channels[kind].ask(channels[kind].wish);
    tell(["data"]);
  }

  // Columns by name come one after the other.
  const together = (known, { columns }) =>
    columns instanceof Object ? { columns: { ...known?.columns, ...columns } } : {};

  // An answer: a `value` or an `error` of a photo. Values in parts say how much is `done` of their `total`.
  function receive(kind, answer) {
    if (!answer) return;
    if (hearers[kind]) {
      hearers[kind](answer);
      return;
    }
    const about = photos.get(answer.key);
    if (!about || (answer.version ?? about.version) !== about.version) return; // or of another part, or model
    const { value, error, busy } = answer;
    if (error && kind !== "routes" && !about.waiting.has(kind)) return; // of a question that was ended
    if (error) about.problems[kind] = error;
    else if (value) about.kinds[kind] = { ...about.kinds[kind], ...value, ...together(about.kinds[kind], value) }; // of what comes in parts, some say only how far it is
    if (error || !(value?.done < value?.total)) about.waiting.delete(kind);
    if (kind === "routes" && value) about.before = null;
    if (kind === "routes" && error && !about.kinds.routes) {
      if (busy) putOff(about, error);
      else drop(answer.key, error);
    }
    if (busy && UNSEEN.includes(kind)) setTimeout(() => askAgain(kind, about), LULL * (1 + Math.random()));
    tell(["data"]);
  }

  function askAgain(kind, about) {
    delete about.problems[kind];
    tell(["data"]);
  }

  // The page is too busy for a photo. It stays in the tray, and what was shown before comes back: another part of it, or
  // another photo.
  function putOff(about, reason) {
    const { key, centre, whole, before } = about;
    if (before) {
      Object.assign(about, before, { version: about.version + 1, before: null });
      fail(reason, () => crop(key, { centre, whole }));
      return;
    }
    if (state.photo === key && seen !== key) set({ photo: photos.has(seen) ? seen : null });
    fail(reason, () => show(key));
  }

  // A photo that could not be read leaves, unless it is an example; what was shown before comes back, and the reason is
  // said.
  function drop(key, reason) {
    if (!photos.get(key).example) photos.delete(key);
    if (state.photo === key) set({ photo: photos.has(seen) ? seen : null });
    fail(reason);
    tell(["photos"]);
  }

  // The photo that was shown last.
  let seen = null;
  on(["photo", "data"], () => {
    if (photos.get(state.photo)?.kinds.routes) seen = state.photo;
  });

  let failure = null;
  let retry = null;
  // Say that something failed; `again` does it once more, where that may help.
  function fail(text, again = null) {
    failure = text;
    retry = again;
    tell(["failure"]);
  }

  // Photos.

  function add({
    key,
    name,
    example = null,
    file = null,
    thumbnail = null,
    source = null,
    centre = null, // of the square that is shown, where it was moved
    whole = null, // all of it is shown
    size = null,
  }) {
    const known = photos.get(key);
    const entry = known ?? { key, version: 0, kinds: {}, problems: {}, waiting: new Set() };
    Object.assign(entry, { name, example, file: file ?? entry.file ?? null, centre: centre ?? entry.centre ?? null });
    entry.whole = whole ?? entry.whole ?? false;
    entry.size = size ?? entry.size ?? null; // generated pictures are looked at at their own size
    entry.thumbnail = thumbnail ?? entry.thumbnail ?? null;
    entry.source = source ?? entry.source ?? null; // of the whole photo
    photos.set(key, entry);
    const own = [...photos.values()].filter((each) => !each.example);
    for (const each of own.slice(0, Math.max(0, own.length - KEPT)))
      if (each.key !== state.photo) photos.delete(each.key);
    tell(["photos"]);
    return entry;
  }

  // Everything that is known was about another part of the photo, or by another model; what is still to come, too.
  function forget(about, changes) {
    const { kinds, centre, whole } = about;
    const before = kinds.routes ? { kinds, centre, whole } : about.before;
    Object.assign(about, changes, { version: about.version + 1, kinds: {}, problems: {}, tried: false, before });
    about.waiting.clear();
  }

  // Another part of the photo: the square around its `centre`, or, where `whole`, all of it.
  function crop(key, part) {
    forget(photos.get(key), part);
    set({ ...NOWHERE, crop: part });
    return show(key);
  }

  // The answer to what the page asked before its scripts were there (head_start.py), once.
  function asked(address) {
    const answer = window.droraeHeadStart?.[address];
    delete window.droraeHeadStart;
    return answer;
  }

  // Look at a photo. Its routes come from what ships with the page, from memory, or from the server.
  async function show(key) {
    const about = photos.get(key);
    if (!about) return;
    fail(null);
    const fresh = state.photo !== key;
    set({
      photo: key,
      ...(fresh ? NOWHERE : {}),
    });
    if (about.pending || about.kinds.routes || about.waiting.has("routes")) return;
    const bundle = about.centre || about.whole ? null : config.bundles?.[about.example];
    if (bundle && !about.tried) {
      const { version } = about;
      about.tried = true;
      about.waiting.add("routes");
      try {
        const answer = await (asked(bundle) ?? fetch(new URL(bundle, document.baseURI)));
        if (!answer.ok) throw new Error(answer.statusText);
        const { model, kinds } = await answer.json();
        if (model === config.model.hash && about.version === version) Object.assign(about.kinds, kinds);
      } catch {
        // the server computes it then
      }
      if (about.version !== version) return;
      about.waiting.delete("routes");
      if (about.kinds.routes) {
        tell(["data"]);
        return;
      }
    }
    need("routes", {}, key);
  }

  function configure(values) {
    config = { ...config, ...values };
    for (const { name, title, thumbnail, source } of config.examples)
      if (!photos.has(name)) add({ key: name, name: title, example: name, thumbnail, source });
    tell(["config"]);
  }

  // Another model: everything known was about the first one.
  function changeModel(values) {
    for (const each of photos.values()) {
      forget(each, values.whole ? {} : { whole: false });
      each.before = null; // by the other model
    }
    set({ ...NOWHERE, beta: null, off: [] });
    configure(values);
    if (state.photo) show(state.photo);
  }

  // The address: what a link, a reload and the Back button bring back.

  const framed = window.self !== window.top;
  const embedded = new URLSearchParams(window.location.search).has("embed"); // one view, without the page around it
  document.documentElement.classList.toggle("embedded", embedded);

  // The part of a photo that is looked at, in an address; none for its middle.
  const partOf = ({ whole, centre }) => (whole ? "whole" : (centre?.map((at) => at.toFixed(3)).join(",") ?? ""));

  function address() {
    const chosen = new URLSearchParams();
    if (state.view !== "picture") chosen.set("tab", state.view);
    const about = photo();
    if (about?.example) chosen.set("example", about.example);
    else if (about) chosen.set("photo", about.key);
    if (about && partOf(about)) chosen.set("crop", partOf(about));
    if (state.pinned && state.token !== null)
      chosen.set("token", writeNumbers(state.area.length ? state.area : [state.token]));
    if (state.view === "weights") {
      chosen.set("layer", String(state.layer + 1));
      if (state.like !== null) chosen.set("like", state.like);
    }
    if (state.beta !== null) chosen.set("beta", String(state.beta));
    if (state.off.length) chosen.set("off", writeNumbers(state.off.map((layer) => layer + 1)));
    if (state.region.length) chosen.set("region", writeNumbers(state.region));
    if (state.view === "tokenizers" && state.tokenizers)
      for (const name of state.tokenizers.length ? state.tokenizers : [""]) chosen.append("with", name);
    if (state.view === "generate")
      for (const [name, value] of Object.entries(state.ask))
        if (value !== "" && value !== null) chosen.set(name, value);
    return chosen;
  }

  const link = () => `${window.location.origin}${window.location.pathname}?${address()}`;

  // What an address chose, as changes of the state; numbers that make no sense are left out.
  function read(search) {
    const chosen = new URLSearchParams(search);
    const named = chosen.get("embed") ?? chosen.get("tab");
    const tab = OLDER[named] ?? named;
    const integer = (name, end) => readNumbers(chosen.get(name), end);
    const beta = Number.parseFloat(chosen.get("beta"));
    const crop = chosen.get("crop");
    const centre = crop?.split(",").map(Number);
    const [layer] = integer("layer", config.layers + 1);
    const tokens = integer("token", 1 << 20);
    const [token] = tokens;
    return {
      view: VIEWS.includes(tab) ? tab : "picture",
      photo: chosen.get("photo") ?? chosen.get("example"),
      centre: centre?.length === 2 && centre.every((at) => at >= 0 && at <= 1) ? centre : null,
      whole: crop === "whole",
      token: token ?? null,
      pinned: token !== undefined,
      area: tokens.length > 1 ? tokens : [],
      like: chosen.get("like"),
      off: integer("off", config.layers + 1)
        .filter(Boolean)
        .map((number) => number - 1),
      region: integer("region", 1 << 20),
      beta: beta >= 0 && beta <= 1 ? beta : null,
      ...(layer ? { layer: layer - 1 } : {}),
      ...(chosen.has("with")
        ? { tokenizers: [...new Set(chosen.getAll("with").filter(Boolean))].slice(0, BESIDE) }
        : {}),
      ask: Object.fromEntries(ASKED.flatMap((n) => (chosen.has(n) ? [[n, chosen.get(n)]] : []))),
    };
  }

  let timer = 0;
  let written = null;
  let following = false;
  let restoring = 0; // what an address names may take a while to be found
  const WRITTEN = [
    "view",
    "photo",
    "crop",
    "token",
    "pinned",
    "area",
    "like",
    "layer",
    "beta",
    "off",
    "region",
    "tokenizers",
    "ask",
  ];
  function follow() {
    if (framed || embedded) return;
    following = true;
    on(WRITTEN, (_, changed) => {
      clearTimeout(timer);
      const turned = changed.includes("view") || changed.includes("photo");
      timer = setTimeout(() => write(turned && written !== null), turned ? 0 : 250);
    });
    window.addEventListener("popstate", () => {
      written = window.location.search;
      restore(window.location.search);
    });
  }

  // Put what is seen into the address, as a new entry of the history or in place of the last.
  function write(anew) {
    const text = `?${address()}`;
    if (!following || restoring || text === written) return;
    written = text;
    history[anew ? "pushState" : "replaceState"](null, "", text === "?" ? window.location.pathname : text);
  }

  // Show what an address names. A photo that is not here is looked for by `find(key)`, which may be asynchronous; on
  // the way there nothing becomes an entry of the history.
  async function restore(search, find = finder) {
    restoring += 1;
    try {
      await showNamed(search, find);
    } finally {
      restoring -= 1;
      write(false);
    }
  }

  async function showNamed(search, find) {
    const { photo: key, centre, whole, ...changes } = read(search);
    go(changes.view);
    let wanted = key ?? config.examples[0]?.name ?? null;
    const part = { centre, whole: whole && config.whole };
    const here = photos.get(wanted);
    if (here && partOf(here) !== partOf(part)) forget(here, part);
    if (wanted && !here) {
      const found = find ? await find(wanted, part) : null;
      if (!found) {
        const names = config.examples.map(({ name }) => name).join(", ");
        const reason = /^[0-9a-f]{16}$/.test(wanted)
          ? "This photo was kept in the browser it was opened in. Choose it again, or look at an example."
          : `The link names an example '${wanted.slice(0, 40)}' that is not here; there are ${names}.`;
        fail(reason);
        wanted = config.examples[0]?.name ?? null;
        if (wanted) await showKeepingFailure(wanted);
        return;
      }
    }
    if (wanted) await show(wanted);
    if (whole && !config.whole) fail("This model takes squares only, so the middle of the photo is shown.");
    set({ ...changes, view: state.view });
  }

  async function showKeepingFailure(key) {
    const [text, again] = [failure, retry];
    await show(key);
    fail(text, again);
  }

  let finder = null;
  const findWith = (find) => {
    finder = find;
  };

  // A button that is not there yet, or does not answer yet, is pressed again.
  function press(view, times = 100) {
    const button = document.getElementById(`tab-${view}-button`);
    button?.click();
    if (times && !config.report)
      setTimeout(() => {
        const open = document.getElementById(`tab-${view}-button`)?.getAttribute("aria-selected") === "true";
        if (!open && state.view === view) press(view, times - 1);
      }, 100);
  }

  // Open a view. Gradio shows a tab when its button is pressed, and mounts it the first time.
  function go(view) {
    press(view);
    if (config.report) document.getElementById(view)?.scrollIntoView(); // there all views stand below one another
    set({ view, ...(EXPLORE.includes(view) ? { explored: view } : {}) });
  }

  return {
    BESIDE,
    EXPLORE,
    UNSEEN,
    add,
    address,
    changeModel,
    configure,
    crop,
    data,
    fail,
    findWith,
    follow,
    framed,
    go,
    halt,
    hear,
    link,
    mark,
    need,
    on,
    open,
    photo,
    photos,
    problem,
    read,
    receive,
    request,
    restore,
    describe,
    set,
    show,
    state,
    waits,
    get config() {
      return config;
    },
    get failure() {
      return failure;
    },
    get retry() {
      return retry;
    },
  };
})();
