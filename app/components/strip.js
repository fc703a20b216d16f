// A text as a strip of tokens, of which some can be selected: a click, a drag, or Enter on one.
// data: { tokens: [{ text, id, counted, breaks }], selected: [first, last] | null }
// Tells Python { select: "3" | "3-7" | "" }; pressing what is selected, or Esc, selects nothing.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const focused = root.querySelector(".tok:focus")?.dataset.position;
  let selected = data.selected;
  const { strip, spans } = selecting(data.tokens, {
    drag(...positions) { selected = positions; show(); },
    end() {
      if (selected[0] === selected[1]) toggle(selected[0]);
      else tell();
    },
    press: toggle,
    clear() {
      if (!selected) return;
      selected = null;
      tell();
    },
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

  root.replaceChildren(strip);
  if (focused !== undefined) spans[focused]?.focus();
  show();
}
