"""The four searches in a real browser, with a real model behind the last of them."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.harvest.run import HarvestRun
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.browser import served, visiting
from tests.harvests import Rig, published
from tests.models import save

pytestmark = pytest.mark.browser
TEXT = "the cat ran to the park"
LOADING_MS = 300_000
"""How long a busy machine may take to load torch and the model."""


@pytest.fixture(scope="module")
def site(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Store]]:
    """A store whose model and dictionaries lie on disk, so that the server can load them."""
    folder = tmp_path_factory.mktemp("search")
    request = replace(rig.request(folder / "store"), model=str(save(folder / "tiny")))
    harvest = HarvestRun(request)
    assert list(harvest.run()) and published(harvest).exists()
    store = Store(folder / "store")
    store.catalog.annotate(FeatureId("top", 3), "label", "the dog sat")
    store.catalog.annotate(FeatureId("top", 4), "label", "<b>quick</b> & *tree*")
    with served(folder / "store", folder / "log") as url:
        yield url, folder / "log", store


@pytest.fixture
def page(browser, site) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    with visiting(browser, site[0], site[1]) as found:
        yield found


def ask(page, way: str, query: str) -> None:
    """Choose a way of searching, and type."""
    page.get_by_role("radio", name=way, exact=True).click()
    page.wait_for_url(re.compile("[?&]by="))  # what is typed while the page is drawn anew is lost
    field = page.get_by_role("textbox", name="Search", exact=True)
    field.fill(query)
    field.press("Enter")
    page.wait_for_url(re.compile("[?&]q="))


def open_first(page, feature: str) -> None:
    """Click the first row: the grid is painted, so by its place. `feature` is a pattern."""
    from playwright.sync_api import TimeoutError as Late

    table = page.get_by_test_id("stDataFrame")
    for _ in range(5):  # a grid that is drawn anew meanwhile does not hear a click
        page.wait_for_timeout(500)
        table.scroll_into_view_if_needed()
        box = table.bounding_box()
        page.mouse.click(box["x"] + 60, box["y"] + 35 + 14)
        try:
            page.wait_for_url(re.compile(f"feature=.*{feature}"), timeout=6000)
            break
        except Late:
            continue
    page.wait_for_url(re.compile(f"feature=.*{feature}"))
    page.locator("h1").wait_for()


def test_by_label_by_meaning_and_by_token(page, site) -> None:
    """A misspelled label, a word that no label has, and a token, each to its feature."""
    page.goto("/search")
    page.get_by_text("Type a word or a token").wait_for()
    ask(page, "label", "dgo sat")
    page.get_by_text(re.compile("^1 feature")).wait_for()
    open_first(page, "top%2F3")

    page.goto("/search")
    ask(page, "meaning", "tree")
    page.get_by_text("nearest by word vectors of the corpus").wait_for()
    assert "by=meaning" in page.url
    open_first(page, "top%2F4")

    page.goto("/search")
    ask(page, "fires on token", "cat")
    page.get_by_text(re.compile("as tokens: “.*cat”")).wait_for()
    open_first(page, r"\w+%2F\d+")


@pytest.mark.timeout(600)
def test_by_text_over_all_tokens_and_over_one(page) -> None:
    """Typed, read by the model, one token selected and let go; the row takes the text along."""
    page.goto("/search?by=text")
    page.get_by_text("Type a text above").wait_for()
    field = page.get_by_role("textbox", name="Text", exact=True)
    field.fill(TEXT)
    field.press("Control+Enter")
    strip = page.locator(".strip .tok")
    strip.first.wait_for(timeout=LOADING_MS)
    shown = "".join(strip.all_text_contents()[1:])
    assert shown.replace(" ", "") == TEXT.replace(" ", "")  # this tokenizer has no spaces
    page.get_by_text("active on the text").wait_for()
    strip.nth(2).click()
    page.get_by_text("active on the selected tokens").wait_for()
    page.wait_for_url(re.compile("at=2"))
    page.reload()
    page.locator(".strip .tok.selected").wait_for()
    strip.nth(2).click()
    page.get_by_text("active on the text").wait_for()
    assert "at=" not in page.url
    open_first(page, r"\w+%2F\d+")
    assert "test=the" in page.url
