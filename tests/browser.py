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
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SERVE = """
import sys
from pathlib import Path
from app.serve import serve
serve(Path(sys.argv[1]), port=0, open_browser=False, ready=lambda url: print(url, flush=True))
"""


@contextmanager
def served(store: Path, log: Path) -> Iterator[str]:
    """The pages of a store in a process of their own; gives their URL."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(store)],
            stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=log.parent,
        )  # fmt: skip
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


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
