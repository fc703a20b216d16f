// A pre-activation split by source token (heat) and by head (rows). Pointing at a head shows its
// attention (grey); a click selects it, and then the heat is that head's part alone.
// data: { tokens: [{ text, id, breaks }], parts: [head][source], pattern: [head][source], shares: [head],
//   bias, total }

const signed = (x) => `${x > 0 ? "+" : ""}${x.toFixed(3)}`.replace("-", "−");
const sum = (list) => list.reduce((a, b) => a + b, 0);

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  const strip = el("div", "strip"), said = el("div", "said"), table = el("table");
  const whole = data.tokens.map((_, s) => sum(data.parts.map((row) => row[s])));
  const top = Math.max(...whole.map(Math.abs), 1e-9);
  let pinned = null;

  const spans = data.tokens.map((token, s) => {
    const span = el("span", "tok", token.text || "◌");
    span.tabIndex = 0;
    span.addEventListener("mouseenter", () => tell(s));
    span.addEventListener("focus", () => tell(s));
    strip.append(span);
    if (token.breaks) strip.append(el("br"));
    return span;
  });
  spans.at(-1)?.classList.add("peak");

  function tell(s) {
    const heads = data.parts.map((row, h) => [h, row[s]]).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    const told = heads.slice(0, 3).map(([h, part]) => `head ${h} ${signed(part)} (attention ${data.pattern[h][s].toFixed(2)})`);
    said.textContent = `position ${s}, id ${data.tokens[s].id}: ${signed(whole[s])}, most from ${told.join(", ")}`;
  }

  function paint(values, scale, grey) {
    spans.forEach((span, s) => {
      span.classList.remove("positive", "negative", "looked");
      if (values[s]) span.classList.add(grey ? "looked" : values[s] > 0 ? "positive" : "negative");
      span.style.setProperty("--heat", Math.min(1, Math.abs(values[s]) / scale) ** 0.7);
    });
  }
  const rest = () => paint(pinned === null ? whole : data.parts[pinned], top, false);

  const head = el("tr");
  for (const title of ["head", "part of pre-activation", "share of decoder norm", "attends most to"]) head.append(el("th", "", title));
  table.append(head);
  const rows = data.parts.map((parts, h) => {
    const most = data.pattern[h].map((a, s) => [a, s]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    const looks = most.map(([a, s]) => `${data.tokens[s].text} ${a.toFixed(2)}`).join("   ");
    const row = el("tr", "head");
    for (const text of [`${h}`, signed(sum(parts)), `${(100 * data.shares[h]).toFixed(0)} %`, looks]) row.append(el("td", "", text));
    row.tabIndex = 0;
    const look = () => paint(data.pattern[h], 1, true);
    const pin = () => {
      pinned = pinned === h ? null : h;
      rows.forEach((one, i) => one.classList.toggle("chosen", i === pinned));
      rest();
    };
    row.addEventListener("mouseenter", look);
    row.addEventListener("focus", look);
    row.addEventListener("mouseleave", rest);
    row.addEventListener("blur", rest);
    row.addEventListener("click", pin);
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") pin(); });
    table.append(row);
    return row;
  });
  for (const [name, value] of [["bias", data.bias], ["pre-activation", data.total]]) {
    const row = el("tr", "sum");
    row.append(el("td", "", name), el("td", "", signed(value)), el("td"), el("td"));
    table.append(row);
  }
  said.textContent = "Point at a token or a head; click a head to see its part alone.";
  root.replaceChildren(strip, said, table);
  rest();
}
