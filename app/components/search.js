// The one search field of the bar; ⌘K, Ctrl-K and / go to it, Enter asks, Escape leaves it.
// data: { hint }

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  let field = root.querySelector("input");
  if (!field) {
    field = el("input");
    field.type = "search";
    field.maxLength = 300;
    field.setAttribute("aria-label", "Search");
    const apple = /Mac|iPhone|iPad/.test(navigator.platform);
    root.append(field, el("kbd", "", apple ? "⌘K" : "Ctrl K"));
  }
  field.placeholder = data.hint;
  field.onkeydown = (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") field.blur();
    if (event.key !== "Enter" || !field.value.trim()) return;
    setTriggerValue("ask", field.value);
    field.value = "";
    field.blur();
  };
  const keys = (event) => {
    const typing = event.composedPath().some((node) => node.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName || ""));
    const chord = (event.metaKey || event.ctrlKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k";
    const slash = event.key === "/" && !typing && !event.metaKey && !event.ctrlKey && !event.altKey;
    if (event.defaultPrevented || !(chord || slash)) return;
    event.preventDefault();
    field.focus();
    field.select();
  };
  document.addEventListener("keydown", keys);
  return () => document.removeEventListener("keydown", keys);
}
