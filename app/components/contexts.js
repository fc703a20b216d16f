// Contexts of a feature: one line each, peaks aligned; a click opens a line to its full text.
// data: { max, asked: { width, group }, groups: [{ name, sections: [{ title, note, lines: [Line] }] }] }
// Line as in tokens.py, with { href, target, alike: index of the first line that reads the same };
// where a line stands for one of several features: { max, name }, its own maximum and its name.
// Reports { go: target } and, for whole sequences, { asked: { width, group } }.

const SPLITS = {
  explain: "explain split: explanations are written from these windows, never scored on them",
  score: "score split: explanations are scored on these windows, never written from them",
};
const WIDTHS = ["5", "16", "whole"]; // tokens on either side of the peak
const chosen = { group: null, width: "16", breaks: false }; // kept from feature to feature
try { Object.assign(chosen, JSON.parse(sessionStorage.getItem("saefari.contexts"))); } catch { /* the first time, or not allowed */ }

function choose(changes) {
  Object.assign(chosen, changes);
  try { sessionStorage.setItem("saefari.contexts", JSON.stringify(chosen)); } catch { /* not allowed */ }
}

/** A token whose activation is stored is coloured, one outside the stored window is dim. */
function token(line, i, acts, max) {
  const span = el("span", "tok");
  const parts = line.plain[i]?.includes("\n") ? line.texts[i].split(/(?<=↵)/) : [line.texts[i]];
  for (const part of parts) span.append(part, ...(part.endsWith("↵") ? [el("br")] : []));
  const act = acts.get(i);
  if (act) {
    span.classList.add(act > 0 ? "positive" : "negative");
    span.style.setProperty("--heat", Math.min(1, Math.abs(act) / (line.max ?? max)) ** 0.7);
  }
  if (i < line.stored[0] || i >= line.stored[1]) span.classList.add("outside");
  if (i === line.peak) span.classList.add(line.marked ? "peak" : "middle");
  const away = Math.abs(i - line.peak);
  if (away > 5) span.classList.add(away > 16 ? "far" : "away");
  span.tabIndex = -1;
  span.about = { line, i, act };
  return span;
}

function minus(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

function draw(line, max, send) {
  const row = el("div", "line");
  row.about = line;
  const acts = new Map(line.acts);
  const text = el("div", "text");
  const left = el("div", line.position || line.peak > 16 ? "left cut" : "left");
  const inner = left.appendChild(el("span"));
  const right = el("div", "right");
  line.texts.forEach((_, i) => {
    const side = i < line.peak ? inner : right;
    side.append(token(line, i, acts, max));
  });
  text.append(left, right);
  const end = el("div", "end document");
  end.title = line.name ? `${line.name} in ${line.document}` : line.document;
  const name = end.appendChild(link("", line.href, line.target, send));
  name.append(el("bdi", "", line.name ?? line.document)); // cut at its beginning: the end tells
  name.firstChild.dir = "ltr";
  const value = line.value ? minus(line.value, Math.abs(line.value) < 0.1 ? 3 : 2) : "0";
  const copy = el("button", "copy", "copy");
  copy.title = "Copy this text";
  const split = el("div", "end", line.split);
  split.title = SPLITS[line.split] ?? "";
  row.append(el("div", "value", value), text, split, end, copy);
  return row;
}

/** The line's text as it was read, within the width that is shown. */
function plain(line) {
  const reach = chosen.width === "whole" ? Infinity : Number(chosen.width);
  return line.texts.map((text, i) => (Math.abs(i - line.peak) > reach ? "" : line.plain[i] ?? text)).join("");
}

/** Copy a selection where there is no clipboard: browsers offer it only over https. */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(el("textarea", "", text));
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const name = button.textContent;
  button.textContent = "copied";
  setTimeout(() => { button.textContent = name; }, 1200);
}

/** Group lines with the same text under the first of them. */
function lines(section, max, send) {
  const rows = section.lines.map((line) => draw(line, max, send));
  const found = [];
  section.lines.forEach((line, i) => {
    if (line.alike !== i) return;
    const others = rows.filter((_, j) => j > i && section.lines[j].alike === i);
    found.push(rows[i]);
    if (!others.length) return;
    for (const row of others) row.hidden = true;
    const more = el("button", "more", `${others.length + 1} alike`);
    more.title = "Show all windows with the same words around the peak";
    more.setAttribute("aria-expanded", "false");
    more.addEventListener("click", () => {
      const open = more.getAttribute("aria-expanded") === "false";
      more.setAttribute("aria-expanded", String(open));
      for (const row of others) row.hidden = !open;
    });
    found.push(more, ...others);
  });
  return found;
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
  const tokens = [...span.closest(".line").querySelectorAll(".tok")].filter((one) => one.offsetWidth);
  const peaks = [...list.querySelectorAll(".line:not([hidden]) :is(.peak, .middle)")];
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

function fill(list, group, max, send) {
  const nodes = [];
  for (const section of group.sections) {
    const head = el("div", "section");
    head.append(el("b", "", section.title), el("span", "", section.note));
    nodes.push(head, ...lines(section, max, send));
  }
  list.replaceChildren(...nodes);
  const first = list.querySelector(".peak, .middle");
  if (first) first.tabIndex = 0;
}

/** Width, line breaks, copy: what is shown of every line. */
function tools(show, list) {
  const box = el("span", "tools");
  const buttons = WIDTHS.map((width) => {
    const button = box.appendChild(el("button", "tool", width === "whole" ? "whole" : `±${width}`));
    button.title = width === "whole" ? "Show the whole sequence" : `Show ${width} tokens on either side of the peak`;
    button.addEventListener("click", () => { choose({ width }); show(); });
    return button;
  });
  const breaks = box.appendChild(el("button", "tool", "↵"));
  breaks.title = "Break lines where the text does";
  breaks.addEventListener("click", () => { choose({ breaks: !chosen.breaks }); show(); });
  const all = box.appendChild(el("button", "tool", "copy"));
  all.title = "Copy all contexts shown: activation, text, document";
  all.addEventListener("click", () => {
    const rows = [...list.querySelectorAll(".line:not([hidden])")].map((row) => row.about);
    copy(rows.map((line) => [line.value, JSON.stringify(plain(line)), line.document].join("\t")).join("\n"), all);
  });
  box.show = () => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(WIDTHS[i] === chosen.width)));
    breaks.setAttribute("aria-pressed", String(chosen.breaks));
  };
  return box;
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const tabs = el("div", "tabs");
  tabs.setAttribute("role", "tablist");
  const list = el("div", "list");
  const tip = el("div", "tip");
  tip.hidden = true;
  const send = (target) => setTriggerValue("go", target);
  const group = () => data.groups.find((one) => one.name === chosen.group) ?? data.groups[0];
  const show = () => {
    root.dataset.width = chosen.width;
    root.classList.toggle("breaks", chosen.breaks);
    bar.show();
    const want = { width: chosen.width, group: group().name };
    const here = data.asked.width === want.width && data.asked.group === want.group;
    if (want.width === "whole" && !here) setStateValue("asked", want);
  };
  const read = () => {
    for (const tab of tabs.querySelectorAll(".tab")) tab.setAttribute("aria-selected", tab.textContent === group().name);
    fill(list, group(), data.max, send);
    show();
  };
  const bar = tools(show, list);
  for (const { name } of data.groups) {
    const tab = el("button", "tab", name);
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => { choose({ group: name }); read(); });
    tabs.append(tab);
  }
  tabs.append(el("span", "hint", "click a line to read the full text"), bar);
  read();
  root.replaceChildren(tabs, list, tip);

  const point = (event) => {
    if (!event.target.about || !("i" in event.target.about)) return;
    explain(tip, event.target.about);
    place(tip, event.target);
  };
  const hide = () => { tip.hidden = true; };
  list.addEventListener("mouseover", point);
  list.addEventListener("focusin", point);
  list.addEventListener("mouseout", hide);
  list.addEventListener("focusout", hide);
  list.addEventListener("keydown", (event) => walk(event, list));
  list.addEventListener("click", (event) => {
    const line = event.target.closest(".line");
    if (event.target.className === "copy") copy(plain(line.about), event.target);
    else if (!event.target.closest("a") && !window.getSelection().toString()) line?.classList.toggle("open");
  });
  const watch = new ResizeObserver(() => root.classList.toggle("narrow", root.clientWidth < 620));
  watch.observe(root);
  return () => watch.disconnect();
}
