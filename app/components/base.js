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

/** Every change of the URL would be an entry of the browser's history, those too that a page makes by itself: Streamlit
    opens a page by its query first and its path after that, and pages put what is usual into their own URL. Such a step
    takes the place of the one before it, so that Back undoes what a person did. */
function personsHistory() {
  if (window.saefariHistory) return;
  window.saefariHistory = true;
  const push = history.pushState.bind(history);
  let acted = false;
  for (const kind of ["pointerdown", "click", "keydown"]) window.addEventListener(kind, () => { acted = true; }, true);
  history.pushState = (state, title, url) => {
    if (acted) push(state, title, url);
    else history.replaceState(state, title, url);
    acted = false;
  };
}
personsHistory();
