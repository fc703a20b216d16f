"""Two visitors on harvests of two models that do not fit into memory together, in a browser."""

import time
from pathlib import Path

import pytest

from feature_store.harvest_reader import HarvestFile
from tests.browser import LOADING_MS, served, visiting
from tests.two_models import BOTH, store_of_two_models

pytestmark = pytest.mark.browser
TEXTS = ("the cat ran", "a dog saw the park", "mum and dad")
SETUP = f"""
import time
from app import live
from backend.engine import LocalEngine
load = LocalEngine.load

def slowly(file, places, placement, lm=None):
    if lm is None:
        time.sleep(2.5)
    return load(file, places, placement) if lm is None else load(file, places, placement, lm)

LocalEngine.load, live._budget = slowly, lambda: {BOTH}
"""
"""In the server: loading a model takes a while, and one fits."""
LOOK_MS = 50
"""Between two looks at both pages."""


def _url(file: HarvestFile) -> str:
    return f"/prompt?harvest={file.record.id}&dictionary=resid&text={TEXTS[0].replace(' ', '+')}"


def test_two_tabs_on_two_models_take_turns_and_say_what_they_wait_for(
    browser, tmp_path: Path
) -> None:
    store, log = store_of_two_models(tmp_path), tmp_path / "log"
    said = set()
    with (
        served(store.path, log, SETUP) as url,
        visiting(browser, url, log, LOADING_MS) as one,
        visiting(browser, url, log, LOADING_MS) as other,
    ):
        tabs = [one, other]
        for tab, file in zip(tabs, store.harvests(), strict=True):
            tab.goto(_url(file), wait_until="commit")
        for text in TEXTS:
            if text != TEXTS[0]:
                for tab in tabs:
                    tab.locator("textarea").fill(text)
                    tab.locator("textarea").press("Control+Enter")
            until = time.monotonic() + LOADING_MS / 1000
            words = text.split()
            while not all(_read(tab) == words for tab in tabs) and time.monotonic() < until:
                said |= {line for tab in tabs for line in tab.locator("p").all_inner_texts()}
                one.wait_for_timeout(LOOK_MS)
            assert [_read(tab) for tab in tabs] == [words, words]
    lines = "\n".join(said)
    assert "Loading the model of harvest model-" in lines and "s so far" in lines
    assert "another load is under way" in lines or "waits for its turn" in lines


def _read(tab) -> list[str]:
    """The tokens that the page shows, without BOS."""
    return [text.strip() for text in tab.locator(".strip .tok").all_inner_texts()][1:]
