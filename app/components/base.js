// Shared by every component: elements from plain data, and links that do not reload the page.

/** An element with a class and text; text is never parsed as markup. */
function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

/** A link that a plain click turns into a message to Python: {go: target}. */
function link(text, href, target, send) {
  const node = el("a", "link", text);
  node.href = href;
  node.target = "_self";
  node.addEventListener("click", (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    send(target);
  });
  return node;
}
