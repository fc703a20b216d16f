"""Reading contexts in a real browser: widths, line breaks, whole sequences, documents, compare."""

import re
from collections.abc import Iterator

import pytest

from tests.browser import visiting
from tests.stores import LENGTH

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browser, plain) -> Iterator:
    """One page for all of it; afterwards nothing may have gone wrong."""
    url, folder = plain
    with visiting(browser, url, folder / "log") as found:
        yield found


def shown(page) -> int:
    """Tokens of the first context that can be seen."""
    line = page.locator(".line").first
    return line.locator(".tok").evaluate_all("all => all.filter((t) => t.offsetWidth).length")


def test_widths_breaks_and_whole_sequences(page) -> None:
    page.goto("/feature?feature=resid/4")
    page.locator(".line .tok.peak").first.wait_for()
    usual = shown(page)
    page.get_by_role("button", name="±5").click()
    assert shown(page) <= 11 < usual
    page.get_by_role("button", name="↵").click()
    broken = page.locator(".line br").evaluate_all("all => all.some((b) => b.offsetParent)")
    assert broken
    page.get_by_role("button", name="whole", exact=True).click()
    page.locator(".line").first.locator(".tok").nth(LENGTH - 1).wait_for()
    assert shown(page) == LENGTH
    page.reload()
    page.locator(".line").first.locator(".tok").nth(LENGTH - 1).wait_for()
    page.get_by_role("button", name="±16").click()
    page.get_by_role("button", name="↵").click()
    assert shown(page) == usual


def test_silent_windows_have_no_heat(page) -> None:
    page.goto("/feature?feature=resid/4")
    page.get_by_role("tab", name="silent").click()
    page.locator(".section").first.wait_for()
    assert page.locator(".section").first.inner_text().startswith("Silent at a token")
    assert page.locator(".tok.positive").count() == 0
    page.get_by_role("tab", name="top").click()
    assert page.locator(".tok.positive").count() > 0


def test_a_context_leads_to_its_document_and_markup_stays_text(page) -> None:
    page.goto("/feature?feature=resid/3")
    page.locator(".document a").nth(1).click()
    page.locator(".tok.here").wait_for()
    assert re.search(r"/document\?.*feature=resid%2F3.*sequence=1&position=\d+", page.url)
    assert page.locator("h1").inner_text() == "text.jsonl#1"
    words = "".join(page.locator(".strip .tok").all_text_contents())
    assert "<script>alert(1)</script>" in words and page.locator(".root script").count() == 0


def test_from_neighbours_to_compare_and_back_to_a_feature(page) -> None:
    page.goto("/feature?feature=resid/3")
    page.get_by_role("link", name="Compare nearest").click()
    page.locator("h1", has_text="Compare").wait_for()
    page.get_by_role("button", name="resid/5 ×").click()
    page.get_by_role("button", name="resid/5 ×").wait_for(state="detached")
    assert re.search(r"feature=resid%2F3&feature=resid%2F4$", page.url)
    page.locator("td a.link", has_text="resid/4").click()
    page.locator("h1", has_text=re.compile(r"resid / 4")).wait_for()
