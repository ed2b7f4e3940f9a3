// The first sight: bar, strip and Picture are drawn before Gradio's scripts have run. They are moved, as they are, into
// Gradio's components once it has mounted them; until then what they ask of it waits.

// biome-ignore lint/correctness/noUnusedVariables: the page and its components use it
const early = (() => {
  const { state } = store;
  const PATIENCE = 1000; // milliseconds that Gradio waits for the first result at most
  const builders = {}; // functions of the views by name
  const hosts = {}; // where they stand early
  const mounted = {}; // the components that have come
  const links = {}; // what each view was given, to be connected with its component
  let root = null;
  let held = false; // a pointer that is down would lose what it drags

  // The function of a view: `build(element, props, watch, trigger, upload)`.
  const define = (name, build) => {
    builders[name] = build;
  };

  // What a view is given in the place of its component's: `connect` passes on what came before.
  function link(given) {
    let props = given;
    let connect;
    const component = new Promise((resolve) => {
      connect = resolve;
    });
    const watched = [];
    return {
      props: new Proxy({}, { get: (_, name) => props[name], set: (_, name, value) => Reflect.set(props, name, value) }),
      watch: (name, call) => watched.push([name, call]),
      trigger: (...event) => component.then(({ trigger }) => trigger(...event)),
      upload: async (...files) => (await component).upload(...files),
      connect(real) {
        props = real.props;
        for (const [name, call] of watched) real.watch(name, call);
        connect(real);
      },
    };
  }

  const build = (name, element, { props, watch, trigger, upload }) => {
    element.innerHTML = props.markup;
    builders[name](element, props, watch, trigger, upload);
  };

  // Draw the views that the page begins with, then fetch and run Gradio's script: the first of these files, which needs
  // the others. It is called where the page's body begins.
  function begin(files) {
    const start = once(() => {
      const [script, ...needed] = files.map((name) => `./assets/${name}`);
      document.head.append(parts.html("script", { type: "module", src: script, crossOrigin: "" }), ...needed.map(tag));
    });
    store.on(["asked"], start); // only it can pass on a question, and drawing may ask the first one
    if (!draw()) {
      start();
      return;
    }
    setTimeout(start, PATIENCE);
    const look = () => {
      if (document.documentElement.dataset.painted)
        setTimeout(start); // when that frame is on the screen
      else requestAnimationFrame(look);
    };
    look();
  }

  // The tag that fetches a script or a style before it is needed.
  function tag(href) {
    const kind = href.endsWith(".js") ? { rel: "modulepreload" } : { rel: "preload", as: "style" };
    return parts.html("link", { ...kind, crossOrigin: "", href });
  }

  function once(call) {
    let done = false;
    return () => {
      if (!done) call();
      done = true;
    };
  }

  function draw() {
    const components = window.gradio_config?.components ?? []; // none on a page that asks for a password
    const given = (name) => components.find(({ props }) => props?.elem_id === name)?.props.props;
    const names = Object.keys(builders);
    if (!names.every(given)) return false;
    root = parts.html("div", { id: "early" });
    document.body.prepend(root);
    keepTheme();
    for (const name of names) {
      hosts[name] = parts.html("div", { id: `early-${name}`, className: "first" });
      root.append(hosts[name]);
      links[name] = link(given(name));
      build(name, hosts[name], links[name]);
    }
    store.on(["view"], showView);
    showView();
    root.addEventListener("pointerdown", () => {
      held = true;
    });
    for (const end of ["pointerup", "pointercancel"])
      window.addEventListener(end, () => {
        held = false;
        if (root) settle();
      });
    return true;
  }

  // Gradio sets the colours of the system when it comes; the visitor's choice stays.
  function keepTheme() {
    const asked = new URLSearchParams(window.location.search).get("__theme");
    const system = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const first = ["dark", "light"].includes(asked) ? asked === "dark" : system;
    const keep = () => {
      if (root) document.body.classList.toggle("dark", state.dark ?? first);
      else observer.disconnect();
    };
    const observer = new MutationObserver(keep);
    observer.observe(document.body, { attributeFilter: ["class"] });
    keep();
  }

  function showView() {
    if (hosts.picture) hosts.picture.hidden = state.view !== "picture";
  }

  // A component of Gradio's is there. What stands early moves into it, all of it at once, so that nothing jumps.
  function mount(name, element, real) {
    if (!hosts[name]) {
      build(name, element, real);
      return;
    }
    mounted[name] = { element, real };
    settle();
  }

  function settle() {
    const ready = Object.keys(hosts).every((name) => mounted[name] || hosts[name].hidden);
    if (!ready || held) return;
    document.head.append(document.getElementById("drorae-style")); // behind Gradio's, which has rules as strong as ours
    const focused = document.activeElement;
    for (const name of Object.keys(hosts).filter((each) => mounted[each])) {
      const { element, real } = mounted[name];
      move(hosts[name], element);
      links[name].connect(real);
      delete hosts[name];
      delete mounted[name];
    }
    if (!Object.keys(hosts).length) {
      root.remove();
      root = null;
    } else root.hidden = true;
    refocus(focused);
  }

  // What lost the focus by being moved gets it back, once Gradio shows it, unless the hand is elsewhere by then.
  function refocus(node, frames = 600) {
    if (!node?.isConnected || document.activeElement !== document.body || node === document.body) return;
    node.focus({ preventScroll: true });
    if (frames) requestAnimationFrame(() => refocus(node, frames - 1));
  }

  // A move that keeps focus and animations, where the browser has one.
  function move(host, element) {
    host.removeAttribute("id");
    host.hidden = false;
    if (element.moveBefore && element.isConnected) element.moveBefore(host, null);
    else element.append(host);
  }

  return { begin, define, mount };
})();
