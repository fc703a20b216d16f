"""Lists in a real browser: filled, noted, taken away as a file and brought back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.catalog import Catalog
from tests.browser import served, visiting
from tests.stores import make_store

pytestmark = pytest.mark.browser
MARKUP = "<script>alert(1)</script> & *dogs*"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("lists")
    make_store(folder / "store")
    with served(folder / "store", folder / "log") as url:
        yield url, folder


@pytest.fixture
def page(browser, site) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    with visiting(browser, site[0], site[1] / "log") as found:
        yield found


def typed(page, name: str, text: str) -> None:
    field = page.get_by_role("textbox", name=name, exact=True)
    field.fill(text)
    field.press("Enter")


def taken(page, name: str, target: Path) -> Path:
    with page.expect_download() as held:
        page.get_by_role("button", name=name, exact=True).first.click()
    held.value.save_as(target)
    return target


def brought(page, file: Path) -> None:
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_test_id("stFileChipName").get_by_text(file.name).wait_for()
    page.get_by_role("button", name="Import", exact=True).click()


def test_a_list_is_filled_changed_taken_away_and_brought_back(page, site, tmp_path: Path) -> None:
    catalog = Catalog(site[1] / "store" / "catalog.duckdb")
    page.goto("/lists")
    typed(page, "New list", MARKUP)
    typed(page, "Add features", "3, abs/4")
    note = page.get_by_label("note of resid/3")
    note.fill(MARKUP)
    note.press("Enter")
    page.get_by_text("History (3)").wait_for()
    page.get_by_label("move abs/4 up").click()
    page.get_by_text("History (4)").wait_for()
    page.get_by_label("remove abs/4").click()
    page.get_by_label("note of abs/4").wait_for(state="detached")
    page.get_by_role("button", name="Undo", exact=True).click()
    page.get_by_label("note of abs/4").wait_for()
    (made,) = catalog.snapshot().lists.current
    said = [(str(entry.feature), entry.note) for entry in made.entries]
    assert made.name == MARKUP and said == [("abs/4", ""), ("resid/3", MARKUP)]

    page.get_by_role("button", name="Export", exact=True).click()
    html = taken(page, "Download as HTML", tmp_path / "list.html").read_text("utf-8")
    assert "<script" not in html and "abs/4" in html
    file = taken(page, "Download as JSON", tmp_path / "list.json")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("This list is deleted.").wait_for()

    page.get_by_role("link", name="Lists").click()
    page.get_by_text("No list yet.").wait_for()
    brought(page, file)
    page.get_by_text("0 rows of lists imported; 2 rows were there already.").wait_for()
    page.get_by_role("link", name=MARKUP).click()
    page.get_by_label("note of resid/3").wait_for()
    assert page.get_by_label("note of resid/3").input_value() == MARKUP
    page.get_by_role("link", name="abs/4", exact=True).click()
    page.locator("h1", has_text="abs / 4").wait_for()


def test_a_malformed_file_is_refused_and_changes_nothing(page, site, tmp_path: Path) -> None:
    row = {"dictionary": "resid", "feature": 3, "kind": "label", "value": MARKUP}
    rows = [row, {**row, "feature": 99}]
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"saefari": "labels", "version": 1, "rows": rows}))
    page.goto("/lists")
    brought(page, file)
    page.get_by_text("bad.json, row 2: resid has features 0 to 39, not 99.").wait_for()
    assert Catalog(site[1] / "store" / "catalog.duckdb").snapshot().in_force.num_rows == 0
    page.get_by_test_id("stFileChipName").wait_for(state="detached")
    file = tmp_path / "good.json"
    file.write_text(json.dumps({"saefari": "labels", "version": 1, "rows": rows[:1]}))
    brought(page, file)
    page.get_by_text("1 row of labels imported.").wait_for()
    page.goto("/feature?feature=resid/3")
    page.locator("h1", has_text=MARKUP).wait_for()
