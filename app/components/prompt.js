// A text as a strip of tokens, and the features that fire on what is selected in it.
// data: { sort, pinned: feature | null (only its heat is drawn then), tokens: [{ text, id, counted, breaks }], dictionaries: [{ name, hook,
//   triples: [[position, feature, value]], features: { feature: { max, density, promotes, href } } }] }

const SHOWN = 12; // features listed for a dictionary

/** What a feature is ranked by: its activation, its share of the maximum, or that times its rarity. */
const RANKS = {
  activation: (value) => Math.abs(value),
  relative: (value, about) => Math.abs(value) / about.max,
  rare: (value, about) => (Math.abs(value) / about.max) * -Math.log(about.density),
};

/** The strongest activation of each feature inside the selection (everywhere without one), ranked. */
function ranked(dictionary, selected, rank) {
  const best = new Map();
  for (const [position, feature, value] of dictionary.triples) {
    if (selected && (position < selected[0] || position > selected[1])) continue;
    const before = best.get(feature);
    if (before === undefined || Math.abs(value) > Math.abs(before)) best.set(feature, value);
  }
  const about = dictionary.features;
  return [...best]
    .filter(([feature]) => about[feature].max)
    .map(([feature, value]) => ({ feature, value, by: rank(value, about[feature]) }))
    .sort((a, b) => b.by - a.by)
    .slice(0, SHOWN);
}

function paint(spans, dictionary, feature) {
  for (const span of spans) span.classList.remove("positive", "negative");
  if (!dictionary) return;
  for (const [position, other, value] of dictionary.triples) {
    if (other !== feature) continue;
    const heat = Math.min(1, Math.abs(value) / dictionary.features[feature].max) ** 0.7;
    spans[position].classList.add(value > 0 ? "positive" : "negative");
    spans[position].style.setProperty("--heat", heat);
    spans[position].dataset.value = value.toFixed(3).replace("-", "−");
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const strip = el("div", "strip");
  const said = el("div", "said");
  const lists = el("div", "lists");
  const only = data.pinned !== null;
  let selected = null, from = null;
  let pinned = only ? { dictionary: data.dictionaries[0], feature: data.pinned } : null;

  const spans = data.tokens.map((token, i) => {
    const span = el("span", token.counted ? "tok" : "tok uncounted", token.text || "◌");
    span.title = `id ${token.id}, position ${i}`;
    span.dataset.position = i;
    if (token.counted) span.tabIndex = 0;
    strip.append(span);
    if (token.breaks) strip.append(el("br"));
    return span;
  });

  function show() {
    paint(spans, pinned?.dictionary, pinned?.feature);
    spans.forEach((span, i) => {
      span.classList.toggle("selected", !!selected && i >= selected[0] && i <= selected[1]);
    });
    const many = selected && selected[1] > selected[0] ? `positions ${selected[0]}–${selected[1]}` : "";
    if (only) {
      said.textContent = selected ? `position ${selected[0]}: ${spans[selected[0]].dataset.value ?? "silent"}` : "";
      return;
    }
    said.textContent = selected ? `${many || `position ${selected[0]}`}: strongest there. Esc selects everything.` : "Whole text: each feature at its strongest.";
    lists.replaceChildren(...data.dictionaries.map(list));
  }

  function list(dictionary) {
    const box = el("div", "list");
    const title = el("h4", "", dictionary.name);
    title.append(el("span", "muted", dictionary.hook));
    box.append(title);
    const found = ranked(dictionary, selected, RANKS[data.sort]);
    if (!found.length) box.append(el("div", "muted", "Nothing fires here."));
    for (const { feature, value } of found) {
      const about = dictionary.features[feature];
      const row = el("div", "row");
      const target = `${dictionary.name}/${feature}`;
      row.append(link(`${feature}`, about.href, target, (go) => setTriggerValue("go", go)));
      row.append(el("span", "number", value.toFixed(2).replace("-", "−")));
      row.append(el("span", "promotes", about.promotes));
      row.title = `${(100 * Math.abs(value / about.max)).toFixed(0)} % of its maximum; promotes ${about.promotes}`;
      row.classList.toggle("chosen", pinned?.dictionary === dictionary && pinned?.feature === feature);
      row.addEventListener("mouseenter", () => paint(spans, dictionary, feature));
      row.addEventListener("mouseleave", () => paint(spans, pinned?.dictionary, pinned?.feature));
      row.addEventListener("click", (event) => {
        if (event.target.closest("a")) return;
        const same = pinned?.dictionary === dictionary && pinned?.feature === feature;
        pinned = same ? null : { dictionary, feature };
        show();
      });
      box.append(row);
    }
    return box;
  }

  const position = (event) => {
    const span = event.target.closest?.(".tok");
    return span && !span.classList.contains("uncounted") ? Number(span.dataset.position) : null;
  };
  strip.addEventListener("pointerdown", (event) => {
    from = position(event);
    if (from !== null) { selected = [from, from]; show(); }
  });
  strip.addEventListener("pointerover", (event) => {
    const to = position(event);
    if (from === null || to === null || !event.buttons) return;
    selected = [Math.min(from, to), Math.max(from, to)];
    show();
  });
  strip.addEventListener("pointerup", () => { from = null; });
  strip.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { selected = null; show(); return; }
    const at = position(event);
    if (at === null) return;
    if (event.key === "Enter" || event.key === " ") { selected = [at, at]; show(); event.preventDefault(); }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) spans[at + step]?.focus();
  });

  root.replaceChildren(strip, said, lists);
  show();
}
