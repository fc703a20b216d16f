"""The Steer page in a real browser: tokens stream, stop stops, a kept run opens again."""

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests import models
from tests.browser import LOADING_MS, visiting

pytestmark = pytest.mark.browser
SAID = ".tok:not(.given)"


@pytest.fixture(scope="module")
def page(browser, alive) -> Iterator:
    """One page for the module; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = alive
    with visiting(browser, url, folder / "log", LOADING_MS) as found:
        yield found


def run(page, query: str) -> None:
    page.goto(f"/steer?{query}")
    page.get_by_role("button", name="run ▶").click()
    page.locator(SAID).first.wait_for()


def test_a_text_streams_is_clicked_and_opens_again(page) -> None:
    """From the feature's page; tokens grow; heat, underlines and a table; then by its link."""
    from playwright.sync_api import expect

    page.goto("/feature?feature=resid/3")
    page.get_by_role("link", name="steer", exact=True).click()
    go = page.get_by_role("button", name="run ▶")
    go.wait_for()
    expect(page.locator("textarea")).to_have_count(1)  # the feature page's own is gone
    page.locator("textarea").fill("the cat ran")
    go.click()
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
    from playwright.sync_api import expect

    run(page, "feature=resid/5&prompt=the+cat")
    stop = page.get_by_role("button", name="stop ■")
    with suppress(Late):  # the tiny model may be done first: the button is disabled then
        stop.click(timeout=2000)
    page.get_by_text("kept as").wait_for()
    expect(page.locator("textarea")).to_have_count(1)  # that of the page before is gone
    assert page.locator("textarea").input_value() == "the cat"
    expect(stop).to_be_disabled(timeout=LOADING_MS)
