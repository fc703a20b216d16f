// A feature's name, the way to its neighbours (also by key), and its facts in one line.
// data: { dictionary, index, label, starred, writable, steps: [{ label, keys, hint, href, target | null }], links: [{ label, href, hint }], notes: the tab with the label's field, place: { text, hint, href }, facts: [[name, value]], warnings: [text] }

/** To the field of the label, in its tab, which may have to be opened first; Enter and Escape lead back up. */
function nameIt(notes, root, tries = 40) {
  const field = document.querySelector('[class*="st-key-notes_label_"] input');
  if (field) {
    field.scrollIntoView({ block: "center" });
    field.focus({ preventScroll: true });
    field.select();
    const back = (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      field.removeEventListener("keydown", back);
      setTimeout(() => { field.blur(); root.scrollIntoView({ block: "center" }); });
    };
    field.addEventListener("keydown", back);
    return;
  }
  const tab = [...document.querySelectorAll('[role="tab"]')].find((one) => one.textContent === notes);
  if (tab?.getAttribute("aria-selected") === "false") tab.click();
  if (tries) setTimeout(() => nameIt(notes, root, tries - 1), 100);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const send = (target) => setTriggerValue("go", target);
  const title = el("h1");
  title.append(el("span", "name", `${data.dictionary} / `), String(data.index));
  if (data.label) title.append(el("span", "label", data.label));
  const turn = () => setTriggerValue("star", data.starred ? "off" : "on");
  const star = el(data.writable ? "button" : "span", "star", data.starred ? "★" : "☆");
  star.title = data.writable ? (data.starred ? "Remove the star (s)" : "Star the feature (s)") : "starred";
  if (data.writable) {
    star.setAttribute("aria-label", "star");
    star.setAttribute("aria-pressed", String(data.starred));
    star.addEventListener("click", turn);
  }
  if (data.writable || data.starred) title.append(star);
  if (data.writable) {
    const name = el("button", "rename", data.label ? "rename" : "label");
    name.append(el("kbd", "", "l"));
    name.title = data.label ? "Edit the label (l)" : "Write a label: what the feature fires on, in a few words (l)";
    name.addEventListener("click", () => nameIt(data.notes, root));
    title.append(name);
  }
  const steps = el("div", "go");
  for (const step of data.steps) {
    const node = el("span");
    node.append(step.target ? link(step.label, step.href, step.target, send) : el("span", "off", step.label));
    node.append(el("kbd", "", step.hint));
    steps.append(node);
    if (step === data.steps[0]) {
      const place = el("a", "link place", data.place.text);
      Object.assign(place, { href: data.place.href, target: "_self", title: data.place.hint });
      steps.append(place);
    }
  }
  for (const { label, href, hint } of data.links) {
    const node = link(label, href, label, (to) => setTriggerValue("leave", to));
    node.title = hint;
    steps.append(node);
  }
  const top = el("div", "top");
  top.append(title, steps);
  const facts = el("div", "facts");
  for (const [name, value] of data.facts) {
    const fact = el("span");
    fact.append(el("span", "muted", `${name} `), el("b", "", value));
    facts.append(fact);
  }
  for (const warning of data.warnings) facts.append(el("span", "amber", warning));
  root.replaceChildren(top, facts);

  const keys = (event) => {
    const path = event.composedPath();
    const typing = path.some((node) => node.isContentEditable || /^(INPUT|TEXTAREA|SELECT|CANVAS)$/.test(node.tagName || ""));
    const elsewhere = path.some((node) => node.matches?.('[role="radiogroup"], [role="listbox"], [data-testid="stDataFrame"]'));
    if (typing || elsewhere || event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key === "s" && data.writable) turn();
    if (event.key === "l" && data.writable) {
      event.preventDefault(); // or the field would get the letter
      nameIt(data.notes, root);
    }
    const step = data.steps.find(({ keys }) => keys.includes(event.key));
    if (step?.target) send(step.target);
  };
  document.addEventListener("keydown", keys);
  return () => document.removeEventListener("keydown", keys);
}
