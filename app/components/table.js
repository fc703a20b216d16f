// A page of a large table: headings that sort, rows that open, steps between pages. All are links.
// data: { columns: [{ title, kind, hint, order: "asc" | "desc" | "", sort | null, href }],
//         rows: [{ href, steer, target, cells: [text] }], said, pages: [{ text, hint, href, page | null }] }

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const bar = el("div", "bar");
  bar.append(el("span", "muted", data.said));
  const steps = el("span", "pages");
  for (const { text, hint, href, page } of data.pages) {
    const step = page ? link(text, href, page, (to) => setTriggerValue("page", to)) : el("span", "muted", text);
    if (hint) step.title = hint;
    steps.append(step);
  }
  bar.append(steps);

  const table = el("table");
  const head = table.createTHead().insertRow();
  for (const { title, kind, hint, order, sort, href } of data.columns) {
    const cell = el("th", kind);
    cell.title = hint;
    cell.scope = "col";
    if (order) cell.setAttribute("aria-sort", `${order}ending`);
    const mark = order ? (order === "asc" ? " ↑" : " ↓") : "";
    cell.append(sort ? link(title + mark, href, sort, (to) => setTriggerValue("sort", to)) : title);
    head.append(cell);
  }
  head.append(el("th", "more"));
  const body = table.createTBody();
  const open = (target) => setTriggerValue("go", target);
  for (const { href, steer, target, cells } of data.rows) {
    const line = body.insertRow();
    cells.forEach((text, i) => {
      const cell = el("td", data.columns[i].kind);
      if (i === 0) cell.append(link(text, href, target, open));
      else {
        cell.textContent = text;
        if (text.length > 12) cell.title = text;
      }
      line.append(cell);
    });
    const more = el("td", "more");
    const way = link("steer", steer, target, (to) => setTriggerValue("steer", to));
    way.setAttribute("aria-label", `steer by ${cells[0]}`);
    more.append(way);
    line.append(more);
    line.addEventListener("click", (event) => {
      const selected = String(getSelection());
      if (!event.target.closest("a") && !selected && !event.metaKey && !event.ctrlKey) open(target);
    });
  }
  body.addEventListener("keydown", (event) => {
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const to = way && event.target.closest("tr")?.[way]?.querySelector("a");
    if (!to) return;
    event.preventDefault();
    to.focus();
  });
  const frame = el("div", "frame");
  frame.append(table);
  root.replaceChildren(bar, frame);
}
