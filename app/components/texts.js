// Texts side by side, tokens that differ underlined.
// data: { texts: [{ title, note, prompt, pieces: [[text, changed]], rail, warnings: [text] }], hint }

const MARKS = { "\n": "↵", "\t": "⇥", "\r": "␍" };
const shown = (piece) => piece.replace(/[\n\t\r]/g, (mark) => MARKS[mark]);

function spoken(one) {
  const text = el("div", "text");
  if (one.prompt) text.append(el("span", "given", shown(one.prompt)));
  for (const [piece, changed] of one.pieces) {
    text.append(el("span", changed ? "tok changed" : "tok", shown(piece)));
    if (piece.includes("\n")) text.append(el("br"));
  }
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
