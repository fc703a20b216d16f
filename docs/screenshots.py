"""Take the screenshots of the docs from the demo's store: `make tour`.

Needs a chromium on the path. Pictures go to docs/images/, light and dark.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

from feature_store.reader import HarvestFile
from feature_store.store import Store

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
DICTIONARY = "resid-2"
SIZE = {"width": 1280, "height": 800}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
PAINT_MS = 4000
TEXT = "In May Tina gave the cold drum to Mary. Nobody knew where the tiger had gone, so she"
LOADED_MS = 60_000
"""How long the model may take to load."""
"""How long a page may take until nothing moves any more."""


def main() -> None:
    """Serve the demo and photograph each page."""
    store = ROOT / ".demo"
    file = Store(store).harvest(dictionary=DICTIONARY)
    pages = {
        "library": "/",
        "features": f"/features?dictionary={DICTIONARY}",
        "feature": f"/feature?feature={DICTIONARY}/{telling_feature(file)}",
        "prompt": f"/prompt?{urlencode({'on': [DICTIONARY, 'mlp-1'], 'text': TEXT}, doseq=True)}",
        "search": "/search?q=tiger",
        "sql": "/sql",
    }
    command = [sys.executable, "-m", "app.cli", "app", "--store", str(store), "--no-browser"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found, "the server says where it is"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            for name, path in pages.items():
                for scheme in ("light", "dark"):
                    photograph(browser, found[0] + path, name, scheme)
            browser.close()
    finally:
        server.terminate()


def telling_feature(file: HarvestFile) -> int:
    """A feature that fires rarely, strongly and on more than one token: worth a picture."""
    table = file.feature_table(
        DICTIONARY,
        between={"density": (0.001, 0.02), "top_token_share": (0.2, 0.8)},
        order="max_act",
        descending=True,
        limit=1,
    )
    return table.column("feature")[0].as_py()


def photograph(browser: Browser, url: str, name: str, scheme: str) -> None:
    """One page in one colour scheme."""
    dark = scheme == "dark"
    context = browser.new_context(viewport=SIZE, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(url)
    if name == "prompt":
        page.wait_for_selector(".strip", timeout=LOADED_MS)
    page.wait_for_timeout(PAINT_MS)
    IMAGES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=IMAGES / f"{name}{'-dark' if dark else ''}.png")
    context.close()


if __name__ == "__main__":
    main()
