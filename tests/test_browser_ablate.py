"""Ablation in a real browser: run a prompt without a part, look behind a token, open it again."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.browser import LOADING_MS, visiting

pytestmark = pytest.mark.browser
LINK = {
    "prompts": "the old cat saw a red ball and then the cat",
    "answer": " took",
    "wrong": " was",
    "part": "mlp:1",
}


@pytest.fixture
def page(browser, alive) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = alive
    with visiting(browser, url, folder / "log", LOADING_MS) as found:
        yield found


def test_a_prompt_without_a_part(page) -> None:
    page.goto(f"/ablate?{urlencode(LINK)}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("KL behind each token").wait_for()
    page.wait_for_url(re.compile("experiment="))
    assert page.locator(".tok").count() == 12  # BOS and eleven words
    assert page.get_by_text("answer", exact=True).count()
    page.locator(".tok").nth(3).click()
    page.locator("th", has_text="after “").get_by_text("cat").wait_for()
    page.locator(".tok").nth(3).press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("th", has_text="saw").wait_for()
    numbers = page.locator("td.number").all_inner_texts()
    page.goto(page.url)  # a new visit: the kept run, not a new one
    page.get_by_text(re.compile("^Kept as ")).first.wait_for()
    page.locator(".tok").nth(4).click()
    page.locator("th", has_text="saw").wait_for()
    assert page.locator("td.number").all_inner_texts() == numbers
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
