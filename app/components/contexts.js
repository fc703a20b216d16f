// Contexts of a feature: one line each, peaks aligned; a click opens a line to its full text.
// data: { max, groups: [{ name, sections: [{ title, note, lines: [Line] }] }] }, Line as in tokens.py

let chosen = null; // the group being read, kept from feature to feature

/** A token whose activation is stored is coloured, one outside the stored window is dim. */
function token(line, i, acts, max) {
  const span = el("span", "tok", line.texts[i]);
  const act = acts.get(i);
  if (act) {
    span.classList.add(act > 0 ? "positive" : "negative");
    span.style.setProperty("--heat", Math.min(1, Math.abs(act) / max) ** 0.7);
  }
  if (i < line.stored[0] || i >= line.stored[1]) span.classList.add("outside");
  if (i === line.peak) span.classList.add("peak");
  span.tabIndex = -1;
  span.about = { line, i, act };
  return span;
}

function minus(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

function draw(line, max) {
  const row = el("div", "line");
  const acts = new Map(line.acts);
  const text = el("div", "text");
  const left = el("div", line.position ? "left cut" : "left");
  const inner = left.appendChild(el("span"));
  const right = el("div", "right");
  line.texts.forEach((_, i) => {
    const side = i < line.peak ? inner : right;
    side.append(token(line, i, acts, max));
    if (line.breaks.includes(i)) side.append(el("br")); // breaks the text where a line is open
  });
  text.append(left, right);
  const end = el("div", "end document");
  end.title = line.document;
  const name = end.appendChild(el("bdi", "", line.document)); // cut at its beginning: the end tells
  name.dir = "ltr";
  row.append(el("div", "value", minus(line.value, Math.abs(line.value) < 0.1 ? 3 : 2)), text);
  row.append(el("div", "end", line.split), end);
  return row;
}

function explain(tip, { line, i, act }) {
  const outside = i < line.stored[0] || i >= line.stored[1];
  const said = act ? minus(act, 3) : outside ? "not stored here" : "none recorded";
  const text = line.texts[i] || "(rest of the character before)";
  tip.replaceChildren(el("b", "", text), ` id ${line.ids[i]}\nactivation ${said}\nposition ${line.position + i}, ${line.document}`);
}

function place(tip, span) {
  const box = span.getBoundingClientRect();
  tip.hidden = false;
  const left = Math.min(box.left, window.innerWidth - tip.offsetWidth - 12);
  const below = box.bottom + 6 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
}

/** Arrow keys walk through tokens and lines; Enter opens a line. */
function walk(event, list) {
  const span = event.target;
  if (!span.about) return;
  const tokens = [...span.closest(".line").querySelectorAll(".tok")];
  const peaks = [...list.querySelectorAll(".peak")];
  const line = peaks.findIndex((peak) => peak.about.line === span.about.line);
  const next = {
    ArrowLeft: tokens[tokens.indexOf(span) - 1],
    ArrowRight: tokens[tokens.indexOf(span) + 1],
    ArrowUp: peaks[line - 1],
    ArrowDown: peaks[line + 1],
  };
  if (event.key in next) {
    next[event.key]?.focus();
    event.preventDefault();
    event.stopPropagation();
  } else if (event.key === "Enter") {
    span.closest(".line").classList.toggle("open");
  }
}

function fill(list, group, max) {
  const nodes = [];
  for (const section of group.sections) {
    const head = el("div", "section");
    head.append(el("b", "", section.title), el("span", "", section.note));
    nodes.push(head, ...section.lines.map((line) => draw(line, max)));
  }
  list.replaceChildren(...nodes);
  const first = list.querySelector(".peak");
  if (first) first.tabIndex = 0;
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  const tabs = el("div", "tabs");
  tabs.setAttribute("role", "tablist");
  const list = el("div", "list");
  const tip = el("div", "tip");
  tip.hidden = true;
  const choose = (group) => {
    chosen = group.name;
    for (const tab of tabs.querySelectorAll(".tab")) tab.setAttribute("aria-selected", tab.textContent === chosen);
    fill(list, group, data.max);
  };
  for (const group of data.groups) {
    const tab = el("button", "tab", group.name);
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => choose(group));
    tabs.append(tab);
  }
  tabs.append(el("span", "hint", "click a line to read all of it"));
  choose(data.groups.find((group) => group.name === chosen) ?? data.groups[0]);
  root.replaceChildren(tabs, list, tip);

  const show = (event) => {
    if (!event.target.about) return;
    explain(tip, event.target.about);
    place(tip, event.target);
  };
  const hide = () => { tip.hidden = true; };
  list.addEventListener("mouseover", show);
  list.addEventListener("focusin", show);
  list.addEventListener("mouseout", hide);
  list.addEventListener("focusout", hide);
  list.addEventListener("keydown", (event) => walk(event, list));
  list.addEventListener("click", (event) => {
    if (!window.getSelection().toString()) event.target.closest(".line")?.classList.toggle("open");
  });
  const watch = new ResizeObserver(() => root.classList.toggle("narrow", root.clientWidth < 620));
  watch.observe(root);
  return () => watch.disconnect();
}
