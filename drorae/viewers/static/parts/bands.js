// What came back, by size of detail.

(() => {
  const { html } = parts;
  const { clamp, number, percent } = lib;

  // Size of the detail of a band, in pixels per wave.
  function bandName(edges, band) {
    const size = (edge) => number(1 / edge, 1 / edge < 10 && (1 / edge) % 1 ? 1 : 0);
    if (band === 0) return `over ${size(edges[1])}`;
    if (band === edges.length - 2) return `under ${size(edges[band])}`; // with the corners of the spectrum
    return `${size(edges[band + 1])}\u2013${size(edges[band])}`;
  }

  // What came back in every band: the share of the last layer's error that is gone with a route; null where it had none.
  function recovery({ energies }, name) {
    return energies.rae.map((lost, band) => (lost > 0.01 && energies[name] ? 1 - energies[name][band] / lost : null));
  }

  const lastRoute = (routes) => ["drorae", "phase2"].find((name) => routes.pictures[name]) ?? null;

  function drawBands(node, routes) {
    const name = lastRoute(routes);
    if (!name || !routes.edges) return;
    const [now, before] = [recovery(routes, name), name === "drorae" ? recovery(routes, "phase2") : []];
    node.replaceChildren(
      ...now.flatMap((value, band) => {
        const well = html("span", { className: "well" });
        if (value !== null) {
          const bar = html("i", { className: value < 0 ? "neg" : "" });
          bar.style.width = `${100 * clamp(Math.abs(value), 0, 1)}%`;
          well.append(bar);
        }
        if ((before[band] ?? null) !== null) {
          const line = html("s");
          line.style.left = `${100 * clamp(before[band], 0, 1)}%`;
          well.append(line);
        }
        return [
          html("span", { className: "name", textContent: bandName(routes.edges, band) }),
          well,
          html("span", { textContent: value === null ? "" : percent(value) }),
        ];
      }),
    );
  }

  Object.assign(parts, { bandName, drawBands, lastRoute, recovery });
})();
