"""A real Chromium on real pages: the fixtures of the browser tests."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

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
serve(
    Path(sys.argv[1]), port=int(sys.argv[2]), open_browser=False,
    ready=lambda url: print(url, flush=True),
)
"""
_last_port = 0
"""Where this process's latest server listened."""
_shared: dict[str, tuple[Any, ExitStack]] = {}
"""By the name of a fixture: what the tests of several files share, and what closes it."""
_contexts: dict[tuple[Any, str], Any] = {}
"""The browsing context for a browser and an address."""


@contextmanager
def served(store: Path, log: Path, setup: str = "") -> Iterator[str]:
    """Serve the pages of a store from a process of their own; gives their URL. `setup` is Python
    that the process runs first."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{setup}\n{SERVE}", str(store), str(next_port())],
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


def next_port() -> int:
    """Return the port of the server before, if that has ended: a browser keeps the scripts of an
    address that it knows. Another free port, if not."""
    global _last_port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _last_port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        _last_port = probe.getsockname()[1]
    return _last_port


def shared(name: str, make: Callable[[], AbstractContextManager[Any]]) -> Any:
    """Return what `make` opens for the fixture of that name: opened once, and kept until
    `close_shared` is told of a test that does not take the fixture."""
    if name not in _shared:
        stack = ExitStack()
        _shared[name] = stack.enter_context(make()), stack
    return _shared[name][0]


def close_shared(taken: Collection[str] = ()) -> None:
    """Close what is shared, but for the fixtures that the next test takes."""
    for name in [name for name in _shared if name not in taken]:
        _shared.pop(name)[1].close()


def context_for(browser: Any, url: str) -> Any:
    """Return the browsing context for an address; it stays until the browser is stopped, with the
    scripts that it has read."""
    if (browser, url) not in _contexts:
        _contexts[browser, url] = browser.new_context(
            base_url=url, viewport={"width": 1280, "height": 800}, color_scheme="light"
        )
    return _contexts[browser, url]


@contextmanager
def plain(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve the store of tests.stores; gives the URL, and where store and log are."""
    from tests.stores import make_store

    make_store(folder / "store")
    with served(folder / "store", folder / "log") as url:
        yield url, folder


@contextmanager
def alive(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve a harvest with a tiny model behind it; gives the URL, and where store and log are."""
    from tests.harvests import harvest_on_disk

    heads = {"reshape_activations": "hook_z", "metadata": {"hook_name": "blocks.1.attn.hook_z"}}
    harvest_on_disk(folder, tokens=4000, resid={"architecture": "standard"}, heads=heads)
    with served(folder / "store", folder / "log") as url:
        yield url, folder


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
    page = context_for(browser, url).new_page()
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
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.close()
    assert wrong == []
    assert "Traceback" not in log.read_text()


def settled(page) -> None:
    """Wait until the server has drawn the page to its end: keys are heard by what stays."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
