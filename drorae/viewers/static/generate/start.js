// What is there when the view opens.

find("maker").hidden = !generators.length;
find("none").hidden = generators.length > 0;
find("none").querySelector("p").textContent = props.config.none;
if (generators.length) below.push(buildGrid(), buildWalk(), buildFromPhoto());
below.push(buildMorph());
find("more").append(...below.map(({ node }) => node));

store.on(["photos", "photo", "second"], () => {
  for (const each of below) each.draw();
});
for (const each of below) each.draw();
if (generators.length) {
  view.pick = chosenSeeds() ? "chosen" : "first";
  fillSettings();
  const linked = store.read(window.location.search);
  store.on(["ask"], () => {
    if (JSON.stringify(state.ask) !== view.asked && Object.keys(state.ask).length) follow(state.ask);
    draw();
  });
  if (linked.view === "generate" && Object.keys(linked.ask).length) follow(linked.ask);
  else first();
  draw();
}
