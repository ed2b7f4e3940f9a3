// The address: what a link, a reload and the Back button bring back; and the views that it opens.

(() => {
  const { BESIDE, EXPLORE, fail, forget, on, photo, photos, set, show, state } = store;
  const { readNumbers, writeNumbers } = lib;
  const VIEWS = [...EXPLORE, "generate", "photos", "study", "about"];
  const OLDER = { compare: "picture", intervene: "layers", routing: "weights", batch: "photos" }; // names in older links
  const ASKED = ["kind", "label", "prompt", "negative", "seed", "steps", "guidance", "scale"]; // of Generate, in a link

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
    const [layer] = integer("layer", store.config.layers + 1);
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
      off: integer("off", store.config.layers + 1)
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
    let wanted = key ?? store.config.examples[0]?.name ?? null;
    const part = { centre, whole: whole && store.config.whole };
    const here = photos.get(wanted);
    if (here && partOf(here) !== partOf(part)) forget(here, part);
    if (wanted && !here) {
      const found = find ? await find(wanted, part) : null;
      if (!found) {
        const names = store.config.examples.map(({ name }) => name).join(", ");
        const reason = /^[0-9a-f]{16}$/.test(wanted)
          ? "This photo was kept in the browser it was opened in. Choose it again, or look at an example."
          : `The link names an example '${wanted.slice(0, 40)}' that is not here; there are ${names}.`;
        fail(reason);
        wanted = store.config.examples[0]?.name ?? null;
        if (wanted) await showKeepingFailure(wanted);
        return;
      }
    }
    if (wanted) await show(wanted);
    if (whole && !store.config.whole) fail("This model takes squares only, so the middle of the photo is shown.");
    set({ ...changes, view: state.view });
  }

  async function showKeepingFailure(key) {
    const [text, again] = [store.failure, store.retry];
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
    if (times && !store.config.report)
      setTimeout(() => {
        const open = document.getElementById(`tab-${view}-button`)?.getAttribute("aria-selected") === "true";
        if (!open && state.view === view) press(view, times - 1);
      }, 100);
  }

  // Open a view. Gradio shows a tab when its button is pressed, and mounts it the first time.
  function go(view) {
    press(view);
    if (store.config.report) document.getElementById(view)?.scrollIntoView(); // there all views stand below one another
    set({ view, ...(EXPLORE.includes(view) ? { explored: view } : {}) });
  }

  Object.assign(store, { address, findWith, follow, framed, go, link, read, restore });
})();
