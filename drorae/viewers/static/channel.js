// A channel of the page: passes one kind of question on to the server, and its answer to the store. While a question waits
// in line, the answer says how many others are before it.

const stand = (places) => store.set({ places: { ...store.state.places, ...places } });
store.open(
  props.kind,
  (wish) => {
    if (props.kind === "routes") stand({ frames: 0 }); // a new photo ends them
    props.value = wish;
    trigger("ask");
  },
  () => {
    stand({ [props.kind]: 0 });
    trigger("stop");
  },
);
watch("answer", () => {
  const { ahead } = props.answer ?? {};
  stand({ [props.kind]: ahead ?? 0 });
  if (ahead === undefined) store.receive(props.kind, props.answer);
});
