// Names and values in as many columns as fit.
// data: { facts: [{ name, value, hint }] }

export default function ({ data, parentElement }) {
  const cells = data.facts.map(({ name, value, hint }) => {
    const cell = el("div", "fact");
    cell.title = hint;
    cell.append(el("span", "muted", name), el("b", "", value));
    return cell;
  });
  parentElement.querySelector(".root").replaceChildren(...cells);
}
