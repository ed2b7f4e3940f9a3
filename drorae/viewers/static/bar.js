// The bar: photos in and out, the pages, the menu, dark and light. Its files are opened here, dropped or pasted anywhere.

const { html, image, say } = parts;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
store.configure(props.config);
const NAMES = {
  explore: "Explore",
  photos: "Many photos",
  study: "Study",
  about: "About",
  frequency: "By size of detail",
  tokenizers: "Other tokenizers",
};

// Photos that visitors open stay in their own browser, so that a reload brings them back.
const shelf = (() => {
  const KEPT = 8;
  const opened = new Promise((resolve) => {
    try {
      const request = indexedDB.open("drorae", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("photos", { keyPath: "key" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null); // private windows may have none
    } catch {
      resolve(null);
    }
  });
  const result = (request) =>
    new Promise((resolve) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
    });
  async function table(mode) {
    const base = await opened;
    return base ? base.transaction("photos", mode).objectStore("photos") : null;
  }
  return {
    async put(key, file, size) {
      const all = await table("readwrite");
      if (!all) return;
      await result(all.put({ key, file, size, name: file.name, time: Date.now() }));
      const stored = (await result((await table("readonly")).getAll())) ?? [];
      const old = stored.sort((a, b) => b.time - a.time).slice(KEPT);
      const writing = await table("readwrite");
      for (const each of old) writing.delete(each.key);
    },
    async remove(key) {
      const all = await table("readwrite");
      if (all) await result(all.delete(key));
    },
    async get(key) {
      const all = await table("readonly");
      return all ? ((await result(all.get(key))) ?? null) : null;
    },
  };
})();

// First 16 hex digits of the sha256 of a file. Where the browser has no such function (http on another machine), a plain
// checksum names the photo in its place.
async function keyOf(file) {
  const bytes = await file.arrayBuffer();
  if (crypto.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return [...digest.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  let [a, b] = [0x811c9dc5, 0x01000193];
  for (const byte of new Uint8Array(bytes)) {
    a = Math.imul(a ^ byte, 0x01000193) >>> 0;
    b = Math.imul(b + byte, 0x85ebca6b) >>> 0;
  }
  return [a, b].map((part) => part.toString(16).padStart(8, "0")).join("");
}

// Look at a file. Generated pictures give their own size; photos are looked at at the page's.
async function openFile(file, { keep = true, centre = null, whole = null, size = null } = {}) {
  if (!file) return null;
  store.fail(null);
  const before = state.photo;
  const key = await keyOf(file);
  if (store.photos.has(key) && store.photo(key).file) {
    await store.show(key);
    return key;
  }
  const about = store.add({ key, name: file.name, thumbnail: URL.createObjectURL(file), centre, whole, size });
  about.pending = true;
  leaveFor(key);
  if (keep) shelf.put(key, file, size); // at once: the page may be reloaded while it is sent
  try {
    const { path } = await upload(file);
    about.file = { path };
  } catch (error) {
    store.photos.delete(key);
    if (keep) shelf.remove(key);
    store.set({ photo: before });
    const reason = lib.refusal(error) ?? "It may be larger than this page takes, or there is no room here now.";
    store.fail(`${file.name} could not be sent. ${reason}`);
    return null;
  }
  about.pending = false;
  if (state.photo === key) await store.show(key);
  return key;
}

// A new photo is looked at where photos are.
function leaveFor(key) {
  if (!store.EXPLORE.includes(state.view)) store.go(state.explored);
  store.show(key);
  if (state.step === 4) store.set({ step: 5 });
}

store.findWith(async (key, part) => {
  const kept = await shelf.get(key);
  return kept ? openFile(kept.file, { keep: false, ...part, size: kept.size }) : null;
});
store.openFile = openFile;

// Tray: shift and click puts two side by side.
function drawTray() {
  const shown = [...store.photos.values()].filter((each) => each.thumbnail);
  const own = shown.filter((each) => !each.example).slice(-8);
  const rest = shown.filter((each) => each.example).slice(0, Math.max(0, 8 - own.length));
  find("tray").replaceChildren(
    ...[...own.reverse(), ...rest].map(({ key, name, thumbnail }) => {
      const button = html("button", {
        type: "button",
        title: `${name}. Shift and click puts it beside the other.`,
        "aria-label": name,
        "aria-pressed": key === state.photo,
      });
      button.className = key === state.second ? "second" : "";
      button.append(html("img", { src: thumbnail, alt: "" }));
      button.addEventListener("click", (event) => {
        if (event.shiftKey && key !== state.photo) {
          store.set({ second: state.second === key ? null : key });
          if (state.second) beside(key);
          return;
        }
        if (state.second === key) store.set({ second: null });
        leaveFor(key);
      });
      return button;
    }),
  );
}

// The photo beside the other needs its own routes.
async function beside(key) {
  const first = state.photo;
  await store.show(key);
  await store.show(first);
}

function drawLinks() {
  for (const link of find("links").querySelectorAll("a")) {
    const here =
      link.dataset.view === state.view || (link.dataset.view === "explore" && store.EXPLORE.includes(state.view));
    link.toggleAttribute("aria-current", here);
    if (here) link.setAttribute("aria-current", "page");
  }
  const buttons = [...find("tabbar").querySelectorAll("button")];
  const open = buttons.find((button) => button.dataset.view === state.view) ?? buttons.at(-1); // the others are in More
  for (const button of buttons) button.toggleAttribute("aria-current", button === open);
}

for (const link of find("links").querySelectorAll("a"))
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    store.go(link.dataset.view === "explore" ? state.explored : link.dataset.view);
  });
for (const button of find("tabbar").querySelectorAll("[data-view]"))
  button.addEventListener("click", () => store.go(button.dataset.view));
find("home").addEventListener("click", (event) => {
  event.preventDefault();
  store.go("picture");
});

find("add").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", () => {
  openFile(find("file").files[0]);
  find("file").value = "";
});
store.on(["choose"], () => find("file").click());
let dragging = 0;
const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
// Many photos takes its own files, wherever they fall while it is open
const ours = (event) => state.view !== "photos" && !event.target.closest?.("[data-drop-own]");
document.addEventListener("dragenter", (event) => {
  if (!carriesFile(event) || !ours(event)) return;
  dragging += 1;
  find("dropzone").hidden = false;
});
document.addEventListener("dragleave", () => {
  dragging = Math.max(0, dragging - 1);
  if (!dragging) find("dropzone").hidden = true;
});
document.addEventListener("dragover", (event) => {
  if (carriesFile(event) && ours(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  dragging = 0;
  find("dropzone").hidden = true;
  if (!carriesFile(event) || !ours(event)) return;
  event.preventDefault();
  openFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
  if (file && !event.target.closest?.("input, textarea")) openFile(file);
});

function turnDark(dark) {
  document.body.classList.toggle("dark", dark);
  localStorage.setItem("drorae-theme", dark ? "dark" : "light");
  parts.redraw();
  store.set({ dark });
}
const theme = () => turnDark(!parts.dark());
find("theme").addEventListener("click", theme);
find("dismiss").addEventListener("click", () => store.fail(null));
const remembered = localStorage.getItem("drorae-theme");
if (remembered && !new URLSearchParams(window.location.search).has("__theme")) turnDark(remembered === "dark");

// Menus.

function menu(button, node, build) {
  const close = (focus) => {
    node.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (focus) button.focus();
  };
  button.addEventListener("click", () => {
    if (!node.hidden) {
      close();
      return;
    }
    node.replaceChildren(...build(close));
    node.hidden = false;
    button.setAttribute("aria-expanded", "true");
    node.querySelector("button")?.focus({ preventScroll: true });
  });
  node.addEventListener("keydown", (event) => {
    const items = [...node.querySelectorAll("button")];
    const at = items.indexOf(document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) items[(at + move + items.length) % items.length]?.focus();
    else if (event.key === "Escape") close(true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!node.hidden && !node.contains(event.target) && !button.contains(event.target)) close();
  });
}
menu(find("share"), find("menu"), (close) => share.items(close));
menu(find("tabbar").querySelector('[data-part="more"]'), find("sheet"), (close) =>
  ["frequency", "tokenizers", "photos", "study", "about"].map((view) =>
    html("button", {
      type: "button",
      role: "menuitem",
      textContent: NAMES[view],
      onclick: () => {
        close();
        store.go(view);
      },
    }),
  ),
);

// Keys of the page. They never act while one types.
const typing = (node) =>
  node.closest?.('input:not([type="range"]), textarea, select, [contenteditable="true"], [role="menu"], dialog');
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const view = { 1: "picture", 2: "layers", 3: "weights", 4: "frequency", 5: "generate" }[event.key];
  const key = event.key.toLowerCase();
  if (view) store.go(view);
  else if (key === "l") share.copyLink();
  else if (key === "d") theme();
  else if (key === "f" && store.data("routes")) store.set({ full: "drorae" });
  else if (event.key === "Escape" && (state.pinned || state.token !== null)) parts.release();
  else if (event.key === " " && !event.target.closest?.("button, a, [role=button], input")) {
    event.preventDefault();
    store.set({ playing: !state.playing });
  }
});

function drawFailure() {
  find("failure").hidden = !store.failure;
  find("reason").textContent = store.failure ?? "";
  if (!store.failure || !store.retry) return;
  const button = html("button", { type: "button", className: "btn small", textContent: "Try again" });
  button.addEventListener("click", store.retry);
  find("reason").append(" ", button);
}

// How many others are before the visitor, in the lane where most are.
function drawPlace() {
  const asked = Object.entries(state.places ?? {}).filter(([kind]) => !store.UNSEEN.includes(kind));
  const most = Math.max(0, ...asked.map(([, ahead]) => ahead));
  find("place").textContent = most ? words.ahead(most) : "";
}

store.on(["photos", "photo", "second", "config"], drawTray);
store.on(["view"], drawLinks);
store.on(["failure"], drawFailure);
store.on(["places"], drawPlace);
store.on(["photo", "data"], () => {
  const routes = store.data("routes");
  if (routes && state.said !== state.photo) {
    store.set({ said: state.photo });
    say(words.headline(parts.gain(), routes.layers));
  }
});
watch("changed", () => {
  if (props.changed) store.changeModel(props.changed);
});
drawTray();
drawLinks();
drawFailure();
image(store.config.examples[0]?.thumbnail ?? "data:,");
store.follow();
store.restore(window.location.search);
