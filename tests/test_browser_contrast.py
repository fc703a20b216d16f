"""Contrast in a real browser: two sets of texts, their first feature, and one of its texts."""

import re
from collections.abc import Iterator

import pytest

from tests.browser import LOADING_MS, visiting

pytestmark = pytest.mark.browser
CATS = "\n".join(f"the {a} cat {b}" for a in ("big", "old", "red") for b in ("ran", "sat"))


@pytest.fixture
def page(browser, alive) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = alive
    with visiting(browser, url, folder / "log", LOADING_MS) as found:
        yield found


def test_from_two_sets_of_texts_to_a_feature_on_one_of_them(page) -> None:
    page.goto("/contrast")
    page.get_by_label("Texts of side a").fill(CATS)
    page.get_by_label("Texts of side b").fill(CATS.replace("cat", "<b>dog</b>"))
    page.get_by_label("Name of side a").fill("cats")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Features beside neurons").wait_for()
    page.get_by_text(re.compile("^6 cats and 6 B: ")).wait_for()
    assert "a_name=cats" in page.url
    page.locator(".js-plotly-plot .scatterlayer .points").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.reload()  # the link carries the comparison
    page.get_by_text(re.compile("^6 cats and 6 B: ")).wait_for()
    page.locator("td a.link").first.click()
    page.wait_for_url(re.compile(r"/feature\?.*test=the"))
    page.get_by_text(re.compile("^(Fires on|Silent on) ")).first.wait_for()
