"""Pages that run the model, in a real browser: a tiny model and dictionaries on disk, harvested."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.harvest_reader import HarvestFile
from tests.browser import LOADING_MS, visiting

pytestmark = pytest.mark.browser
TEXT = "the cat ran to the park"


@pytest.fixture
def harvest(alive) -> Path:
    """The file of the harvest."""
    (found,) = (alive[1] / "store" / "harvests").glob("*.duckdb")
    return found


@pytest.fixture(scope="module")
def page(browser, alive) -> Iterator:
    """One page for the module; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = alive
    with visiting(browser, url, folder / "log", LOADING_MS) as found:
        yield found


def busiest(harvest: Path, name: str) -> str:
    table = HarvestFile(harvest).feature_table(name, order="density", descending=True, limit=1)
    return f"{name}/{table.column('feature')[0].as_py()}"


def test_a_prompt_is_typed_clicked_and_aimed(page) -> None:
    """Tokens, lens and lists; a click narrows; another order and position; then to a feature."""
    page.goto("/prompt?dictionary=resid&lens=1")
    page.locator("textarea").fill(TEXT)
    page.locator("textarea").press("Control+Enter")
    token = page.locator(".strip .tok", has_text="ran")
    token.wait_for()
    assert page.locator(".lens tr").count() == 4
    token.click()
    page.get_by_text("position 3: strongest there.").wait_for()
    assert page.locator(".lens td.selected").count() == 3
    page.locator(".list .row:not(.names)").first.hover()
    assert page.locator(".tok.positive").count() >= 1
    page.get_by_text("gradient × activation", exact=True).click()
    page.get_by_text("after position 6").wait_for()
    page.locator(".strip .tok", has_text="ran").click()
    page.get_by_role("button", name="toward the token after this one").click()
    page.get_by_text("after position 3").wait_for()
    assert "at=3" in page.url and "sort=gradient" in page.url and "text=the+cat" in page.url
    page.locator(".list .row a").first.click()
    page.wait_for_url("**/feature?**")


def test_effects_are_shown_and_there_at_once_on_the_next_visit(page, harvest: Path) -> None:
    url = f"/feature?feature={busiest(harvest, 'resid')}&tab=Effect+of+removing+it"
    page.goto(url)
    page.get_by_text("Δ loss without the feature").wait_for()
    lines = page.locator(".line .moved")
    first = lines.first.inner_text()
    assert "→" in first
    page.goto(url)
    page.get_by_text("Δ loss without the feature").wait_for()
    assert lines.first.inner_text() == first


def test_source_tokens_of_an_attention_feature(page, harvest: Path) -> None:
    page.goto(f"/feature?feature={busiest(harvest, 'heads')}&tab=Neurons+%26+heads")
    head = page.locator("tr.head").first
    head.wait_for()
    assert page.locator("tr.head").count() == 4
    head.hover()
    assert page.locator(".tok.looked").count() >= 1
    head.click()
    page.mouse.move(5, 5)
    assert page.locator("tr.head.chosen").count() == 1
    assert page.locator(".tok.looked").count() == 0
