// A channel of the page: passes one kind of question on to the server, and its answer to the store.

store.open(
  props.kind,
  (wish) => {
    props.value = wish;
    trigger("ask");
  },
  () => trigger("stop"),
);
watch("answer", () => store.receive(props.kind, props.answer));
