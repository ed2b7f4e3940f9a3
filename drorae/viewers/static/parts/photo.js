// The photo that is shown: its pictures, its numbers, and the places that are looked at.

(() => {
  const { image, paintPixels } = parts;
  const { decodeBase64, mean, signedNumber, unpack } = lib;
  const { state } = store;

  const LEVELS = 64; // of 255, at the ends of the scale of gains: the same for every photo and view

  const shape = () => {
    const routes = store.data("routes");
    return routes ? { width: routes.width, height: routes.height, rows: routes.rows, columns: routes.columns } : null;
  };

  // The picture of a route of the photo that is shown, or null while it is not there.
  const route = (name, key) => {
    const source = store.data("routes", key)?.pictures[name];
    return source ? image(source) : null;
  };

  // Numbers of a photo, unpacked once.
  const unpacked = new WeakMap();
  function numbers(name, key) {
    const routes = store.data("routes", key);
    if (!routes?.[name]) return null;
    if (!unpacked.has(routes)) unpacked.set(routes, {});
    const known = unpacked.get(routes);
    known[name] ??= unpack(routes[name]);
    return known[name];
  }

  // The tokens that are looked at: a rectangle, the one under the pointer, or null for the whole photo.
  const selection = () => (state.area.length ? state.area : state.token === null ? null : [state.token]);

  // Share of every layer: the mean over tokens, or over the photo.
  const averages = new WeakMap(); // of photos, by their numbers: every part of the page asks for them
  function shares(tokens = null, key = state.photo) {
    const routes = store.data("routes", key);
    const all = numbers("shares", key);
    if (!all) return null;
    const { layers } = routes;
    const over = (list) => Array.from({ length: layers }, (_, k) => mean(list.map((token) => all[token * layers + k])));
    if (tokens !== null) return over([tokens].flat());
    if (!averages.has(all)) averages.set(all, over([...Array(all.length / layers).keys()]));
    return [...averages.get(all)];
  }

  // The principal components of a layer, as colours.
  function components(layer) {
    const routes = store.data("routes");
    if (!routes?.components) return null;
    const colours = new Uint8Array(decodeBase64(routes.components));
    const count = routes.rows * routes.columns;
    const canvas = document.createElement("canvas");
    paintPixels(canvas, routes.columns, routes.rows, (i) =>
      colours.subarray(3 * (layer * count + i), 3 * (layer * count + i + 1)),
    );
    return canvas;
  }

  // What a route gains over the last layer alone, dB: the one that was trained last, or another; null where there is no
  // fusion.
  function gain(key, name = null) {
    const metrics = store.data("routes", key)?.metrics;
    const route = name ? metrics?.[name] : (metrics?.drorae ?? metrics?.phase2);
    return route && metrics.rae.psnr !== null && route.psnr !== null ? route.psnr - metrics.rae.psnr : null;
  }

  const rowAndColumn = (token) => {
    const { columns } = shape();
    return [Math.floor(token / columns) + 1, (token % columns) + 1];
  };

  // The tokens that are looked at, in words.
  function place(tokens, row = "row", column = "col") {
    if (tokens.length > 1) return `mean of ${tokens.length} places`;
    const [r, c] = rowAndColumn(tokens[0]);
    return `${row} ${r}, ${column} ${c}`;
  }

  function aboutToken(token) {
    const tokens = state.area.length ? state.area : [token];
    const here = shares(tokens);
    const where = words.capital(place(tokens, "row", "column"));
    if (!here) return `${where}.`;
    const order = [...here.keys()].sort((a, b) => here[b] - here[a]);
    const [most, least] = [order[0], order[order.length - 1]];
    return `${where}: layer ${most + 1} added most, ${signedNumber(here[most], 2)}; layer ${least + 1} least, ${signedNumber(here[least], 2)}.`;
  }

  Object.assign(parts, {
    LEVELS,
    aboutToken,
    selection,
    components,
    gain,
    numbers,
    place,
    route,
    rowAndColumn,
    shape,
    shares,
  });
})();
