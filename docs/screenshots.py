"""Take the screenshots of the docs from a copy of the demo's store: `make tour`.

Needs a chromium on the path and a harvested demo. Pictures go to docs/images/; some are taken in
the dark scheme too.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from backend.demo import MODEL, WEIGHTS
from backend.demo.demo_texts import task_prompts
from feature_store import feature_list_edits
from feature_store.records import FeatureId
from feature_store.store import Store

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
DICTIONARY = "resid-2"
ANIMAL, OTHER, WOLF = f"{DICTIONARY}/719", f"{DICTIONARY}/563", "mlp-2/452"
"""Features with an article before an animal, found by reading their contexts."""
EXPLAINED = f"{DICTIONARY}/158"
"""One of those whose explanations are scored."""
SIZE: ViewportSize = {"width": 1280, "height": 800}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
PAINT_MS = 4000
"""How long a page may take until nothing moves any more."""
LOADED_MS = 240_000
"""How long the model may take to load."""
TEXT = "In May Tina gave the cold drum to Mary. Nobody knew where the tiger had gone, so she"
CLICKED = {
    "ablate": ["Run"],
    "explanations": ["detection"],
    "shift": ["Girl or boy", "Train and rank"],
}
"""Pages that begin at a press of buttons."""
EFFECT = "Effect of removing it"
DARK = ("feature", "features", "steer")
"""Pages that are shown in the dark scheme too."""


def main() -> None:
    """Serve a copy of the demo and photograph each page."""
    demo = ROOT / ".demo"
    if not (demo / "harvests").is_dir():
        sys.exit("There is no demo store: run `make demo` (or `saefari demo --no-app`) first.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "demo"
        shutil.copytree(demo, store)
        pages = prepared(store)
        with served(store) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            for name, (path, ready) in pages.items():
                for scheme in ("light", "dark") if name in DARK else ("light",):
                    photograph(browser, url + path, name, ready, scheme)
            browser.close()


def prepared(store: Path) -> dict[str, tuple[str, str | None]]:
    """Fill the store with what pages show; name → (path, selector or text to wait for)."""
    catalog = Store(store).catalog
    catalog.annotate(FeatureId.parse(ANIMAL), "label", "the article before an animal")
    catalog.annotate(FeatureId.parse(ANIMAL), "star", "1")
    kept = feature_list_edits.create_list(
        catalog, "Before an animal", "features that await an animal's name"
    )
    feature_list_edits.add_features(
        catalog, kept, [FeatureId.parse(one) for one in (ANIMAL, OTHER, WOLF)]
    )
    saefari("map", "--store", store, "--dictionary", DICTIONARY)
    one_dictionary = ["--store", store, "--dictionary", DICTIONARY, "--features", "top:300"]
    saefari("explain", *one_dictionary)
    saefari("score", *one_dictionary, "--scorer", "detection,fuzzing,simulation")
    steered, traced, grouped = runs(store)
    (task,) = task_prompts("indirect_object", "held_out", 1, 0)
    asked = {"prompts": task.prompt, "answer": task.answer, "wrong": task.wrong, "tab": "effects"}
    singles, plurals = [], []
    for prompt in task_prompts("agreement", "train", 60, 3):
        (singles if prompt.answer in (" is", " was", " has") else plurals).append(prompt.prompt)
    one = {"harvest": Store(store).harvests()[0].record.id}
    here = {**one, "dictionary": DICTIONARY}
    texts = {"a": "\n".join(singles[:20]), "b": "\n".join(plurals[:20])}
    return {
        "library": ("/", None),
        "features": (f"/features?{urlencode({**here, 'sort': '-max_act'})}", None),
        "feature": (f"/feature?{urlencode({**one, 'feature': ANIMAL})}", None),
        "effect": (f"/feature?{urlencode({**one, 'feature': ANIMAL, 'tab': EFFECT})}", "nats"),
        "search": (f"/search?{urlencode({**here, 'by': 'text', 'q': TEXT})}", "active on the text"),
        "map": (f"/map?{urlencode(here)}", ".js-plotly-plot"),
        "compare": (
            f"/compare?{urlencode({**one, 'feature': [ANIMAL, OTHER, WOLF]}, doseq=True)}",
            None,
        ),
        "explanations": (
            f"/feature?{urlencode({**one, 'feature': EXPLAINED, 'tab': 'Explanations'})}",
            "decile 1",
        ),
        "scores": (f"/scores?{urlencode(here)}", ".js-plotly-plot"),
        "prompt": (
            f"/prompt?{urlencode({**one, 'on': [DICTIONARY, 'mlp-1'], 'text': TEXT}, doseq=True)}",
            ".strip",
        ),
        "contrast": (f"/contrast?{urlencode({**here, **texts, 'unit': 'last'})}", "Permutation"),
        "steer": (f"/steer?{urlencode({**one, **steered})}", None),
        "ablate": (f"/ablate?{urlencode({**here, **asked})}", "Spearman"),
        "circuits": (f"/circuits?{urlencode({**one, **traced})}", "measured now"),
        "behaviours": (f"/behaviours?{urlencode({**one, **grouped, 'cluster': '1'})}", "Cluster 1"),
        "shift": (f"/shift?{urlencode(one)}", "features marked"),
        "experiments": (f"/experiments?{urlencode(here)}", None),
        "lists": (f"/lists?{urlencode({**here, 'list': kept})}", None),
        "sql": (f"/sql?{urlencode(here)}", None),
        "jobs": (f"/jobs?{urlencode(here)}", None),
    }


def runs(store: Path) -> list[dict[str, str]]:
    """A steered text, a circuit and groups of next tokens, each kept; the parameters of their
    links."""
    weights = [f"--dictionary={DICTIONARY}={WEIGHTS / DICTIONARY}", f"--model={MODEL}"]
    saefari(
        "steer",
        *weights,
        f"--feature={ANIMAL}",
        "--mode=add",
        "--strength=35",
        "--max-new=40",
        "--prompt=In May Tina met Mary. They saw",
        "--seed=1",
        "--store",
        store,
    )
    kept = [newest(store)]
    saefari(
        "circuit",
        f"--model={MODEL}",
        "--task=indirect_object",
        "--n-prompts=40",
        "--store",
        store,
        *(f"--dictionary=resid-{i}={WEIGHTS / f'resid-{i}'}" for i in range(4)),
    )
    kept.append(newest(store))
    saefari("clusters", "--store", store)
    return [*kept, newest(store)]


def newest(store: Path) -> dict[str, str]:
    """The URL's parameter of the run that was kept last."""
    from feature_store.experiments import Experiments

    return {"experiment": Experiments(Store(store).catalog).list_summaries(1)[0].id}


def saefari(*words: str | Path) -> None:
    """Run a command; its failure ends the tour."""
    subprocess.run([sys.executable, "-m", "app.cli", *map(str, words)], check=True, cwd=ROOT)


@contextmanager
def served(store: Path) -> Iterator[str]:
    """The app on a store; gives its URL."""
    command = [sys.executable, "-m", "app.cli", "app", "--store", str(store), "--no-browser"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found, "the server says where it is"
        yield found[0].rstrip("/")
    finally:
        server.terminate()


def photograph(browser: Browser, url: str, name: str, ready: str | None, scheme: str) -> None:
    """One page in one colour scheme."""
    dark = scheme == "dark"
    context = browser.new_context(viewport=SIZE, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(url)
    for button in CLICKED.get(name, []):
        page.get_by_role("button", name=button, exact=True).click(timeout=LOADED_MS)
        page.wait_for_timeout(PAINT_MS)
    if ready:
        awaited(page, ready)
    page.mouse.move(1276, 400)  # nothing is pointed at
    page.wait_for_timeout(PAINT_MS)
    page.screenshot(path=IMAGES / f"{name}{'-dark' if dark else ''}.png")
    context.close()


def awaited(page: Page, ready: str) -> None:
    """Until a selector (it begins with a dot) or a text is there."""
    found = page.locator(ready) if ready.startswith(".") else page.get_by_text(ready)
    found.first.wait_for(timeout=LOADED_MS)
    found.first.scroll_into_view_if_needed()


if __name__ == "__main__":
    main()
