"""SQL, exports and the sheet of a feature in a real browser."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from tests.browser import visiting

pytestmark = pytest.mark.browser
ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7"


@pytest.fixture
def page(browser, plain) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = plain
    with visiting(browser, url, folder / "log") as found:
        yield found


def saved(page, button: str, folder: Path) -> Path:
    """What a click on a download button gives."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_query_is_typed_asked_and_taken_away(page, tmp_path: Path) -> None:
    """The answer, its URL, the same answer from the URL, CSV and Parquet."""
    page.goto("/sql")
    box = page.get_by_role("textbox", name="Query")
    box.fill("SELECT '=1+1' AS cell, feature FROM feature WHERE dictionary = 'abs'")
    page.get_by_role("button", name="Run").click()
    page.get_by_text("40 rows").wait_for()
    assert "sql=SELECT" in page.url
    csv = saved(page, "Download CSV", tmp_path).read_text("utf-8").splitlines()
    assert csv[:2] == ["cell,feature", "'=1+1,0"] and len(csv) == 41
    table = pq.read_table(saved(page, "Download Parquet", tmp_path))
    assert table.column("cell")[0].as_py() == "=1+1"
    page.reload()
    page.get_by_text("40 rows").wait_for()
    box.fill("SELECT 1 AS one")
    box.press("Control+Enter")
    page.get_by_text("1 row ·").wait_for()
    assert "one" in page.url


def test_a_refusal_shows_its_words_and_keeps_the_text(page) -> None:
    sql = "SELECT * FROM read_csv('<script>alert(1)</script>')"
    page.goto(f"/sql?sql={quote(sql)}")
    page.get_by_text("The query gave no answer").wait_for()
    page.get_by_text("file system operations are disabled").wait_for()
    assert page.get_by_role("textbox", name="Query").input_value() == sql


def test_a_long_query_is_cancelled(page) -> None:
    page.goto(f"/sql?sql={quote(ENDLESS)}")
    page.get_by_role("button", name="Cancel").click()
    begun = time.monotonic()
    page.get_by_text("Cancelled.").wait_for()
    assert time.monotonic() - begun < 5
    page.get_by_role("button", name="Strongest features").click()
    page.get_by_text("39 rows").wait_for()


@pytest.mark.parametrize("table", ["feature", "context", "token", "harvest", "sequence"])
def test_every_kind_of_column_can_be_shown(page, table: str) -> None:
    page.goto(f"/sql?sql=FROM {table}")
    page.get_by_test_id("stDataFrame").locator("canvas").first.wait_for()


def test_a_feature_opens_again_from_its_file(page, browser, tmp_path: Path) -> None:
    """From file://, without a server: corpus text is text, nothing runs, nothing is fetched."""
    page.goto("/feature?feature=abs/3")
    page.get_by_role("button", name="Export").click()
    page.get_by_text("file.payload(FeatureId('abs', 3))").wait_for()
    path = saved(page, "Download as HTML", tmp_path)
    assert path.name == "abs-3.html"
    for scheme, background in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(22, 24, 27)")):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 900, "height": 700})
        sheet = context.new_page()
        wrong: list[str] = []
        sheet.on("dialog", lambda dialog, wrong=wrong: wrong.append(dialog.message))
        sheet.on("console", lambda message, wrong=wrong: wrong.append(message.text))
        sheet.on("request", lambda request, wrong=wrong: wrong.append(request.url))
        sheet.goto(path.as_uri())
        assert wrong == [path.as_uri()]
        assert "<script>alert(1)</script>" in sheet.locator(".line").all_inner_texts()[0] + "".join(
            sheet.locator(".tok").all_text_contents()
        )
        assert sheet.locator("script").count() == 0 and sheet.locator(".peak").count() > 40
        shade = sheet.evaluate("getComputedStyle(document.body).backgroundColor")
        assert shade == background
        assert sheet.evaluate("document.documentElement.scrollWidth") <= 900
        context.close()


@pytest.mark.parametrize("path", ["/", "/features?dictionary=abs"])
def test_pages_say_how_python_gets_their_data(page, path: str) -> None:
    page.goto(path)
    page.get_by_role("button", name="Export").click()
    page.get_by_text("from feature_store.store import Store").wait_for()
