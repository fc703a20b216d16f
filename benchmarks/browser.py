"""What a person waits for: a feature page in Chromium, by its address and from the one before.

By the clock, over the harvest of 16,384 features. Painted is measured inside the page: the contexts
on it have changed, and the browser has drawn a frame since.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.goals import Goal, table
from feature_store.feature_table import FeatureQuery, order_features
from feature_store.store import Store

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
SIZE = {"width": 1280, "height": 800}
SETTLE_MS = 700
"""Between two steps: nothing of the one before may still be on its way."""
WATCH = """
window.contextsPainted = (trigger) => new Promise((done) => {
  const found = (root, wanted) => {
    for (const node of root.querySelectorAll("*")) {
      if (node.matches(".line .text")) wanted.push(node.textContent);
      if (node.shadowRoot) found(node.shadowRoot, wanted);
    }
    return wanted;
  };
  const shown = () => found(document, []).join("|");
  const before = trigger ? shown() : "";
  const start = trigger ? performance.now() : 0;
  const look = () => {
    const now = shown();
    if (now && now !== before) {
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - start), 0));
    } else setTimeout(look, 5);
  };
  if (trigger) document.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true }));
  look();
});
"""


def missing(store: Path) -> str:
    """What is missing to measure, as a sentence; empty if nothing is."""
    if not list((store / "harvests").glob("*.duckdb")):
        return f"No harvest of {store.name} features: run the part `harvest` first."
    if not find_spec("playwright"):
        return "Playwright is not installed: `pip install -e .[dev]` brings it."
    return ""


def measure(store: Path, steps: int) -> dict[str, Any]:
    """Milliseconds: first paints of pages opened by their address, and steps by key."""
    file = Store(store).harvest()
    name = next(iter(file.dictionaries))
    # Features that never fired have no contexts, so their pages would never paint one.
    alive = order_features(file, name, FeatureQuery())[100::10].tolist()
    file.close()
    with served(store) as url, chromium() as browser:
        context = browser.new_context(viewport=SIZE, base_url=url)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.set_default_timeout(60_000)
        first = [opened(page, f"{name}/{feature}") for feature in alive[: 1 + max(2, steps // 4)]]
        page.wait_for_timeout(3 * SETTLE_MS)
        switches = []
        for _ in range(steps):
            switches.append(page.evaluate("window.contextsPainted(true)"))
            page.wait_for_timeout(SETTLE_MS)
        context.close()
    return {
        "cold_ms": first[0],
        "first_ms": first[1:],
        "switch_ms": switches,
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }


def opened(page: Any, feature: str) -> float:
    """Milliseconds from navigating to a feature's address to its contexts."""
    page.goto(f"/feature?feature={feature}", wait_until="commit")
    return page.evaluate("window.contextsPainted(false)")


@contextmanager
def served(store: Path) -> Iterator[str]:
    """The pages of a store in a process of their own; gives their URL."""
    command = [sys.executable, "-m", "app.cli", "app", "--store", str(store), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found, "the server says where it is"
        yield found[0]
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium, the system's if there is one."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def report(facts: dict[str, Any]) -> str:
    """Medians and the worst of each."""
    rows = [
        ["first page of a new server", facts["cold_ms"], facts["cold_ms"], 1],
        *(
            [name, median(facts[key]), max(facts[key]), len(facts[key])]
            for name, key in (("a page by its address", "first_ms"), ("next feature", "switch_ms"))
        ),
    ]
    title = f"Contexts painted in Chromium, ms by the clock, {busy(facts)}"
    return table(title, ["", "median", "worst", "n"], rows)


def busy(facts: dict[str, Any]) -> str:
    """How much else the machine did: by the clock, nothing counts that shares its cores."""
    return f"load {facts['load']:.1f} on {facts['cores']} cores"


def goals(facts: dict[str, Any]) -> list[Goal]:
    """First useful paint, and the switch to the next feature."""
    first, switch = median(facts["first_ms"]), median(facts["switch_ms"])
    return [
        Goal("feature page, first useful paint, median", first, 1000.0, " ms", note=busy(facts)),
        Goal("switch to the next feature, median", switch, 400.0, " ms", note=busy(facts)),
    ]
