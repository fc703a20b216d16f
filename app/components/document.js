// A document as it was read: whole, with one feature's heat, and the place one came from.
// data: { max, segments: [{ title, first, texts, ids, breaks: [i of tokens with a line break], acts: [[i, act]], known: [[from, to]], here }] }
// `first` is the position of the first token, `known` where activations are known (half open).

function strip(segment, max) {
  const acts = new Map(segment.acts);
  const known = (i) => segment.known.some(([from, to]) => i >= from && i < to);
  const text = el("div", "strip");
  segment.texts.forEach((shown, i) => {
    const span = el("span", known(i) ? "tok" : "tok outside");
    const parts = segment.breaks.includes(i) ? shown.split(/(?<=↵)/) : [shown];
    for (const part of parts) span.append(part, ...(part.endsWith("↵") ? [el("br")] : []));
    const act = acts.get(i);
    if (act) {
      span.classList.add(act > 0 ? "positive" : "negative");
      span.style.setProperty("--heat", Math.min(1, Math.abs(act) / max) ** 0.7);
    }
    if (i === segment.here) span.classList.add("here");
    const said = act ? act.toFixed(3).replace("-", "−") : known(i) ? "0" : "not known";
    span.title = `${shown}  id ${segment.ids[i]}, position ${segment.first + i}, activation ${said}`;
    text.append(span);
  });
  return text;
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  const nodes = data.segments.flatMap((one) => [el("div", "title", one.title), strip(one, data.max)]);
  root.replaceChildren(...nodes);
  root.querySelector(".here")?.scrollIntoView({ block: "center" });
}
