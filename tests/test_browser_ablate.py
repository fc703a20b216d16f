"""Ablation in a real browser: run a prompt without a part, look behind a token, open it again."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.browser import LOADING_MS, chromium, served
from tests.harvests import harvest_on_disk

pytestmark = pytest.mark.browser
LINK = {"prompts": "the old cat saw a red ball and then the cat", "answer": " took",
        "wrong": " was", "part": "mlp:1"}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tiny harvest whose weights lie on disk, served."""
    folder = tmp_path_factory.mktemp("ablate")
    harvest_on_disk(folder)
    with served(folder / "store", folder / "log") as url:
        yield url
    assert "Traceback" not in (folder / "log").read_text()


def test_a_prompt_without_a_part(site: str) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(LOADING_MS)
        page.goto(f"{site}/ablate?{urlencode(LINK)}")
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
        assert page.get_by_test_id("stException").count() == 0
