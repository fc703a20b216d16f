"""The SQL page over a store made by hand: empty, from a link, refused, and its examples."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from tests.pages import opened
from tests.stores import make_store

pytestmark = pytest.mark.process
Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("sql") / "store").path


@pytest.fixture
def visit(stored: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the SQL page at a URL."""

    def go(**query: str) -> AppTest:
        monkeypatch.setenv(session.STORE, str(stored))
        return settled(opened(session.SQL, **query))

    return go


def settled(test: AppTest) -> AppTest:
    """The page once its query has ended, however slow this machine is."""
    while any("Running" in caption.value for caption in test.caption):
        test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    parts = [*test.markdown, *test.caption, *test.code, *test.title]
    return "\n".join(part.value for part in parts).replace("\\", "")


def test_without_a_query_it_says_what_it_reads(visit: Open) -> None:
    test = visit()
    assert "Reads the harvest tiny-0001 and a copy of the annotations" in said(test)
    assert {expander.label for expander in test.expander} >= {"feature", "context", "annotation"}
    assert len(test.dataframe) == 0


def test_a_link_with_a_query_opens_with_its_answer(visit: Open) -> None:
    test = visit(sql="SELECT feature FROM feature WHERE dictionary = 'abs'")
    assert test.dataframe[0].value["feature"].tolist() == list(range(40))
    assert "40 rows" in said(test)
    assert 'table = run_query(store, \'tiny-0001\', """SELECT feature' in said(test)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT densty FROM feature", "Binder Error"),
        ("SELECT * FROM read_csv('a')", "disabled by configuration"),
        ("DROP TABLE annotation", "only reads"),
    ],
)
def test_an_error_is_shown_and_the_text_kept(visit: Open, sql: str, words: str) -> None:
    test = visit(sql=sql)
    assert words in said(test) and test.text_area[0].value == sql


def test_every_example_runs_and_goes_into_the_url(visit: Open) -> None:
    test = visit(dictionary="abs")
    for title in ("Strongest features", "Tokens of one-token features", "Labels in force"):
        next(button for button in test.button if button.label == title).click()
        settled(test.run())
        assert test.query_params["sql"] == test.text_area[0].value
        assert "The query gave no answer" not in said(test)
    assert "no row passes it" in said(test)


def test_what_was_typed_is_there_on_the_way_back(visit: Open) -> None:
    test = visit()
    test.text_area[0].set_value("SELECT 'half a thou").run()
    test.switch_page(session.FEATURES).run()
    settled(test.switch_page(session.SQL).run())
    assert test.text_area[0].value == "SELECT 'half a thou"


def test_a_query_too_long_for_a_link_stays_and_says_so(visit: Open) -> None:
    test, long = visit(), f"SELECT 1 --{'x' * 7000}"
    test.text_area[0].set_value(long)
    settled(next(one for one in test.button if one.label == "Run").click().run())
    assert "a link holds 6\u202f000" in said(test) and test.text_area[0].value == long
    test.text_area[0].set_value("SELECT 1 AS one")
    settled(next(one for one in test.button if one.label == "Run").click().run())
    assert test.dataframe[0].value["one"].tolist() == [1] and "a link holds" not in said(test)
