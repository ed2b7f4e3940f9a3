// The walk from one seed to another, and from one class or text to another.

function buildWalk() {
  const ask = { from: 0, to: 1, end: "" };
  const names = html("datalist", { id: "generate-names" });
  const end = textInput("", (value) => {
    ask.end = value;
  });
  end.setAttribute("list", "generate-names");
  const play = player(() => self.result.querySelectorAll(".walk"));
  const number = (name) =>
    numberInput(ask[name], 0, 2 ** 32 - 1, 1, (value) => {
      ask[name] = value;
    });
  const [from, to] = [number("from"), number("to")];
  const self = part(
    "Walk between two",
    "From one seed to another along the arc between their noises, and from what the line above says to something else, if you name it.",
    [
      field("From seed", from, "", "narrow"),
      field("To seed", to, "", "narrow"),
      field("To class or words", end, "", "wide"),
      names,
    ],
    () => {
      if (!hasText()) return;
      play.stop();
      const last = ask.end.trim() || text();
      const [start, { from: a, to: b }] = [text(), { ...ask }];
      const wish = { what: "walk", ...sampler(), other: "", subject: subject(), end: subject(last), seeds: [a, b] };
      const other = last !== start;
      self.heading.textContent = other
        ? `Walk from ${start}, seed ${a}, to ${last}, seed ${b}`
        : `Walk from seed ${a} to seed ${b}`;
      self.begin(wish, (value) => {
        if (!value.pictures?.length) return;
        const captions = value.pictures.map((_, i) =>
          i === 0 ? `seed ${a}` : i === value.pictures.length - 1 ? `seed ${b}` : "",
        );
        self.result.replaceChildren(stripOf(value.pictures, captions, `From seed ${a} to seed ${b}`));
        if (value.running) return;
        self.tell("");
        self.result.append(play.button);
      });
    },
    "Walk",
  );
  const draw = self.draw;
  self.draw = () => {
    draw();
    const { kind, names: known, suggestions } = generator();
    const choices = kind === "text" ? suggestions : known;
    if (names.dataset.of !== generator().title) {
      names.dataset.of = generator().title;
      names.replaceChildren(...choices.slice(0, 1000).map((value) => html("option", { value })));
    }
    end.placeholder = text() ? `the same: ${text()}` : "";
    // the walk begins with the pictures that are shown
    const shown = view.seeds.join();
    if (view.seeds.length > 1 && self.seen !== shown && !view.run) {
      self.seen = shown;
      [ask.from, ask.to] = [view.seeds[0], view.seeds[view.seeds.length - 1]];
      [from.value, to.value] = [ask.from, ask.to];
    }
  };
  return self;
}
