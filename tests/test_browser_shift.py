"""SHIFT in a real browser: texts, ranked features, ticks, the probe before and after, the link."""

import re
from collections.abc import Iterator

import pytest

from backend.probing.probe_texts import format_labelled_texts
from tests.browser import LOADING_MS, visiting
from tests.planted import trapped

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, alive) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = alive
    with visiting(browser, url, folder / "log", LOADING_MS) as found:
        yield found


def test_from_texts_to_the_probe_before_and_after(page) -> None:
    page.goto("shift")
    for name, together in (("Texts to learn from", True), ("Texts to judge on", False)):
        page.get_by_role("textbox", name=name).fill(
            format_labelled_texts(trapped(60, together=together))
        )
    page.get_by_role("button", name="Train and rank").click()
    page.get_by_text("0 features marked").wait_for()
    table = page.get_by_test_id("stDataFrame").first.bounding_box()
    page.mouse.click(table["x"] + 44, table["y"] + 35 + 14)
    page.get_by_text("1 feature marked").wait_for()
    page.get_by_role("spinbutton", name="Random sets").fill("2")
    page.get_by_role("spinbutton", name="Random sets").press("Enter")
    page.get_by_role("button", name="Take the marked features away").click()
    page.get_by_text(re.compile("^Per cent of ")).wait_for()
    page.get_by_role("link", name=re.compile("^[0-9a-f]{10}$")).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    link = page.get_by_role("link", name=re.compile("^[0-9a-f]{10}$")).get_attribute("href")
    page.goto(link)
    page.get_by_text("1 feature marked").wait_for()
    page.get_by_text(re.compile("^Per cent of ")).wait_for()
