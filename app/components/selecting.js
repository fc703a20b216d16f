// A text as a strip of tokens, of which some can be selected: a click, a drag, or Enter on one.

/** The strip, and a span for each token. tokens: [{ text, id, counted, breaks }]; those that do not count cannot be
 *  selected. Calls `drag(first, last)` as a selection grows, `end()` when the pointer lets go or leaves, `press(position)`
 *  for Enter and `clear()` for Esc. */
function selecting(tokens, { drag, end, press, clear }) {
  const strip = el("div", "strip");
  let from = null;

  const spans = tokens.map((token, i) => {
    const span = el("span", token.counted ? "tok" : "tok uncounted", token.text || "◌");
    span.title = `id ${token.id}, position ${i}`;
    span.dataset.position = i;
    if (token.counted) span.tabIndex = 0;
    strip.append(span);
    if (token.breaks) strip.append(el("br"));
    return span;
  });

  const position = (event) => {
    const span = event.target.closest?.(".tok");
    return span && !span.classList.contains("uncounted") ? Number(span.dataset.position) : null;
  };
  const done = () => {
    if (from === null) return;
    from = null;
    end?.();
  };
  strip.addEventListener("pointerdown", (event) => {
    from = position(event);
    if (from !== null) drag(from, from);
  });
  strip.addEventListener("pointerover", (event) => {
    const to = position(event);
    if (from !== null && to !== null && event.buttons) drag(Math.min(from, to), Math.max(from, to));
  });
  strip.addEventListener("pointerup", done);
  if (end) strip.addEventListener("pointerleave", done);
  strip.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { clear(); return; }
    const at = position(event);
    if (at === null) return;
    if (event.key === "Enter" || event.key === " ") { press(at); event.preventDefault(); }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) spans[at + step]?.focus();
  });
  return { strip, spans };
}
