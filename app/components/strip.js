// A text as a strip of tokens, of which some can be selected: a click, a drag, or Enter on one.
// data: { tokens: [{ text, id, counted, breaks }], selected: [first, last] | null }
// Tells Python { select: "3" | "3-7" | "" }; pressing what is selected, or Esc, selects nothing.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const focused = root.querySelector(".tok:focus")?.dataset.position;
  const strip = el("div", "strip");
  let selected = data.selected, from = null;

  const spans = data.tokens.map((token, i) => {
    const span = el("span", token.counted ? "tok" : "tok uncounted", token.text || "◌");
    span.title = `id ${token.id}, position ${i}`;
    span.dataset.position = i;
    if (token.counted) span.tabIndex = 0;
    strip.append(span);
    if (token.breaks) strip.append(el("br"));
    return span;
  });

  function show() {
    spans.forEach((span, i) => span.classList.toggle("selected", !!selected && i >= selected[0] && i <= selected[1]));
  }
  function tell() {
    show();
    setTriggerValue("select", !selected ? "" : selected[0] === selected[1] ? `${selected[0]}` : `${selected[0]}-${selected[1]}`);
  }
  function toggle(at) {
    const same = data.selected && data.selected[0] === at && data.selected[1] === at;
    selected = same ? null : [at, at];
    tell();
  }
  const position = (event) => {
    const span = event.target.closest?.(".tok");
    return span && !span.classList.contains("uncounted") ? Number(span.dataset.position) : null;
  };
  strip.addEventListener("pointerdown", (event) => {
    from = position(event);
    if (from !== null) { selected = [from, from]; show(); }
  });
  strip.addEventListener("pointerover", (event) => {
    const to = position(event);
    if (from === null || to === null || !event.buttons) return;
    selected = [Math.min(from, to), Math.max(from, to)];
    show();
  });
  const done = () => {
    if (from === null) return;
    const [first, last] = selected;
    from = null;
    if (first === last) toggle(first);
    else tell();
  };
  strip.addEventListener("pointerup", done);
  strip.addEventListener("pointerleave", done);
  strip.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && selected) { selected = null; tell(); return; }
    const at = position(event);
    if (at === null) return;
    if (event.key === "Enter" || event.key === " ") { toggle(at); event.preventDefault(); }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) spans[at + step]?.focus();
  });

  root.replaceChildren(strip);
  if (focused !== undefined) spans[focused]?.focus();
  show();
}
