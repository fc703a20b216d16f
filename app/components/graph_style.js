// How the graph looks, and its pictures as files.

function style(palette) {
  const hue = (name) => ({ "background-color": palette[name], "border-color": palette[name] });
  return [
    { selector: "node", style: { width: "data(size)", height: "data(size)", "background-opacity": 0.85, "border-width": 1, "overlay-opacity": 0, "min-zoomed-font-size": 8.5, "font-size": 8, color: palette.text, "text-valign": "bottom", "text-margin-y": 2, "font-family": "monospace", "text-outline-width": 1.5, "text-outline-color": palette.background } },
    { selector: "node.positive", style: hue("positive") },
    { selector: "node.negative", style: hue("negative") },
    { selector: "node.feature, node.group, node.head", style: { label: "data(name)", "text-wrap": "ellipsis", "text-max-width": "24px" } },
    { selector: "node.error", style: { shape: "rectangle", "background-opacity": 0, "border-width": 1.5 } },
    { selector: "node.token", style: { shape: "round-rectangle", label: "data(name)", "background-color": palette.raised, "border-color": palette.muted } },
    { selector: "node.logit", style: { shape: "diamond", label: "data(name)", "text-valign": "top", "text-halign": "left", "text-margin-x": 16, "text-margin-y": -2, "font-size": 13, "min-zoomed-font-size": 4, "background-color": palette.raised, "border-color": palette.muted, "border-width": 1.5 } },
    { selector: "node.group", style: { shape: "round-hexagon", "border-width": 2, "font-size": 10, "text-max-width": "80px" } },
    { selector: "node.outside", style: { opacity: 0.4 } },
    { selector: "node.pinned", style: { "border-width": 2.5, "border-color": palette.text } },
    { selector: "edge", style: { "curve-style": "haystack", width: "data(width)", opacity: 0.16, events: "no", "overlay-opacity": 0 } },
    { selector: "edge.positive", style: { "line-color": palette.positive } },
    { selector: "edge.negative", style: { "line-color": palette.negative, "line-style": "dashed" } },
    { selector: "node.marked", style: { "border-width": 3, "border-color": palette.accent, opacity: 1 } },
    { selector: "node:selected", style: { "border-width": 3, "border-color": palette.accent, "background-opacity": 1, opacity: 1 } },
    { selector: "node.error:selected", style: { "background-opacity": 0 } },
  ];
}

function save(blob, name) {
  const link = el("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function picture(view) {
  if (!view.cy) return;
  const blob = await view.cy.png({ output: "blob-promise", full: true, scale: 2, maxWidth: 8000, maxHeight: 8000, bg: view.data.palette.background });
  save(blob, `${view.data.file}.png`);
}

/** The same as vectors: shapes and words, built as elements, so that no word can become markup. */
function drawing(view) {
  if (!view.cy) return;
  const { palette, nodes, rows, columns, file } = view.data, { stretch } = view, NS = "http://www.w3.org/2000/svg";
  const box = view.cy.elements().boundingBox(), side = 110, pad = 26;
  const svg = document.createElementNS(NS, "svg");
  const put = (tag, fields, text) => {
    const one = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(fields)) one.setAttribute(name, value);
    if (text !== undefined) one.textContent = text;
    svg.append(one);
    return one;
  };
  svg.setAttribute("viewBox", [box.x1 - side, box.y1 - pad, box.w + side + pad, box.h + 2 * pad].join(" "));
  put("rect", { x: box.x1 - side, y: box.y1 - pad, width: box.w + side + pad, height: box.h + 2 * pad, fill: palette.background });
  const colour = (one) => palette[one.hasClass("negative") ? "negative" : "positive"];
  view.cy.edges().forEach((one) => {
    const [a, b] = [one.source().position(), one.target().position()];
    const dash = one.hasClass("negative") ? { "stroke-dasharray": "4 3" } : {};
    put("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, stroke: colour(one), "stroke-width": one.data("width"), "stroke-opacity": 0.25, ...dash });
  });
  view.cy.nodes().forEach((one) => {
    const { x, y } = one.position(), r = one.data("size") / 2, kind = one.data("kind");
    const plain = kind === "token" || kind === "logit";
    const paint = { fill: kind === "error" ? "none" : plain ? palette.raised : colour(one), stroke: plain ? palette.muted : colour(one), opacity: one.hasClass("outside") ? 0.4 : 1 };
    const shape = kind === "error" || kind === "token" ? put("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...paint })
      : kind === "logit" ? put("path", { d: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`, ...paint })
      : put("circle", { cx: x, cy: y, r, ...paint });
    const node = nodes[one.scratch("_i")], title = document.createElementNS(NS, "title");
    title.textContent = [node.title, ...node.lines].join("\n");
    shape.append(title);
    const target = kind === "logit"; // in the last column: its name ends there
    if (kind !== "error") put("text", { x: target ? x + r : x, y: target ? y - r - 3 : y + r + 8, "font-size": target ? 10 : 8, "text-anchor": target ? "end" : "middle", fill: palette.text, "font-family": "monospace" }, node.name);
  });
  for (const { y, text } of rows) put("text", { x: box.x1 - 8, y: y * stretch.y + 3, "font-size": 10, "text-anchor": "end", fill: palette.muted, "font-family": "sans-serif" }, text);
  for (const { x, text } of columns) put("text", { x: x * stretch.x, y: box.y2 + 18, "font-size": 9, "text-anchor": "middle", fill: palette.muted, "font-family": "monospace" }, text);
  save(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }), `${file}.svg`);
}
