// A small table; the first cell of a row with a target is a link.
// data: { ruled, columns: [{ name, kind, hint }], rows: [{ href, target | null, cells: [text], notes: [text] }] }

export default function ({ data, parentElement, setTriggerValue }) {
  const send = (target) => setTriggerValue("go", target);
  const table = el("table", data.ruled ? "ruled" : "");
  const head = table.createTHead().insertRow();
  for (const column of data.columns) {
    const cell = el("th", column.kind, column.name);
    if (column.hint) cell.title = column.hint;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of data.rows) {
    const line = body.insertRow();
    if (row.notes.length) line.className = "noted";
    row.cells.forEach((text, i) => {
      const linked = i === 0 && row.target;
      const cell = el("td", data.columns[i].kind, linked ? "" : text);
      if (linked) cell.append(link(text, row.href, row.target, send));
      else cell.title = text;
      line.append(cell);
    });
    for (const note of row.notes) {
      const cell = el("td", "note", note);
      cell.colSpan = data.columns.length;
      body.insertRow().append(cell);
    }
  }
  parentElement.querySelector(".root").replaceChildren(table);
}
