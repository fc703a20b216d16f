// The effect of ablating a feature, a line for each context.
// data: { lines: [{ value, next, window, hint, left: [text], peak, after, moved: [{ token, before, after }] }] }
//   Every value is a string, ready to be read.

function line({ value, next, window, hint, left, peak, after, moved }) {
  const row = el("div", "line");
  row.title = hint;
  for (const number of [value, next, window]) row.append(el("span", "number", number));
  const text = el("span", "text");
  text.append(...left.map((token) => el("span", "", token)));
  text.append(el("span", "peak", peak), el("span", "next", after));
  const moves = el("span", "moved");
  for (const one of moved) {
    const move = el("span", "move");
    move.append(el("span", "token", one.token), el("span", "figures", ` ${one.before} → ${one.after}`));
    moves.append(move);
  }
  moves.title = moved.map((one) => `${one.token}  ${one.before} → ${one.after}`).join("\n");
  row.append(text, moves);
  return row;
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  const head = el("div", "head");
  const titles = ["activation", "Δ next", "Δ window"];
  head.append(...titles.map((title) => el("span", "number", title)));
  head.append(el("span", "text", "peak, and the token after it"), el("span", "moved", "probabilities at the peak, clean → ablated"));
  root.replaceChildren(head, ...data.lines.map(line));
  const fit = () => root.classList.toggle("narrow", root.clientWidth < 760);
  const watch = new ResizeObserver(fit);
  watch.observe(root);
  fit();
  return () => watch.disconnect();
}
