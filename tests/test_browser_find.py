"""Search, label and star in a real browser: what a person does, and sees."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.records import FeatureId
from tests.browser import served, settled, visiting
from tests.stores import make_store

pytestmark = pytest.mark.browser
MARKUP = "<script>alert(1)</script> & *dogs*"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("find")
    store = make_store(folder / "store")
    store.catalog.annotate(FeatureId("abs", 5), "label", "walking in the park")
    with served(folder / "store", folder / "log") as url:
        yield url, folder / "log"


@pytest.fixture
def page(browser, site) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    with visiting(browser, *site) as found:
        yield found


def shows(field, text: str) -> None:
    """Wait until a field has this text: the page is drawn from above to below."""
    from playwright.sync_api import expect

    expect(field).to_have_value(text)


def title(page, text: str) -> None:
    page.locator("h1", has_text=re.compile(text)).wait_for()
    page.locator(".line .tok.peak").first.wait_for()


def test_a_search_with_a_typing_error_leads_to_the_feature(page) -> None:
    page.goto("/search")
    page.get_by_text("Type a word or a token").wait_for()
    field = page.get_by_role("textbox", name="Search", exact=True)
    field.fill("wlaking")
    field.press("Enter")
    page.get_by_text(re.compile("^1 feature ")).wait_for()
    assert "q=wlaking" in page.url
    page.wait_for_timeout(500)  # the grid is painted, not built of elements
    box = page.get_by_test_id("stDataFrame").bounding_box()
    page.mouse.click(box["x"] + 100, box["y"] + 35 + 14)
    title(page, "abs / 5walking in the park")
    page.go_back()
    page.get_by_text(re.compile("^1 feature ")).wait_for()
    assert field.input_value() == "wlaking"


def test_label_note_and_star_stay_with_their_feature(page) -> None:
    """Typed, saved on leaving the field, in the heading; the next feature has none of it."""
    page.goto("/feature?feature=resid/3")
    title(page, "resid / 3")
    label, note = (page.get_by_label(name, exact=True).first for name in ("Label", "Note"))
    label.fill(MARKUP)
    note.click()  # leaves the label, which saves it while the note is being typed
    page.keyboard.type("one two three, slowly typed", delay=25)
    page.locator("h1 .label", has_text=MARKUP).wait_for()
    assert note.input_value() == "one two three, slowly typed"
    page.locator("h1").click()
    page.get_by_text("History (2)").wait_for()
    page.keyboard.press("s")
    page.locator(".star", has_text="★").wait_for()
    settled(page)
    page.keyboard.press("j")
    title(page, "resid / 4☆")
    shows(label, "")
    shows(note, "")
    settled(page)
    page.keyboard.press("k")
    title(page, r"resid / 3<script>.*★")
    shows(note, "one two three, slowly typed")
    page.get_by_role("button", name="Undo").click()
    page.locator(".star", has_text="☆").wait_for()
    page.goto("/features?dictionary=resid&labelled=1")
    page.get_by_text("1 of 40 features").wait_for()


def test_no_page_scrolls_sideways(page) -> None:
    for width in (1280, 900):
        page.set_viewport_size({"width": width, "height": 700})
        for path in ("/search?q=dog", "/feature?feature=abs/5", "/features?dictionary=abs"):
            page.goto(path)
            page.locator("tbody tr, .tok.peak, [data-testid=stDataFrame]").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
