// The features of a list: order, notes, and a way out of it.
// data: { writable, rows: [{ feature, href, target | null, label, density, max, note, unsaved, problem }] }

const FACTS = [["density", "share of tokens on which it is active"], ["max", "largest |activation|"]];

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const open = (target) => setTriggerValue("go", target);
  const act = (kind, feature, text = "") => setTriggerValue("act", { kind, feature, text });
  const focused = root.getRootNode().activeElement;
  const kept = focused?.matches?.("input.note") && {
    feature: focused.dataset.feature, value: focused.value, at: focused.selectionStart,
  };

  const button = (text, title, disabled, work) => {
    const node = el("button", "act", text);
    node.title = title;
    node.setAttribute("aria-label", title);
    node.disabled = disabled;
    node.addEventListener("click", work);
    return node;
  };
  const note = (row) => {
    if (!data.writable) return el("span", "", row.note);
    const input = el("input", row.unsaved ? "note unsaved" : "note");
    input.value = row.note;
    input.maxLength = 5000;
    input.placeholder = "note";
    input.dataset.feature = row.feature;
    input.setAttribute("aria-label", `note of ${row.feature}`);
    input.addEventListener("change", () => act("note", row.feature, input.value));
    input.addEventListener("keydown", (event) => event.key === "Enter" && input.blur());
    return input;
  };

  const table = el("table", "ruled");
  const head = table.createTHead().insertRow();
  if (data.writable) head.append(el("th", "order"));
  head.append(el("th", "", "feature"), el("th", "", "label"));
  for (const [name, hint] of FACTS) {
    const cell = el("th", "number", name);
    cell.title = hint;
    head.append(cell);
  }
  head.append(el("th", "wide", "note in this list"));
  if (data.writable) head.append(el("th"));
  const body = table.createTBody();
  data.rows.forEach((row, i) => {
    const line = body.insertRow();
    if (data.writable) {
      const cell = el("td", "order");
      cell.append(
        button("↑", `move ${row.feature} up`, i === 0, () => act("up", row.feature)),
        button("↓", `move ${row.feature} down`, i === data.rows.length - 1 && data.last, () => act("down", row.feature)),
      );
      line.append(cell);
    }
    const name = el("td", "code");
    name.append(row.target ? link(row.feature, row.href, row.target, open) : el("span", "", row.feature));
    if (row.problem) name.append(el("div", "amber", row.problem));
    const noted = el("td", "wide");
    noted.append(note(row));
    const label = el("td", "label", row.label);
    label.title = row.label;
    line.append(name, label, el("td", "number", row.density), el("td", "number", row.max), noted);
    if (data.writable) {
      const out = el("td", "order");
      out.append(button("×", `remove ${row.feature}`, false, () => act("remove", row.feature)));
      line.append(out);
    }
  });
  root.replaceChildren(table);
  if (kept) {
    const again = [...root.querySelectorAll("input.note")].find((one) => one.dataset.feature === kept.feature);
    if (again) {
      again.value = kept.value;
      again.focus();
      again.setSelectionRange(kept.at, kept.at);
    }
  }
}
