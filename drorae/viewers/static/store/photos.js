// The photos in the tray: which there are, which one is looked at, and which part of it.

(() => {
  const { fail, need, on, photos, set, state, tell } = store;
  const KEPT = 8; // photos in the tray
  const NOWHERE = { token: null, pixel: null, pinned: false, area: [], against: null, region: [] }; // of a grid

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

  // The answer to what the page asked before its scripts were there (head_start.py), once.
  function earlyAnswer(address) {
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
    const bundle = about.centre || about.whole ? null : store.config.bundles?.[about.example];
    if (bundle && !about.tried) {
      const { version } = about;
      about.tried = true;
      about.waiting.add("routes");
      try {
        const answer = await (earlyAnswer(bundle) ?? fetch(new URL(bundle, document.baseURI)));
        if (!answer.ok) throw new Error(answer.statusText);
        const { model, kinds } = await answer.json();
        if (model === store.config.model.hash && about.version === version) Object.assign(about.kinds, kinds);
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
    store.config = { ...store.config, ...values };
    for (const { name, title, thumbnail, source } of store.config.examples)
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

  Object.assign(store, { add, changeModel, configure, crop, drop, forget, putOff, show });
})();
