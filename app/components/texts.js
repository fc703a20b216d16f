// Texts side by side, tokens that differ underlined.
// data: { texts: [{ title, note, prompt, pieces: [[text, changed]], rail, warnings: [text] }], hint }

const MARKS = { "\t": "⇥", "\r": "␍" };
const shown = (piece) => piece.replace(/[\t\r]/g, (mark) => MARKS[mark]);

/** A token; a line break is shown, and breaks the line there. */
function token(piece, kind) {
  const span = el("span", kind);
  piece.split("\n").forEach((part, i) => {
    if (i) span.append("↵", el("br"));
    span.append(shown(part));
  });
  return span;
}

function spoken(one) {
  const text = el("div", "text");
  if (one.prompt) text.append(token(one.prompt, "given"));
  for (const [piece, changed] of one.pieces) text.append(token(piece, changed ? "tok changed" : "tok"));
  return text;
}

function column(one) {
  const box = el("div", "col"), title = el("h4", "", one.title);
  title.append(el("span", "muted", one.note));
  box.append(title, spoken(one), el("div", "rail", one.rail));
  for (const warning of one.warnings) box.append(el("div", "warn", warning));
  return box;
}

export default function ({ data, parentElement }) {
  const cols = el("div", "cols");
  cols.append(...data.texts.map(column));
  parentElement.querySelector(".root").replaceChildren(cols, el("div", "hint", data.hint));
}
