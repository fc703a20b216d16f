"""The SHIFT and Behaviours pages over a tiny harvest: empty, refused, run, kept, opened again."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.behaviours import keeping
from app.shift import marking
from app.steer import run
from backend.engine import LocalEngine
from backend.prediction_clusters.cluster_analysis import find_clusters
from backend.prediction_clusters.cluster_plan import ClusterPlan
from backend.probing.probe_texts import format_labelled_texts
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store
from tests.harvests import Rig
from tests.pages import engine_loaded, opened
from tests.planted import trapped

pytestmark = pytest.mark.process
Open = Callable[..., AppTest]
TRAIN, TEST = (
    format_labelled_texts(trapped(60, together=True)),
    format_labelled_texts(trapped(60, together=False)),
)


@pytest.fixture(scope="module")
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.fixture
def store(harvested: Path, tmp_path: Path) -> Path:
    """A store of this test's own, with the harvest of all."""
    (tmp_path / "harvests").mkdir()
    (tmp_path / "harvests" / harvested.name).symlink_to(harvested)
    return tmp_path


@pytest.fixture
def visit(store: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A page at a URL; its engine is the rig's, already loaded."""
    monkeypatch.setenv(session.STORE, str(store))
    monkeypatch.setattr(LocalEngine, "load", lambda *_: engine)
    run.line.clear()

    def go(page: str, **query: str) -> AppTest:
        file = Store(store).harvest(None)
        assert engine_loaded(file)
        return opened(page, **query)

    return go


def said(test: AppTest) -> str:
    return " ".join(part.value for part in [*test.markdown, *test.caption]).replace("\\", "")


def until(test: AppTest, words: str) -> AppTest:
    """The page once it says so."""
    end = time.monotonic() + 60
    while words not in said(test) and time.monotonic() < end:
        test.run()
        assert not test.exception
    assert words in said(test)
    return test


def press(test: AppTest, label: str) -> AppTest:
    return next(one for one in test.button if one.label == label).click().run()


def test_from_texts_to_a_kept_run_and_back(visit: Open) -> None:
    test = visit(session.SHIFT, dictionary="top", on="top")
    press(test, "Train and rank")
    assert "Give texts to learn from" in said(test)
    test.text_area(key="shift_train").set_value(TRAIN)
    test.text_area(key="shift_test").set_value(TEST)
    test.number_input(key="shift_exact").set_value(3)
    press(test, "Train and rank")
    until(test, "features marked")
    assert "A probe for she against he at blocks.1.hook_resid_post" in said(test)
    first = test.session_state["shift_rank"].result["rows"][0]["feature"]
    marked(test, [first])
    test.number_input(key="shift_draws").set_value(3)
    press(test, "Take the marked features away")
    until(test, "Per cent of")
    assert "Retrained without them: accuracy" in said(test)
    name = test.session_state["shift_judge"].kept
    again = visit(session.SHIFT, experiment=name)
    assert "Per cent of" in said(again) and "1 feature marked" in said(again)
    press(again, "Unmark all")
    assert "The marks have changed since" in said(again)


def marked(test: AppTest, names: list[str]) -> None:
    """Mark features as the table's ticks do: the editor itself cannot be driven from here."""
    test.session_state[marking.BASE] = names
    test.session_state[marking.VERSION] = 7
    test.run()


@pytest.mark.parametrize(
    ("train", "words"),
    [("he\tthe cat", "exactly two labels"), ("the cat", "no text or no label")],
)
def test_texts_that_will_not_do_are_a_sentence(visit: Open, train: str, words: str) -> None:
    test = visit(session.SHIFT)
    test.text_area(key="shift_train").set_value(train)
    test.text_area(key="shift_test").set_value("he\tthe dog")
    assert words in said(press(test, "Train and rank"))


def test_the_example_is_in_the_link(visit: Open) -> None:
    test = visit(session.SHIFT, example="1", pool="last")
    assert "girl" in test.text_area(key="shift_train").value
    assert test.session_state["shift_pool"] == "last"


def test_another_experiment_is_refused(visit: Open) -> None:
    assert "There is no experiment" in said(visit(session.SHIFT, experiment="nothing"))


def test_clusters_are_shown_with_their_members(
    visit: Open, store: Path, harvested: Path, engine: LocalEngine
) -> None:
    assert "is kept yet" in said(visit(session.BEHAVIOURS))
    file, plan = HarvestFile(harvested), ClusterPlan(("top",), tokens=40, loss=6.0, clusters=3)
    keeping.keep(Store(store), file.record.id, engine, plan, find_clusters(engine, file, plan))
    found = said(visit(session.BEHAVIOURS, cluster="1"))
    assert "40 next tokens" in found and "faithfulness is not computed" in found


def test_a_link_that_is_wrong_leaves_the_page_its_one_sidebar(visit: Open) -> None:
    test = visit(session.BEHAVIOURS, experiment="gone")
    assert "There is no experiment 'gone'" in said(test)
    assert [one.value for one in test.title] == ["Behaviours"]
    assert sum("brand" in one.proto.body for one in test.sidebar.get("html")) == 1
