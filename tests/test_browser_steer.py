"""The Steer page in a real browser: tokens stream, stop stops, a kept run opens again."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import models
from tests.browser import LOADING_MS, chromium, served, visiting
from tests.harvests import harvest_on_disk

pytestmark = pytest.mark.browser
SAID = ".tok:not(.given)"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harvest whose weights lie on disk, for a server to load."""
    folder = tmp_path_factory.mktemp("steer")
    harvest_on_disk(folder, tokens=4000, resid={"architecture": "standard"})
    return folder / "store"


@pytest.fixture(scope="module")
def page(store: Path) -> Iterator:
    """One page for the module, as loading the model is what takes time."""
    log = store / "log"
    with (
        served(store, log) as url,
        chromium() as browser,
        visiting(browser, url, log, LOADING_MS) as found,
    ):
        yield found


def run(page, query: str) -> None:
    page.goto(f"/steer?{query}")
    page.get_by_role("button", name="run ▶").click()
    page.locator(SAID).first.wait_for()


def test_a_text_streams_is_clicked_and_opens_again(page) -> None:
    """From the feature's page; tokens grow; heat, underlines and a table; then by its link."""
    page.goto("/feature?feature=resid/3")
    page.get_by_role("link", name="steer", exact=True).click()
    page.locator("textarea").fill("the cat ran")
    page.get_by_role("button", name="run ▶").click()
    page.get_by_text("kept as").wait_for()
    assert page.locator(f".col:nth-child(2) {SAID}").count() == models.N_CTX - 4
    assert page.locator(".rail").nth(1).inner_text().startswith("KL ")
    texts = page.locator(".col .text").all_inner_texts()
    page.locator(SAID).nth(3).click()
    page.get_by_text("next token at").wait_for()
    assert page.locator(".next .line:not(.names)").count() == 15
    page.locator(SAID).nth(3).press("ArrowRight")
    assert page.locator(".hint").inner_text().startswith("“")
    assert page.get_by_role("link", name=re.compile("^[0-9a-f]{10}$")).count() == 1
    page.wait_for_url("**experiment=**")
    page.goto(page.url)
    page.locator(SAID).first.wait_for()
    assert page.locator(".col .text").all_inner_texts() == texts


def test_a_run_can_be_stopped_and_the_setting_stays(page) -> None:
    from playwright.sync_api import TimeoutError as Late

    run(page, "feature=resid/5&prompt=the+cat")
    stop = page.get_by_role("button", name="stop ■")
    with suppress(Late):  # the tiny model may be done first: the button is disabled then
        stop.click(timeout=2000)
    page.get_by_text("kept as").wait_for()
    assert page.locator("textarea").input_value() == "the cat"
    assert page.get_by_role("button", name="stop ■").is_disabled()
