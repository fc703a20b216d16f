// A text as a strip of tokens, the features that fire on what is selected in it, and the logit lens.
// data: { sort, pinned: feature | null (only its heat is drawn then), at: position | null (toward whose
//   next token), tokens: [{ text, id, counted, breaks }],
//   dictionaries: [{ name, hook, link, positions, of, values, toward: numbers | null,
//     features: { feature: { max, density, promotes, label } } }],
//   lens: { texts: { id: text }, rows: [{ layer, tokens: [[id]], probabilities: [[p]] }] } | null }

const SHOWN = 12; // features listed for a dictionary at first, MORE at each click
const MORE = 36;

/** What a feature is ranked by: activation, its share of the maximum, that times rarity, or what it adds. */
const RANKS = {
  activation: ({ value }) => Math.abs(value),
  relative: ({ value }, about) => Math.abs(value) / about.max,
  rare: ({ value }, about) => (Math.abs(value) / about.max) * -Math.log(about.density),
  gradient: ({ added }) => Math.abs(added),
};

const minus = (text) => text.replace("-", "−");
const signed = (x) => minus(`${x > 0 ? "+" : ""}${x.toFixed(3)}`);

/** Each feature inside the selection (everywhere without one), ranked: its strongest activation, and the sum of
 *  what it adds toward the chosen token. */
function ranked(dictionary, selected, rank) {
  const best = new Map();
  const { positions, of, values, toward } = dictionary;
  for (let i = 0; i < of.length; i++) {
    if (selected && (positions[i] < selected[0] || positions[i] > selected[1])) continue;
    const before = best.get(of[i]) ?? { feature: of[i], value: 0, added: 0 };
    if (Math.abs(values[i]) > Math.abs(before.value)) before.value = values[i];
    if (toward) before.added += toward[i];
    best.set(of[i], before);
  }
  return [...best.values()]
    .filter(({ feature }) => dictionary.features[feature].max)
    .map((one) => ({ ...one, by: rank(one, dictionary.features[one.feature]) }))
    .sort((a, b) => b.by - a.by);
}

function paint(spans, dictionary, feature) {
  for (const span of spans) {
    span.classList.remove("positive", "negative");
    delete span.dataset.value;
  }
  if (!dictionary) return;
  dictionary.of.forEach((other, i) => {
    if (other !== feature) return;
    const value = dictionary.values[i], span = spans[dictionary.positions[i]];
    span.classList.add(value > 0 ? "positive" : "negative");
    span.style.setProperty("--heat", Math.min(1, Math.abs(value) / dictionary.features[feature].max) ** 0.7);
    span.dataset.value = minus(value.toFixed(3));
  });
}

/** A row of most probable next tokens for each layer, last layer first; a cell's grey is its probability. */
function lensTable(data, select) {
  const box = el("div", "lens"), table = el("table");
  const head = el("tr");
  head.append(el("th", "", "layer"), ...data.tokens.map((token) => el("th", "", token.text || "◌")));
  table.append(head);
  for (const { layer, tokens, probabilities } of [...data.lens.rows].reverse()) {
    const row = el("tr");
    row.append(el("th", "", `${layer}`));
    tokens.forEach((ids, position) => {
      const cell = el("td", "", data.lens.texts[ids[0]]);
      const lines = ids.map((id, i) => `${data.lens.texts[id]}  ${(100 * probabilities[position][i]).toFixed(1)} %`);
      cell.title = `after position ${position}, layer ${layer}\n${lines.join("\n")}`;
      cell.style.setProperty("--p", probabilities[position][0]);
      cell.addEventListener("click", () => select(position));
      row.append(cell);
    });
    table.append(row);
  }
  box.append(table);
  return box;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const said = el("div", "said");
  const lists = el("div", "lists");
  const only = data.pinned !== null;
  const gradient = data.sort === "gradient";
  let selected = null;
  const limits = new Map(); // dictionary → features listed
  let pinned = only ? { dictionary: data.dictionaries[0], feature: data.pinned } : null;

  const { strip, spans } = selecting(data.tokens, {
    drag(...positions) { selected = positions; show(); },
    press: choose,
    clear() { selected = null; show(); },
  });
  if (gradient) spans[data.at]?.classList.add("aim");
  const lens = data.lens ? lensTable(data, choose) : null;

  function choose(position) {
    if (!data.tokens[position].counted) return;
    selected = [position, position];
    show();
  }

  function show() {
    paint(spans, pinned?.dictionary, pinned?.feature);
    const inside = (i) => !!selected && i >= selected[0] && i <= selected[1];
    spans.forEach((span, i) => span.classList.toggle("selected", inside(i)));
    lens?.querySelectorAll("tr").forEach((row) => {
      [...row.children].slice(1).forEach((cell, i) => cell.classList.toggle("selected", inside(i)));
    });
    if (only) {
      said.textContent = selected ? `position ${selected[0]}: ${spans[selected[0]].dataset.value ?? "silent"}` : "";
      return;
    }
    tell();
    lists.replaceChildren(...data.dictionaries.map(list));
  }

  function tell() {
    const many = selected && selected[1] > selected[0];
    const where = many ? `positions ${selected[0]}–${selected[1]}` : `position ${selected?.[0]}`;
    const what = gradient ? "summed there" : "strongest there";
    const all = gradient ? "Whole text: what each feature adds, summed." : "Whole text: each feature at its strongest.";
    said.textContent = selected ? `${where}: ${what}. Esc selects everything.` : all;
    if (gradient && selected && !many && selected[0] !== data.at) {
      const button = el("button", "aiming", "toward the token after this one");
      button.addEventListener("click", () => setTriggerValue("at", selected[0]));
      said.append(" ", button);
    }
  }

  function list(dictionary) {
    const box = el("div", gradient ? "list wide" : "list");
    const all = ranked(dictionary, selected, RANKS[data.sort]);
    const found = all.slice(0, limits.get(dictionary) ?? SHOWN);
    const title = el("h4", "", dictionary.name);
    const many = found.length < all.length ? `the first ${found.length} of ${all.length} active` : `${all.length} active`;
    title.append(el("span", "muted", `${dictionary.hook} · ${many}`));
    box.append(title);
    if (found.length) {
      const head = el("div", "row names");
      for (const name of ["feature", "activation", ...(gradient ? ["adds, logits"] : [])]) head.append(el("span", "", name));
      head.append(el("span", "", "label, or what it promotes"));
      box.append(head);
    } else box.append(el("div", "muted", "Nothing fires here."));
    for (const { feature, value, added } of found) {
      const about = dictionary.features[feature];
      const row = el("div", "row");
      const target = `${dictionary.name}/${feature}`;
      row.append(link(`${feature}`, dictionary.link + feature, target, (go) => setTriggerValue("go", go)));
      row.append(el("span", "number", minus(value.toFixed(2))));
      if (gradient) row.append(el("span", "number", signed(added)));
      row.append(el("span", about.label ? "promotes label" : "promotes", about.label || about.promotes));
      const adds = gradient ? `; gradient × activation ${signed(added)} logits` : "";
      row.title = `${(100 * Math.abs(value / about.max)).toFixed(0)} % of its maximum${adds}; promotes ${about.promotes}`;
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
    if (found.length < all.length) {
      const button = el("button", "aiming", `${Math.min(MORE, all.length - found.length)} more`);
      button.addEventListener("click", () => { limits.set(dictionary, found.length + MORE); show(); });
      box.append(button);
    }
    return box;
  }

  root.replaceChildren(...[strip, lens, said, lists].filter(Boolean));
  show();
}
