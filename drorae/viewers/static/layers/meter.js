// The meter: how far the change is from what the decoder was trained on.

function drawMeter(frame) {
  const { question, near, far, answer, more, place } = words.meter(frame ?? {});
  find("question").textContent = question;
  find("near").textContent = near;
  find("far").textContent = far;
  find("verdict").replaceChildren(html("b", { textContent: answer }), more);
  find("meter").classList.toggle("unknown", place === null);
  if (place !== null) find("needle").style.left = `${clamp(place, 1, 99)}%`;
}
