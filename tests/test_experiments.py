"""Experiments: kept whole, opened by their id, annotated and deleted without being changed."""

from datetime import datetime
from pathlib import Path

import pytest

from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.experiments import MAX_CHARACTERS, Experiments

RUN = {
    "harvest": "h-1",
    "model": "tiny",
    "model_hash": "a" * 64,
    "dictionaries": {"resid": "b" * 64},
    "versions": {"torch": "2"},
}
REQUEST = {"prompt": "Once <b>upon</b>\n", "edits": [{"feature": "resid/3", "strength": 4.0}]}
RESULT = {"steered": "a time", "kl": [0.1, None]}


@pytest.fixture
def experiments(tmp_path: Path) -> Experiments:
    return Experiments(Catalog(tmp_path / "catalog.duckdb", patience_s=0.3))


def keep(experiments: Experiments, **changed: object) -> str:
    given = {"request": REQUEST, "result": RESULT, **RUN, **changed}
    return experiments.save("steer", **given)  # type: ignore[arg-type]


def test_what_is_opened_is_what_was_kept(experiments: Experiments) -> None:
    found = experiments.open(keep(experiments))
    assert (found.request, found.result) == (REQUEST, RESULT)
    assert (found.dictionaries, found.versions) == (RUN["dictionaries"], RUN["versions"])
    assert (found.kind, found.note, found.deleted) == ("steer", "", False)


def test_the_same_run_is_kept_once_and_another_apart(experiments: Experiments) -> None:
    one = keep(experiments)
    assert keep(experiments) == one
    assert keep(experiments, result={**RESULT, "kl": [0.2]}) != one
    assert keep(experiments, model_hash="c" * 64) != one
    assert len(experiments.list_summaries()) == 3


def test_a_note_and_deletion_are_words_beside_it(experiments: Experiments) -> None:
    one = keep(experiments)
    experiments.annotate(one, "the first that worked")
    assert [entry.note for entry in experiments.list_summaries()] == ["the first that worked"]
    experiments.delete(one)
    assert experiments.list_summaries() == [] and experiments.open(one).deleted
    assert [entry.id for entry in experiments.list_summaries(deleted=True)] == [one]
    experiments.delete(one, restore=True)
    assert [entry.id for entry in experiments.list_summaries()] == [one]


def test_a_deleted_run_that_is_done_again_is_back(experiments: Experiments) -> None:
    one = keep(experiments)
    experiments.delete(one)
    assert keep(experiments) == one
    assert [entry.id for entry in experiments.list_summaries()] == [one]


def test_the_newest_comes_first(experiments: Experiments) -> None:
    kept = [keep(experiments, result={"n": n}) for n in range(4)]
    assert [entry.id for entry in experiments.list_summaries(2)] == kept[:1:-1]


def test_a_run_from_elsewhere_keeps_its_time(experiments: Experiments) -> None:
    then = datetime(2025, 3, 4, 5, 6)
    one = keep(experiments, created=then)
    assert experiments.open(one).created == then
    assert [entry.id for entry in experiments.list_summaries()] == [one]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"kl": float("nan")}, "cannot be kept as JSON"),
        ({"kl": {1, 2}}, "cannot be kept as JSON"),
        ({"text": "x" * MAX_CHARACTERS}, "at most 8,000,000"),
    ],
)
def test_what_cannot_be_kept_is_refused(experiments: Experiments, result: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        keep(experiments, result=result)
    assert experiments.list_summaries() == []


def test_an_unknown_id_is_said(experiments: Experiments) -> None:
    one = keep(experiments)
    with pytest.raises(InputError, match=f"no experiment .*{one}"):
        experiments.open(one[:-1] + "x")
    with pytest.raises(InputError, match="no experiment"):
        experiments.annotate("nothing", "a note")


def test_a_catalog_that_may_not_be_written_refuses_to_keep(experiments: Experiments) -> None:
    one = keep(experiments)
    experiments.catalog.writable = False
    assert experiments.open(one).id == one
    with pytest.raises(InputError, match="read-only"):
        keep(experiments, result={"another": 1})
