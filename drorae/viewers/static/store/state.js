// One store for the whole page: what is looked at, and what is known of every photo. Views read it and subscribe to it;
// pointing, sliding and switching change it and ask the server for nothing. The files after it add the rest.

const store = (() => {
  const EXPLORE = ["picture", "layers", "weights", "frequency", "tokenizers"];
  const BESIDE = 8; // tokenizers beside the model's own

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

  // Say that something failed; `again` does it once more, where that may help.
  function fail(text, again = null) {
    store.failure = text;
    store.retry = again;
    tell(["failure"]);
  }

  return {
    BESIDE,
    EXPLORE,
    config: { examples: [], model: {}, size: 0, layers: 0, whole: false },
    data,
    fail,
    failure: null,
    on,
    photo,
    photos,
    problem,
    retry: null,
    set,
    state,
    tell,
    waits,
  };
})();
