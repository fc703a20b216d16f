"""What every test may ask for. The environment is set before anything imports torch."""

import functools
import gc
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# A loaded machine is no failure of the law under test.
settings.register_profile("saefari", parent=settings(), deadline=None)
settings.load_profile("saefari")


gc.disable()  # a quarter of the time that torch and its kin take to import


def pytest_collection_finish() -> None:
    """What was imported stays: no collection need walk through it; and a few will do."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


TOGETHER = {
    "plain": ("browser", "browser_reading", "browser_sql"),
    "alive": (
        "browser_ablate",
        "browser_contrast",
        "browser_live",
        "browser_shift",
        "browser_steer",
    ),
}
"""Fixture that serves a store → the files tests/test_NAME.py that share the server."""
GROUPS = {f"test_{name}": group for group, names in TOGETHER.items() for name in names}
LONG = ("circuits", "search", "models", "jobs")
"""Files of browser tests that take longest: tests/test_browser_NAME.py."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the files that share a server to one worker (`--dist loadfile`).

    xdist's own groups (`--dist loadgroup`) do nothing in pytest 9.
    """
    from xdist.scheduler import LoadFileScheduling

    class Grouped(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            stem = Path(nodeid.partition("::")[0]).stem
            return GROUPS.get(stem, stem)

    return Grouped(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the address and the text of its page to the report of a browser test that failed."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and page is not None:
        with suppress(Exception):
            report.sections.append(("page", f"{page.url}\n{page.inner_text('body')}"))
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests for two workers.

    Browser tests come first, so that a worker starts Chromium once; those that take longest come
    before others, so that no worker waits for them at the end; files that share a server follow
    each other.
    """
    long = [f"test_browser_{name}" for name in LONG]
    places: dict[str, int] = {}

    def rank(item: pytest.Item) -> tuple[bool, bool, int]:
        stem = item.path.stem
        group = GROUPS.get(stem, stem)
        place = places.setdefault(group, len(places))
        return "browser" not in fixtures_of(item), stem not in long, place

    items.sort(key=rank)


def fixtures_of(item: pytest.Item) -> list[str]:
    """Return the names of all fixtures that a test takes, its fixtures' fixtures included."""
    return getattr(item, "fixturenames", [])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a browser or server before a test that does not take it: memory is short, and next to
    Playwright no other event loop can run."""
    _close_shared(fixtures_of(item))


def _close_shared(taken: Collection[str] = ()) -> None:
    if "tests.browser" in sys.modules:
        sys.modules["tests.browser"].close_shared(taken)


def pytest_unconfigure() -> None:
    _close_shared()
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """Put back the main module, which Streamlit replaces by the page that it runs.

    Processes that a later test starts import the main module, and would run that page.
    """
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def _own_engine() -> Iterator[None]:
    """No page finds the engine, or its refusal, that the test before it left with the app."""
    yield
    for name, kept in (("app.live", "models"), ("app.session", "_open"), ("app.firing", "fired")):
        if name in sys.modules:
            getattr(sys.modules[name], kept).clear()


@pytest.fixture(autouse=True)
def _owner_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are those of their owner, as on a loopback address, unless a test says otherwise."""
    monkeypatch.setenv("SAEFARI_JOBS", "1")
    monkeypatch.setenv("SAEFARI_SHARED", "0")


@pytest.fixture(scope="session", autouse=True)
def _shared_models() -> Iterator[None]:
    """They are at the end as they were made."""
    yield
    if "tests.models" in sys.modules:
        sys.modules["tests.models"].assert_left_as_they_were()


@pytest.fixture(scope="session", autouse=True)
def _pages() -> None:
    """Each AppTest reads the metadata of every installed package (300 ms): here the first one.

    Magic is off, as `saefari app` has it: with it each run parses its script, and in Python 3.11 a
    parse fails where another thread parses at the same time.
    """
    if "streamlit.testing.v1" in sys.modules:
        from streamlit import config
        from streamlit.components.v2 import manifest_scanner

        config.set_option("runner.magicEnabled", False)
        kept = functools.cache(manifest_scanner.scan_component_manifests)
        manifest_scanner.scan_component_manifests = kept


@pytest.fixture(scope="session")
def tiny_lm():
    """A random three-layer Llama with a vocabulary of words; shared, so leave no hooks on it."""
    from tests.models import shared

    return shared("llama")


def _folder_named_by(variable: str, holds: str) -> Path:
    """Return the folder that an environment variable names, or skip the test and say why."""
    given = os.environ.get(variable, "")
    if not given or not Path(given).is_dir():
        pytest.skip(f"set {variable} to a folder of {holds}")
    return Path(given)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of a small real model, its dictionaries and texts (SAEFARI_TEST_DATA)."""
    return _folder_named_by("SAEFARI_TEST_DATA", "real models and dictionaries")


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of other tools' files that once failed (SAEFARI_TEST_CASES)."""
    return _folder_named_by("SAEFARI_TEST_CASES", "other tools' files that once failed")


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of SmolLM2-135M-Instruct and Gemma-3-270M (SAEFARI_TEST_MODELS)."""
    return _folder_named_by("SAEFARI_TEST_MODELS", "SmolLM2-135M-Instruct and Gemma-3-270M")


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory):
    """A tiny model with three dictionaries and a corpus, ready to be harvested; read only."""
    from tests.harvests import make_rig

    return make_rig(tmp_path_factory.mktemp("rig"))


@pytest.fixture(scope="session")
def harvested(rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published file of an undisturbed harvest of the rig; read only."""
    return rig.harvest(tmp_path_factory.mktemp("harvested"))


@pytest.fixture(scope="session")
def base(rig, tmp_path_factory: pytest.TempPathFactory):
    """A store in which features can be explained and scored; read only: link to its harvest."""
    from tests.jobs import explainable

    return explainable(rig, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    from tests.browser import chromium, shared

    return shared("browser", chromium)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Pages of the store of tests.stores, for tests that only read it. The URL, and where store
    and log are."""
    from tests.browser import plain, shared

    return shared("plain", lambda: plain(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Pages with a tiny model behind them, for tests that leave what others kept there; `resid`
    fires on most tokens, `heads` reads an attention layer. The URL, and where store and log are."""
    from tests.browser import alive, shared

    return shared("alive", lambda: alive(tmp_path_factory.mktemp("alive")))
