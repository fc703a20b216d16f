// Bars over a log axis of activations; counts on a log or a linear axis, chosen here.
// data: { note, standing, bars: [{ left, width, count, sign, hint }], ticks: [{ at, text }],
//         log: [{ at, text }], linear: [{ at, text }], marker: place | null }. Places are 0 to 1.

const SCALES = ["log", "linear"];
let scale = "log"; // kept from feature to feature

/** Where a count stands, 0 to 1 from the bottom; a single token shows on a log axis too. */
function height(n, most) {
  if (scale === "linear") return n / (most * 1.05);
  const low = Math.log(0.6);
  return (Math.log(n) - low) / (Math.log(Math.max(most, 2) * 1.2) - low);
}

function percent(share) {
  return `${(100 * share).toFixed(3)}%`;
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  const most = Math.max(1, ...data.bars.map((bar) => bar.count));

  const draw = () => {
    const bar = el("div", "bar");
    const choice = el("span", "choice");
    choice.setAttribute("role", "group");
    choice.setAttribute("aria-label", "Counts");
    for (const name of SCALES) {
      const button = el("button", "", name);
      button.setAttribute("aria-pressed", String(name === scale));
      button.addEventListener("click", () => {
        scale = name;
        draw();
      });
      choice.append(button);
    }
    bar.append(el("span", "muted", data.note), choice);

    const plot = el("div", "plot");
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Histogram of activations: ${data.bars.map((one) => one.hint).join("; ")}`);
    const tip = el("div", "reading");
    for (const { at, text } of data[scale]) {
      if (scale === "log" && at < 1) continue;
      const line = el("div", "rule");
      line.style.bottom = percent(height(at, most));
      line.append(el("span", "", text));
      plot.append(line);
    }
    for (const { left, width, count, sign, hint } of data.bars) {
      const column = el("div", sign > 0 ? "column positive" : "column negative");
      Object.assign(column.style, { left: percent(left), width: `calc(${percent(width)} + 0.5px)` });
      const fill = el("div");
      fill.style.height = percent(height(count, most));
      column.append(fill);
      column.addEventListener("pointerenter", () => {
        tip.textContent = hint;
        tip.style.left = percent(Math.min(Math.max(left + width / 2, 0.25), 0.75));
        tip.hidden = false;
      });
      column.addEventListener("pointerleave", () => { tip.hidden = true; });
      plot.append(column);
    }
    if (data.marker !== null) {
      const mark = el("div", "marker");
      mark.style.left = percent(data.marker);
      plot.append(mark);
    }
    tip.hidden = true;
    plot.append(tip);

    const axis = el("div", "axis");
    for (const { at, text } of data.ticks) {
      const tick = el("span", "", text);
      tick.style.left = percent(at);
      axis.append(tick);
    }
    const parts = [bar, plot, axis, el("div", "title", "tokens by activation, log scale")];
    if (data.standing) parts.push(el("div", "muted standing", data.standing));
    root.replaceChildren(...parts);
  };
  draw();
}
