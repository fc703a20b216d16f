// Short lists of names with a value and a bar, side by side; a hollow bar is negative.
// data: { columns: [{ title, hint, rows: [{ name, value, length }] }] }, length in 0..1

export default function ({ data, parentElement }) {
  const columns = el("div", "columns");
  for (const { title, hint, rows } of data.columns) {
    const column = el("section");
    column.append(el("h4", "", title), el("div", "hint", hint));
    for (const { name, value, length } of rows) {
      const row = el("div", "row");
      const bar = el("span", value.startsWith("−") ? "bar negative" : "bar");
      bar.style.width = `${100 * length}%`;
      row.append(el("span", "name", name), el("span", "number", value), bar);
      column.append(row);
    }
    columns.append(column);
  }
  parentElement.querySelector(".root").replaceChildren(columns);
}
