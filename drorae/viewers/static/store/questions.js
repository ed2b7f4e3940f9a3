// What the server is asked about a photo, and what becomes of its answers.

(() => {
  const { photos, state, tell } = store;
  const LATER = ["tiles", "standing", "frames", "similar", "tokenizers"]; // ended by a new photo, asked again when it is looked at
  const UNSEEN = ["tiles", "standing"]; // nobody is told that they are not there, so nobody asks for them again
  const LULL = 15_000; // milliseconds after which they are, where the page was too busy

  // Channels: a component of the page for every kind of question.
  const channels = {};

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
    if (channels[kind]) channels[kind].ask({ model: store.config.model.name, ...wish });
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
      tell(["asked"]);
      return;
    }
    if (kind === "routes") for (const each of photos.values()) for (const later of LATER) each.waiting.delete(later);
    const before = photos.get(channels[kind].wish?.key); // its question is overtaken
    if (before && before !== about) before.waiting.delete(kind);
    about.waiting.add(kind);
    delete about.problems[kind];
    channels[kind].wish = { kind, ...describe(key), model: store.config.model.name, ...wish };
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
      if (busy) store.putOff(about, error);
      else store.drop(answer.key, error);
    }
    if (busy && UNSEEN.includes(kind)) setTimeout(() => askAgain(kind, about), LULL * (1 + Math.random()));
    tell(["data"]);
  }

  function askAgain(kind, about) {
    delete about.problems[kind];
    tell(["data"]);
  }

  Object.assign(store, { UNSEEN, describe, halt, hear, mark, need, open, receive, request });
})();
