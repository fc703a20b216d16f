// Default and steered text side by side, as they come: heat, differences, guard rails, next tokens.
// data: { name, features: [{ id, label, max, said, href, edited }], note, series: { watched, clean: [brief, whole] },
//   listen: a path of server-sent events | null, message | null,
//   table: { position, row, kl, drawn, steered, rows: [[text, id, p, q]] } | { error } | null }
// message: { story, state: { said, error, done }, rails, warnings, endings: { row: … } }; a story's
//   lists only grow, and a message that was listened to brings their new ends.

const ROWS = ["default", "steered"];
const MARKS = { "\n": "↵", "\t": "⇥", "\r": "␍" };

/** What came in, put behind what is there. */
function merge(old, fresh) {
  if (Array.isArray(fresh)) return Array.isArray(old) ? old.concat(fresh) : fresh;
  if (fresh === null || typeof fresh !== "object") return fresh;
  const whole = old && typeof old === "object" ? old : {};
  for (const [name, value] of Object.entries(fresh)) whole[name] = merge(whole[name], value);
  return whole;
}

/** Which tokens of either text are not in the longest common subsequence; alike up to `same`. */
function changes(a, b) {
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) same += 1;
  const [n, m] = [a.length - same, b.length - same];
  const width = m + 1, length = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i -= 1)
    for (let j = m - 1; j >= 0; j -= 1)
      length[i * width + j] = a[same + i] === b[same + j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
  const left = new Set(), right = new Set();
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && a[same + i] === b[same + j]) { i += 1; j += 1; }
    else if (j >= m || (i < n && length[(i + 1) * width + j] >= length[i * width + j + 1])) { left.add(same + i); i += 1; }
    else { right.add(same + j); j += 1; }
  }
  return { same, changed: { default: left, steered: right } };
}

const shown = (piece) => piece.replace(/[\n\t\r]/g, (mark) => MARKS[mark]);
const figure = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toString().replace("-", "−"));
const percent = (p) => (p >= 0.0005 ? `${(100 * p).toFixed(p < 0.1 ? 2 : 1)} %` : p > 0 ? `${(100 * p).toExponential(0).replace("e-", "e−")} %` : "0 %");

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  if (root.stage?.name !== data.name) {
    root.stage?.ear?.close();
    root.stage = build(root, data);
  }
  const stage = root.stage;
  Object.assign(stage, { data, setStateValue, setTriggerValue });
  if (data.message) {
    stage.ear?.close();
    stage.ear = null;
    stage.message = data.message;
  } else if (data.listen && !stage.ear && !stage.message.state.done) listen(stage);
  if (!data.features.some(({ id }) => id === stage.feature)) stage.feature = data.features[0]?.id;
  paint(stage);
  return () => { if (!root.isConnected) stage.ear?.close(); };
}

/** The parts of the page that stay while texts grow. */
function build(root, data) {
  const stage = {
    name: data.name, feature: data.features[0]?.id, series: "watched", at: null, ear: null,
    message: { story: null, state: { said: "", error: "", done: false } },
    bar: el("div", "bar"), hint: el("div", "hint"), next: el("div", "next"), cols: {},
  };
  const cols = el("div", "cols");
  for (const row of ROWS) {
    const col = { box: el("div", "col"), title: el("h4", "", row), note: el("span", "muted"), text: el("div", "text"), rail: el("div", "rail"), warn: el("div", "warn"), spans: [] };
    col.title.append(col.note);
    col.box.append(col.title, col.text, col.rail, col.warn);
    col.text.setAttribute("role", "list");
    follow(stage, row, col);
    stage.cols[row] = col;
    cols.append(col.box);
  }
  stage.bar.setAttribute("role", "group");
  root.replaceChildren(stage.bar, cols, stage.hint, stage.next);
  return stage;
}

/** Messages of the run, from its beginning; a line that breaks is taken up again from there. */
function listen(stage) {
  const ear = new EventSource(new URL(stage.data.listen, document.baseURI));
  stage.ear = ear;
  ear.onopen = () => { stage.message = { story: null, state: { said: "", error: "", done: false } }; };
  ear.onmessage = (event) => {
    if (!stage.bar.isConnected) { ear.close(); return; } // the page was left
    stage.message = merge(stage.message, JSON.parse(event.data));
    if (stage.message.state.done) {
      ear.close();
      stage.ear = null;
      wake(stage);
    }
    paint(stage);
  };
  ear.onerror = () => {
    if (ear.readyState !== EventSource.CLOSED) return;
    stage.ear = null;
    wake(stage);
  };
}

/** Tell the page that the run is over, again until it has noticed. */
function wake(stage, times = 10) {
  if (stage.data.message || !stage.bar.isConnected || !times) return;
  stage.setTriggerValue("done", stage.name);
  setTimeout(() => wake(stage, times - 1), 3000);
}

function paint(stage) {
  const { story, state } = stage.message;
  bar(stage, state);
  const rows = story?.rows ?? {};
  const both = rows.default && rows.steered;
  const diff = both ? changes(rows.default.tokens, rows.steered.tokens) : null;
  for (const name of ROWS) column(stage, name, story, rows[name], diff?.changed[name]);
  stage.same = diff && (diff.changed.default.size || diff.changed.steered.size) ? diff.same + story.prompt.tokens.length : null;
  tell(stage);
  table(stage);
}

/** The watched features, one of which gives the heat; the series of the steered column. */
function bar(stage, state) {
  const focus = stage.bar.contains(document.activeElement) || stage.bar.getRootNode().activeElement?.closest?.(".bar");
  const key = JSON.stringify([stage.data.features.map(({ id, label }) => [id, label]), stage.feature, stage.series]);
  if (key !== stage.barKey) {
    stage.barKey = key;
    const chips = stage.data.features.map((feature) => {
      const chip = el("button", "chip", `${feature.id}${feature.edited ? "" : " (watched)"}`);
      chip.title = `${feature.label} · ${feature.said}`;
      chip.setAttribute("aria-pressed", String(feature.id === stage.feature));
      chip.addEventListener("click", () => { stage.feature = feature.id; paint(stage); });
      return chip;
    });
    const series = Object.entries(stage.data.series).map(([name, [brief, whole]]) => {
      const button = el("button", "series", brief);
      button.title = whole;
      button.setAttribute("aria-pressed", String(name === stage.series));
      button.addEventListener("click", () => { stage.series = name; paint(stage); });
      return button;
    });
    const heat = chips.length ? [el("span", "muted", "heat of"), ...chips, el("span", "muted", "in"), ...series] : [];
    stage.said = el("span", "said");
    stage.said.setAttribute("aria-live", "polite");
    stage.bar.replaceChildren(...heat, stage.said);
    if (focus) stage.bar.querySelector('[aria-pressed="true"]')?.focus();
  }
  stage.said.textContent = state.error || state.said;
  stage.said.classList.toggle("amber", Boolean(state.error));
}

/** Values of the feature that is shown, by position, and what they are. */
function series(stage, name, row) {
  const kind = name === "default" ? "watched" : stage.series;
  return row?.[kind]?.[stage.feature] ?? [];
}

function column(stage, name, story, row, changed) {
  const col = stage.cols[name];
  const words = name === "default" ? stage.data.note : `heat: ${stage.data.series[stage.series][1]}`;
  col.note.textContent = stage.feature && row ? words : "";
  const given = story?.prompt ?? { tokens: [], pieces: [], counted: [] };
  const pieces = row ? [...given.pieces, ...row.pieces] : [];
  const ids = row ? [...given.tokens, ...row.tokens] : [];
  if (col.spans.length > ids.length) { col.spans = []; col.text.replaceChildren(); }
  const values = series(stage, name, row);
  const top = stage.data.features.find(({ id }) => id === stage.feature)?.max || Math.max(...values.map(Math.abs), 1e-9);
  const end = col.text.scrollHeight - col.text.scrollTop - col.text.clientHeight < 40;
  const grows = ids.length > col.spans.length && !stage.message.state.done;
  ids.forEach((id, at) => {
    const span = col.spans[at] ?? token(col, at, id, pieces[at], Boolean(given.template?.[at]));
    const own = at - given.tokens.length;
    const counted = own < 0 ? given.counted[at] : row.counted[own];
    const value = counted ? values[at] : null;
    const strength = value ? Math.min(1, Math.abs(value) / top) ** 0.7 : 0;
    let kind = "tok";
    if (own < 0) kind += " given";
    else if (changed?.has(own)) kind += " changed";
    if (value) kind += value > 0 ? " positive" : " negative";
    if (stage.at?.row === name && stage.at.position === at) kind += " chosen";
    if (span.className !== kind) span.className = kind;
    span.style.setProperty("--heat", strength.toFixed(3));
  });
  if (grows && end) col.text.scrollTop = col.text.scrollHeight;
  if (!row) col.text.textContent = name === "steered" && story ? "No edit: nothing is steered." : "";
  col.rail.textContent = [stage.message.rails?.[name], stage.message.endings?.[name]].filter(Boolean).join(" · ");
  col.warn.replaceChildren(...(stage.message.warnings?.[name] ?? []).map((text) => el("div", "", text)));
}

/** A token's span. What a chat's template wrote is not shown: a line break stands for it. */
function token(col, at, id, piece, hidden) {
  const span = el("span", "tok", shown(piece) || "◌");
  Object.assign(span, { tabIndex: at ? -1 : 0 });
  span.dataset.position = at;
  span.dataset.id = id;
  span.setAttribute("role", "listitem");
  span.hidden = hidden;
  if (!col.spans.length) col.text.replaceChildren();
  const turns = hidden && col.spans.length && !col.spans.at(-1).hidden;
  col.spans.push(span);
  col.text.append(span);
  if (turns || (!hidden && piece.includes("\n"))) col.text.append(el("br"));
  return span;
}

/** Pointer and keyboard on a column's tokens. */
function follow(stage, name, col) {
  const at = (event) => { const span = event.target.closest?.(".tok"); return span ? Number(span.dataset.position) : null; };
  const over = (event) => { stage.over = at(event) === null ? null : { row: name, position: at(event) }; tell(stage); };
  const choose = (position) => {
    const again = stage.at?.row === name && stage.at.position === position;
    stage.at = again || position === null ? null : { run: stage.name, row: name, position };
    stage.setStateValue("at", stage.at);
    paint(stage);
  };
  col.text.addEventListener("pointerover", over);
  col.text.addEventListener("focusin", over);
  col.text.addEventListener("pointerleave", () => { stage.over = null; tell(stage); });
  col.text.addEventListener("click", (event) => { if (at(event) !== null) choose(at(event)); });
  col.text.addEventListener("keydown", (event) => {
    const position = at(event);
    if (event.key === "Escape") { choose(null); return; }
    if (position === null) return;
    if (event.key === "Enter" || event.key === " ") { choose(position); event.preventDefault(); }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = step && col.spans[position + step];
    if (to) { col.spans[position].tabIndex = -1; to.tabIndex = 0; to.focus(); event.preventDefault(); }
  });
}

/** The token that is pointed at; otherwise what the marks mean. */
function tell(stage) {
  const { story } = stage.message;
  const row = stage.over && story?.rows[stage.over.row];
  if (!row) {
    const same = stage.same === null || stage.same === undefined ? "" : `Underlined: differs from the other text; tokens are aligned from the first difference on, at position ${stage.same}. `;
    stage.hint.textContent = story ? `${same}Click a token for what else could have stood there.` : "";
    return;
  }
  const at = stage.over.position, given = story.prompt.tokens.length, own = at - given;
  const col = stage.cols[stage.over.row];
  const parts = [`“${col.spans[at]?.textContent ?? ""}”`, `id ${col.spans[at]?.dataset.id}`, `position ${at}`];
  if (stage.feature) parts.push(`${stage.feature}: ${figure(series(stage, stage.over.row, row)[at])}`);
  if (row.shift[at]) parts.push(`‖Δh‖/‖h‖ ${figure(row.shift[at])}`);
  if (own >= 0) {
    parts.push(`p ${percent(Math.exp(row.logprob[own]))}`);
    if (stage.over.row === "steered" && row.clean_logprob[own] !== null) parts.push(`clean model ${percent(Math.exp(row.clean_logprob[own]))}`, `KL ${figure(row.kl[own])} nats`);
  }
  stage.hint.textContent = parts.join(" · ");
}

/** What else could have stood at the chosen token. */
function table(stage) {
  const found = stage.data.table;
  if (!found || !stage.at || (!found.error && (found.row !== stage.at.row || found.position !== stage.at.position))) { stage.next.replaceChildren(); return; }
  if (found.error) { stage.next.replaceChildren(el("div", "amber", found.error)); return; }
  const title = el("h4", "", `next token at ▸ position ${found.position}`);
  const kl = found.kl === null ? "" : ` · KL ${figure(found.kl)} nats`;
  title.append(el("span", "muted", `behind the ${found.row} text up to there; the ${found.rows.length} likeliest of either, before temperature${kl}`));
  const lines = el("div", "lines");
  const line = (kind, cells) => { const row = el("div", kind); cells.forEach((cell, i) => row.append(el("span", i ? "" : "piece", cell))); lines.append(row); };
  line("line names", ["token", "default", "steered", "Δ"]);
  for (const [text, id, p, q] of found.rows)
    line(id === found.drawn ? "line drawn" : "line", [text, percent(p), found.steered ? percent(q) : "–", found.steered ? `${q >= p ? "+" : "−"}${percent(Math.abs(q - p))}` : "–"]);
  stage.next.replaceChildren(title, lines);
}
