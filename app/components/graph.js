// A circuit: tokens along x, layers up y. Cytoscape draws; all text is text.
// data: { key: what is drawn, library: path of Cytoscape, palette, said,
//   nodes: [{ id, kind: "feature" | "error" | "token" | "logit" | "group", x, y, size, sign: -1 | 0 | 1,
//             inside: false for what the pruning left out, pinned, name, title, lines: [text] }],
//   edges: { source: [index], target: [index], weight: [number] }, by falling |weight|,
//   rows: [{ y, text }], columns: [{ x, text }], selected: [id], marked: [id], file: name for pictures }
// Tells Python { selected: [id] } and { open: id }.

const STRONGEST = 1500;   // edges drawn at rest; a node's others come with the pointer
const LIT = 400;          // edges drawn of one node

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const view = (root.view ??= build(root));
  Object.assign(view, { data, setStateValue, setTriggerValue });
  library(data.library).then((cytoscape) => {
    if (!root.isConnected) return;
    view.cy ??= start(view, cytoscape);
    show(view);
  }, () => { view.said.textContent = "The graph's library could not be loaded: reload the page."; });
  return () => { if (!root.isConnected) { view.cy?.destroy(); view.cy = null; } };
}

let loading = null;
function library(path) {
  loading ??= import(new URL(path, document.baseURI)).then((module) => module.default);
  loading.catch(() => { loading = null; });
  return loading;
}

/** What stays while graphs come and go. */
function build(root) {
  const view = { key: null, at: -1, places: new Map(), lit: null, cy: null, told: "[]", sent: [] };
  const bar = el("div", "bar");
  view.said = el("span", "said");
  bar.append(view.said);
  const button = (text, hint, act) => {
    const one = el("button", "", text);
    one.type = "button";
    one.title = hint;
    one.addEventListener("click", act);
    bar.append(one);
  };
  button("fit", "the whole graph (0)", () => fit(view));
  button("+", "nearer (+)", () => zoom(view, 1.3));
  button("−", "farther (−)", () => zoom(view, 1 / 1.3));
  button("PNG", "this picture, whole, as PNG", () => picture(view));
  button("SVG", "this picture, whole, as SVG", () => drawing(view));
  view.frame = el("div", "frame");
  view.stage = el("div", "stage");
  view.stage.tabIndex = 0;
  view.stage.setAttribute("role", "application");
  view.stage.setAttribute("aria-label", "Graph of the circuit. Tab goes through its nodes, arrows to neighbours, Enter opens.");
  view.rows = el("div", "axis rows");
  view.columns = el("div", "axis columns");
  view.over = el("canvas", "over");
  view.tip = el("div", "tip");
  view.tip.hidden = true;
  view.spoken = el("div", "spoken");
  view.spoken.setAttribute("aria-live", "polite");
  view.frame.append(view.rows, view.columns, view.stage, view.over, view.tip, view.spoken);
  view.stage.addEventListener("keydown", (event) => keys(view, event));
  view.stage.addEventListener("blur", () => leave(view));
  root.replaceChildren(bar, view.frame);
  return view;
}

function start(view, cytoscape) {
  const cy = cytoscape({
    container: view.stage, layout: { name: "preset" }, minZoom: 0.05, maxZoom: 6, style: [],
    hideEdgesOnViewport: true, textureOnViewport: true, pixelRatio: "auto", boxSelectionEnabled: true,
    selectionType: "single",
  });
  cy.on("mouseover", "node", (event) => enter(view, event.target.scratch("_i")));
  cy.on("mouseout", "node", () => leave(view));
  cy.on("select unselect", "node", () => { clearTimeout(view.timer); view.timer = setTimeout(() => tell(view), 80); });
  cy.on("dbltap", "node", (event) => view.setTriggerValue("open", event.target.id()));
  cy.on("dragpan scrollzoom pinchzoom", () => { view.whole = false; });
  cy.on("dragfree", "node", (event) => view.places.set(event.target.id(), { ...event.target.position() }));
  cy.on("viewport resize", () => { view.frameDue ??= requestAnimationFrame(() => { view.frameDue = null; axes(view); if (view.lit !== null) light(view); }); });
  return cy;
}

/** Draw what is new; what is the same stays where it was dragged. */
function show(view) {
  const { cy, data } = view;
  view.said.textContent = data.said;
  cy.style(style(data.palette)); // before it is fitted: names have a width
  if (view.key !== data.key) {
    const first = view.key === null || view.circuit !== data.circuit;
    if (view.circuit !== data.circuit) view.places.clear();
    if (first) view.stretch = stretched(view);
    view.circuit = data.circuit;
    view.key = data.key;
    leave(view);
    view.at = -1;
    view.near = neighbours(data);
    const chosen = new Set(view.sent.length ? JSON.parse(view.told) : data.selected);
    cy.batch(() => {
      cy.elements().remove();
      cy.add(data.nodes.map((node, i) => ({
        group: "nodes", data: { id: node.id, name: node.name, size: node.size, kind: node.kind }, scratch: { _i: i },
        position: { ...(view.places.get(node.id) ?? { x: node.x * view.stretch.x, y: node.y * view.stretch.y }) },
        classes: classes(node), selected: chosen.has(node.id),
      })));
      cy.add(data.edges.source.slice(0, STRONGEST).map((_, i) => edge(view, i)));
    });
    if (!view.sent.length) view.told = JSON.stringify(data.selected);
    if (first || view.whole) fit(view);
  }
  mark(view);
  axes(view);
}

/** All of it; and again when it is pruned, until somebody looks closer. */
function fit(view) {
  view.cy?.fit(undefined, 24);
  view.whole = true;
}

/** How much wider or higher the picture is made to fill the stage. */
function stretched({ data: { nodes }, stage }) {
  const span = (name) => Math.max(...nodes.map((node) => node[name])) - Math.min(...nodes.map((node) => node[name])) + 60;
  if (!nodes.length || !stage.clientHeight) return { x: 1, y: 1 };
  const off = span("x") / span("y") / (stage.clientWidth / stage.clientHeight);
  return { x: Math.min(4, Math.max(1, 1 / off)), y: Math.min(4, Math.max(1, off)) };
}

const classes = (node) => [node.kind, node.sign < 0 ? "negative" : "positive", node.inside ? "" : "outside", node.pinned ? "pinned" : ""].filter(Boolean).join(" ");

function edge(view, i) {
  const { source, target, weight } = view.data.edges;
  const share = Math.abs(weight[i]) / Math.abs(weight[0] || 1);
  return {
    group: "edges", classes: weight[i] < 0 ? "negative" : "positive",
    data: { id: `→${i}`, source: view.data.nodes[source[i]].id, target: view.data.nodes[target[i]].id, width: 0.6 + 3.4 * Math.sqrt(share) },
  };
}

/** For each node its edges, strongest first: [[edge, other, whether it leaves]]. */
function neighbours({ nodes, edges }) {
  const near = nodes.map(() => []);
  edges.source.forEach((from, i) => {
    near[from].push([i, edges.target[i], true]);
    near[edges.target[i]].push([i, from, false]);
  });
  return near;
}

/** What is marked, and what is selected unless that is an echo of what was selected here before. */
function mark(view) {
  const marked = new Set(view.data.marked), chosen = new Set(view.data.selected);
  const selected = JSON.stringify(view.data.selected), stale = view.sent.includes(selected);
  if (selected === view.told) view.sent = [];
  view.cy.batch(() => {
    view.cy.nodes().forEach((node) => { node.toggleClass("marked", marked.has(node.id())); });
    if (stale || selected === view.told) return;
    view.sent = [];
    view.told = selected;
    view.cy.nodes().forEach((node) => { if (node.selected() !== chosen.has(node.id())) node[chosen.has(node.id()) ? "select" : "unselect"](); });
  });
}

function tell(view) {
  if (!view.cy) return;
  const ids = JSON.stringify(view.cy.nodes(":selected").map((node) => node.id()));
  if (ids === view.told) return;
  view.sent.push(view.told, ids); // what was so until now may still be on its way back
  view.told = ids;
  view.setStateValue("selected", JSON.parse(ids));
}

/** The pointer or the keyboard is on a node: its words, and all its edges, on a canvas of their own
    (the graph itself is not drawn again). */
function enter(view, i) {
  const node = view.data.nodes[i];
  if (!node || !view.cy) return;
  view.lit = i;
  light(view);
  view.tip.replaceChildren(el("b", "", node.title), ...node.lines.map((line) => el("div", "muted", line)));
  view.tip.hidden = false;
  const at = view.cy.getElementById(node.id).renderedPosition();
  const left = 92 + at.x + 14, top = at.y + 14;
  view.tip.style.left = `${Math.max(4, Math.min(left, view.frame.clientWidth - view.tip.offsetWidth - 6))}px`;
  view.tip.style.top = `${Math.max(4, Math.min(top, view.frame.clientHeight - view.tip.offsetHeight - 6))}px`;
}

function light(view) {
  const { over, stage, cy, data } = view, ratio = window.devicePixelRatio || 1;
  over.width = stage.clientWidth * ratio;
  over.height = stage.clientHeight * ratio;
  if (view.lit === null || !cy) return;
  const pen = over.getContext("2d"), scale = cy.zoom();
  const place = (n) => cy.getElementById(data.nodes[n].id);
  const from = place(view.lit).renderedPosition();
  pen.scale(ratio, ratio);
  for (const [e, other] of view.near[view.lit].slice(0, LIT)) {
    const { data: { width }, classes } = edge(view, e), to = place(other);
    const end = to.renderedPosition(), negative = classes === "negative";
    pen.globalAlpha = 0.85;
    pen.strokeStyle = data.palette[negative ? "negative" : "positive"];
    pen.lineWidth = Math.max(1, width * scale);
    pen.setLineDash(negative ? [5, 4] : []);
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(end.x, end.y);
    pen.stroke();
    ring(pen, end, to.renderedWidth() / 2 + 2, data.palette.muted);
  }
  ring(pen, from, place(view.lit).renderedWidth() / 2 + 3, data.palette.text);
}

function ring(pen, { x, y }, radius, colour) {
  pen.globalAlpha = 1;
  pen.setLineDash([]);
  pen.lineWidth = 1.5;
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
}

function leave(view) {
  view.tip.hidden = true;
  view.lit = null;
  light(view);
}

function keys(view, event) {
  const nodes = view.data.nodes, { cy } = view;
  if (!cy) return;
  if (event.key === "Tab") {
    const to = view.at + (event.shiftKey ? -1 : 1);
    if (to < 0 || to >= nodes.length) { view.at = -1; leave(view); return; } // on to the next thing of the page
    go(view, to);
  } else if (event.key.startsWith("Arrow")) arrow(view, event.key.slice(5));
  else if (event.key === "Enter" || event.key === " ") {
    if (view.at >= 0) pick(view, event);
  } else if (event.key === "Escape") cy.nodes(":selected").unselect();
  else if (event.key === "+" || event.key === "=") zoom(view, 1.3);
  else if (event.key === "-") zoom(view, 1 / 1.3);
  else if (event.key === "0") fit(view);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function pick(view, event) {
  const node = view.cy.getElementById(view.data.nodes[view.at].id);
  if (event.shiftKey) { node.selected() ? node.unselect() : node.select(); return; }
  view.cy.batch(() => { view.cy.nodes(":selected").difference(node).unselect(); node.select(); });
  tell(view);
}

/** Up and down: the strongest edge; left and right: the next node of the same row. */
function arrow(view, way) {
  if (view.at < 0) { go(view, 0); return; }
  if (way === "Up" || way === "Down") {
    const on = view.near[view.at].find(([, , leaves]) => leaves === (way === "Up"));
    if (on) go(view, on[1]);
    return;
  }
  const nodes = view.data.nodes, here = nodes[view.at], sign = way === "Right" ? 1 : -1;
  const row = nodes.map((node, i) => [i, (node.x - here.x) * sign, Math.abs(node.y - here.y)]).filter(([, ahead, off]) => ahead > 0 && off < 24);
  row.sort((a, b) => a[1] - b[1] || a[2] - b[2]);
  if (row.length) go(view, row[0][0]);
}

function go(view, i) {
  view.at = i;
  const node = view.cy.getElementById(view.data.nodes[i].id), at = node.renderedPosition();
  const { clientWidth: w, clientHeight: h } = view.stage;
  const off = (x, end) => (x < 20 ? 20 - x : x > end - 20 ? end - 20 - x : 0);
  view.cy.panBy({ x: off(at.x, w), y: off(at.y, h) });
  enter(view, i);
  view.spoken.textContent = [view.data.nodes[i].title, ...view.data.nodes[i].lines].join(", ");
}

function zoom(view, factor) {
  view.whole = false;
  view.cy?.zoom({ level: view.cy.zoom() * factor, renderedPosition: { x: view.stage.clientWidth / 2, y: view.stage.clientHeight / 2 } });
}

/** Names of rows and columns, where there is room for them. */
function axes(view) {
  const { cy, data } = view, pan = cy.pan(), scale = cy.zoom();
  let last = -Infinity;
  view.rows.replaceChildren(...[...data.rows].sort((a, b) => a.y - b.y).flatMap(({ y, text }) => {
    const at = y * view.stretch.y * scale + pan.y;
    if (at < 4 || at > view.stage.clientHeight || at - last < 13) return [];
    last = at;
    const one = el("span", "", text);
    one.style.top = `${at}px`;
    return [one];
  }));
  last = -Infinity;
  view.columns.replaceChildren(...data.columns.flatMap(({ x, text }) => {
    const at = x * view.stretch.x * scale + pan.x, half = 3.6 * Math.min(text.length, 14) + 2;
    if (at < 0 || at > view.stage.clientWidth || at - half < last) return [];
    last = at + half;
    const one = el("span", "", text.length > 14 ? `${text.slice(0, 13)}…` : text);
    one.style.left = `${at}px`;
    return [one];
  }));
}
