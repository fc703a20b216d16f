"""A real Chromium on real pages: the fixtures of the browser tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
"""How long a page may take on a busy machine."""
LOADING_MS = 240_000
"""How long a model may take to load there."""
SERVE = """
import sys
from pathlib import Path
from app.serve import serve
serve(Path(sys.argv[1]), port=0, open_browser=False, ready=lambda url: print(url, flush=True))
"""


@contextmanager
def served(store: Path, log: Path, setup: str = "") -> Iterator[str]:
    """The pages of a store in a process of their own; gives their URL. `setup` is Python that the
    process runs first."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{setup}\n{SERVE}", str(store)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=log.parent,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, log.read_text()
            yield url
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium; where there is none the test is skipped, in CI it fails."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        absent("Playwright's Python package is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            absent(f"no Chromium could be started: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@contextmanager
def visiting(browser, url: str, log: Path, patience_ms: int = PATIENCE_MS) -> Iterator:
    """A fresh page on the server at `url`; afterwards nothing may have gone wrong in either."""
    context = next(iter(browser.contexts), None) or browser.new_context(
        base_url=url, viewport={"width": 1280, "height": 800}, color_scheme="light"
    )  # kept until the browser is closed, with the scripts that it has read
    page = context.new_page()
    page.set_default_timeout(patience_ms)
    wrong: list[str] = []
    heard: list[str] = []
    """What the browser's console said, and requests that failed: quoted with an exception box."""
    page.on("console", lambda said: heard.append(f"{said.type}: {said.text}"))
    page.on("requestfailed", lambda one: heard.append(f"failed: {one.url} {one.failure}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    boxes = page.locator("[data-testid=stException]").all_inner_texts()
    assert boxes == [], "\n".join(heard[-40:])
    page.close()
    assert wrong == []
    assert "Traceback" not in log.read_text()


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
