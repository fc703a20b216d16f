// One prompt under an ablation: every token with what changes there, and the next-token
// probabilities behind the token that is looked at.
// data: { tokens: [{ text, id, counted, breaks }], loss: [number | null], kl: [number | null],
//         at, largest: { loss, kl }, moved: [[{ text, before, after, mark }]] }
//   loss[i]: change of token i's own loss; kl[i]: KL behind token i; both nats, null where none.

const NAMES = { loss: "Δ loss of each token", kl: "KL behind each token" };

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  const memory = (root.memory ??= { by: "loss", key: "" });
  const key = JSON.stringify([data.tokens.map((token) => token.id), data.at]);
  const still = data.largest.loss < 0.01 && data.largest.kl >= 0.01;
  if (memory.key !== key) Object.assign(memory, { key, at: data.at, by: still ? "kl" : memory.by });

  const head = el("div", "head");
  const buttons = Object.entries(NAMES).map(([by, title]) => {
    const button = el("button", "choice", title);
    button.type = "button";
    button.addEventListener("click", () => { memory.by = by; paint(); });
    head.append(button);
    return [by, button];
  });
  const scale = el("span", "muted");
  head.append(scale);

  const strip = el("div", "strip");
  const spans = data.tokens.map((token, i) => {
    const span = el("span", token.counted ? "tok" : "tok uncounted", token.text || "◌");
    span.tabIndex = 0;
    span.dataset.position = i;
    span.title = [
      `id ${token.id}, position ${i}`,
      data.loss[i] === null ? "" : `Δ loss ${signed(data.loss[i])} nats`,
      data.kl[i] === null ? "" : `KL of what follows ${figure(data.kl[i])} nats`,
    ].filter(Boolean).join("\n");
    strip.append(span);
    if (token.breaks) strip.append(el("br"));
    return span;
  });
  const below = el("div", "below");

  function look(at) {
    memory.at = at;
    spans.forEach((span, i) => span.classList.toggle("selected", i === at));
    const table = el("table");
    const top = table.createTHead().insertRow();
    for (const name of [`after “${data.tokens[at].text}”`, "clean", "ablated", "Δ"]) top.append(el("th", "number", name));
    const body = table.createTBody();
    for (const one of data.moved[at]) {
      const row = body.insertRow();
      const name = el("td", "token", one.text);
      if (one.mark) name.append(el("span", "muted", `  ${one.mark}`));
      row.append(name, ...[percent(one.before), percent(one.after), signed(100 * (one.after - one.before), 2)].map((text) => el("td", "number", text)));
    }
    below.replaceChildren(table, el("div", "muted", "probabilities in %, those that move most"));
  }
  function paint() {
    for (const [by, button] of buttons) button.setAttribute("aria-pressed", by === memory.by);
    const largest = data.largest[memory.by] || 1;
    scale.textContent = data.largest[memory.by] < 0.0005 ? "nothing changes" : `full colour at ${figure(largest)} nats`;
    spans.forEach((span, i) => {
      const v = data[memory.by][i];
      const share = v === null || largest < 0.0005 ? 0 : Math.min(1, Math.abs(v) / largest) ** 0.7;
      const colour = v < 0 ? "var(--heat-negative)" : "var(--heat-positive)";
      span.style.background = share > 0.02 ? `color-mix(in srgb, ${colour} ${Math.round(100 * share)}%, transparent)` : "";
    });
  }
  strip.addEventListener("click", (event) => {
    const span = event.target.closest?.(".tok");
    if (span) look(Number(span.dataset.position));
  });
  strip.addEventListener("keydown", (event) => {
    const at = Number(event.target.dataset?.position);
    if (Number.isNaN(at)) return;
    if (event.key === "Enter" || event.key === " ") { look(at); event.preventDefault(); }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) spans[at + step]?.focus();
  });
  const split = el("div", "split");
  split.append(strip, below);
  root.replaceChildren(head, split);
  paint();
  look(memory.at);
}

function figure(value) {
  const size = Math.abs(value);
  return (size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.01 || size === 0 ? value.toFixed(2) : size >= 0.0001 ? String(Number(value.toPrecision(1))) : value.toExponential(0)).replace("-", "−");
}
function signed(value, digits) {
  const text = digits === undefined ? figure(value) : value.toFixed(digits).replace("-", "−");
  if (digits !== undefined && Number(value.toFixed(digits)) === 0) return text.replace("−", "");
  return value > 0 ? `+${text}` : text;
}
function percent(p) {
  return p >= 0.0995 ? (100 * p).toFixed(1) : p >= 0.0005 ? (100 * p).toFixed(2) : p > 0 ? "<0.05" : "0";
}
