// Below: grid, walk, from my photo, morph. Each is a heading, a line of controls, a sentence and its pictures.

function part(title, explanation, controls, press, name) {
  const heading = html("h2", { textContent: title });
  const button = html("button", { type: "button", className: "btn", textContent: name });
  const told = html("p", { className: "told", role: "status" });
  const result = html("div", { className: "result" });
  const self = { node: null, heading, button, told, result, run: null, draw: () => {} };
  self.tell = (sentence, error = false) => {
    told.textContent = sentence ?? "";
    told.classList.toggle("error", error);
  };
  button.addEventListener("click", () => {
    if (self.run && view.run === self.run) halt(self.run);
    else press();
  });
  self.draw = () => {
    const mine = self.run !== null && view.run === self.run;
    button.textContent = mine ? "Stop" : name;
    button.disabled = view.run !== null && !mine;
  };
  self.begin = (wish, take) => {
    self.run = { what: wish.what, tell: self.tell, take };
    self.tell("Waiting for its turn ...");
    begin(self.run, wish);
  };
  self.node = html("section", { className: "part" }, [
    heading,
    html("p", { textContent: explanation }),
    html("div", { className: "asks" }, [...controls, button]),
    told,
    result,
  ]);
  return self;
}
const hasText = () => {
  if (text()) return true;
  tell("Say what to make first.", true);
  draw();
  window.scrollTo({ top: 0 });
  input.focus();
  return false;
};
const below = [];
