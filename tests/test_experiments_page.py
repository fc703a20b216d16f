"""The page of kept runs: its list, one run, two runs; what is said where something is missing."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from app import session
from app.experiments.files import written
from app.experiments.pair import brief, flat
from app.experiments.words import about, what
from backend.generation import token_stream
from feature_store.experiments import Experiment, Experiments
from feature_store.store import Store
from tests.kept import filled, runs
from tests.pages import opened

Open = Callable[..., AppTest]
ROUNDS = 200


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("original"))


@pytest.fixture
def store(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    path = Path(shutil.copytree(original, tmp_path / "store"))
    monkeypatch.setenv(session.STORE, str(path))
    return path


@pytest.fixture
def visit(store: Path) -> Iterator[Open]:
    def go(**query: str) -> AppTest:
        return opened(session.EXPERIMENTS, **query)

    yield go


def good(test: AppTest) -> AppTest:
    assert not test.exception
    return test


def parts(test: AppTest, name: str) -> list[dict]:
    """Data of the page's components of a name."""
    found = [p for p in test.get("bidi_component") if name in p.proto.id]
    return [json.loads(part.proto.json) for part in found]


def words(test: AppTest) -> str:
    said = [*test.markdown, *test.caption, *test.title]
    return " ".join(str(part.value) for part in said).replace("\\", "")


def press(test: AppTest, label: str) -> AppTest:
    (button,) = [one for one in test.button if one.label == label]
    return good(button.click().run())


def again(test: AppTest) -> str:
    """Press the button, and wait for the verdict."""
    press(test, "Run again")
    for _ in range(ROUNDS):
        if "Run again:" in words(test) or "memory" in words(test):
            return words(test)
        good(test.run())
    raise AssertionError(words(test))


def test_the_list_shows_runs_and_a_filter_narrows_it(visit: Open, store: Path) -> None:
    (table,) = parts(test := visit(), "experiments_table")
    newest, oldest = runs(store)
    assert [row["target"] for row in table["rows"]] == [newest.id, oldest.id]
    want = [newest.id, "steer", "add 12", "top/3", "“the cat saw”", ""]
    assert table["rows"][0]["cells"][:-1] == want
    good(test.text_input(key="experiments_words").set_value("add 9").run())
    (table,) = parts(test, "experiments_table")
    assert [row["target"] for row in table["rows"]] == [oldest.id]
    assert test.query_params["q"] in ("add 9", ["add 9"]) and "1 of 2 runs" in words(test)


def test_an_empty_store_says_where_runs_come_from(visit: Open, store: Path) -> None:
    (store / "catalog.duckdb").unlink()
    test = visit()
    assert "No run is kept yet" in words(test) and "saefari steer" in test.code[0].value


def test_one_run_shows_its_texts_and_comes_out_the_same_again(visit: Open, store: Path) -> None:
    run = runs(store)[0]
    test = visit(experiment=run.id)
    (shown,) = parts(test, "texts")
    for text, (name, row) in zip(shown["texts"], run.result["rows"].items(), strict=True):
        assert text["title"] == name and text["prompt"] == "thecatsaw"
        assert [piece for piece, _ in text["pieces"]] == row["pieces"]
    assert "nats/token" in shown["texts"][1]["rail"]
    said = again(test)
    assert "Run again: the same. default: the same 9 tokens · steered: the same 9 tokens" in said
    assert len(runs(store)) == 2


def test_a_run_that_comes_out_otherwise_is_told(visit: Open, store: Path) -> None:
    one = runs(store)[0]
    other = {**one.request, "sampling": {**one.request["sampling"], "seed": 99}}
    changed = kept_as(store, one, request=other)
    said = again(visit(experiment=changed))
    assert ":yellow[Run again: not the same.]" in said and "different from token" in said


def kept_as(store: Path, run: Experiment, **changed: Any) -> str:
    whole = ("harvest", "model", "model_hash", "dictionaries", "request", "result", "versions")
    given = {name: getattr(run, name) for name in whole}
    return Experiments(Store(store).catalog).save(run.kind, **{**given, **changed})


def test_weights_that_are_not_here_leave_the_result(visit: Open, store: Path) -> None:
    run = runs(store)[0]
    elsewhere = kept_as(store, run, model_hash="f" * 64, harvest="of-another-machine")
    test = visit(experiment=elsewhere)
    assert "No harvest in this store has the weights of this run" in words(test)
    (shown,) = parts(test, "texts")
    assert [p for p, _ in shown["texts"][1]["pieces"]] == run.result["rows"]["steered"]["pieces"]
    (button,) = [one for one in test.button if one.label == "Run again"]
    assert button.disabled
    (store / "places.json").unlink()
    assert "does not know where the weights of model model, top lie" in words(
        visit(experiment=run.id)
    )


def test_out_of_memory_is_said_and_the_page_lives_on(
    visit: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = visit(experiment=runs(store)[0].id)
    forward = token_stream.EditedForward.forward

    def short(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 40 GiB.")

    monkeypatch.setattr(token_stream.EditedForward, "forward", short)
    assert "ran out of memory" in again(test)
    monkeypatch.setattr(token_stream.EditedForward, "forward", forward)
    assert "Run again: the same." in again(test)


def test_two_runs_beside_each_other(visit: Open, store: Path) -> None:
    newer, older = runs(store)
    test = visit(experiment=older.id, **{"with": newer.id})
    pairs = parts(test, "pair_default") + parts(test, "pair_steered")
    assert [[text["title"] for text in pair["texts"]] for pair in pairs] == [
        ["A default", "B default"],
        ["A steered", "B steered"],
    ]
    assert any(changed for text in pairs[1]["texts"] for _, changed in text["pieces"])
    (table,) = parts(test, "pair_requests")
    assert ["edits.0.strength", "9.000", "12.00"] in [row["cells"] for row in table["rows"]]


def test_a_run_of_numbers_shows_single_ones_first(visit: Open, store: Path) -> None:
    result = {"a": [{"effect": 0.25}], "n": 3, "series": [1, 2]}
    request = {"cases": [{"prompt": "the cat"}], "parts": ["top/3"], "how": "zero"}
    found = Experiments(Store(store).catalog)
    one = runs(store)[0]
    name = found.save(
        "ablate",
        harvest=one.harvest,
        model=one.model,
        model_hash=one.model_hash,
        dictionaries=one.dictionaries,
        request=request,
        result=result,
        versions=one.versions,
    )
    test = visit(experiment=name)
    (table,) = parts(test, "numbers")
    assert [row["cells"] for row in table["rows"]] == [["n", "3"], ["a.0.effect", "0.2500"]]
    assert "ablate · zero · top/3" in words(test)


def test_a_sweep_is_a_table_of_strengths(visit: Open, store: Path) -> None:
    def dose(strength: float) -> dict:
        values = {"mean": strength, "kl": strength / 2}
        heard = [
            {"prompt": 0, "seed": i, "text": "a", "tokens": 1, "values": values} for i in range(2)
        ]
        return {"strength": strength, "heard": heard}

    one = runs(store)[0]
    edits = one.request["edits"]
    name = Experiments(Store(store).catalog).save(
        "sweep",
        harvest=one.harvest,
        model=one.model,
        model_hash=one.model_hash,
        dictionaries=one.dictionaries,
        versions=one.versions,
        request={"prompt": "the cat", "edits": edits, "sweep": {"strengths": [1.0, 4.0]}},
        result={
            "default": dose(0.0),
            "doses": [dose(1.0), dose(4.0)],
            "controls": {},
            "neutral": 0.0,
        },
    )
    (table,) = parts(visit(experiment=name), "sweep_")
    assert [row["cells"] for row in table["rows"]] == [
        ["none", "2", "0", "0"],
        ["1.00", "2", "1.0", "0.50"],
        ["4.00", "2", "4.0", "2.0"],
    ]


def test_note_delete_and_bring_back(visit: Open, store: Path) -> None:
    run = runs(store)[0]
    test = visit(experiment=run.id)
    good(test.text_input(key=f"experiments_note_{run.id}").set_value("  the *one*  ").run())
    assert runs(store)[0].note == "the *one*"
    press(test, "Delete")
    assert "This run is deleted" in words(test) and len(runs(store)) == 1
    press(test, "Bring back")
    assert len(runs(store)) == 2
    press(test, "Delete")
    test = visit()
    press(test, "Bring back")
    assert len(runs(store)) == 2


def test_a_store_that_cannot_be_written_shows_runs(
    visit: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feature_store.store.os", SimpleNamespace(access=lambda *_: False, W_OK=2))
    session._open.clear()  # type: ignore[attr-defined]
    test = visit(experiment=runs(store)[0].id)
    assert not [one for one in test.button if one.label == "Delete"]
    assert [one for one in test.text_input if one.label == "Note"][0].disabled
    assert "Run again: the same." in again(test)
    session._open.clear()  # type: ignore[attr-defined]


def test_a_file_is_taken_in(visit: Open, store: Path) -> None:
    content = written(runs(store))
    (store / "catalog.duckdb").unlink()
    test = visit()
    upload(test, "runs.json", b"{}")
    assert "is no file of experiments" in words(test)
    upload(test, "runs.json", content)
    assert "2 new runs taken in" in words(test) and len(runs(store)) == 2


def upload(test: AppTest, name: str, content: bytes) -> None:
    test.get("file_uploader")[0].set_value((name, content, "application/json"))  # type: ignore[attr-defined]
    press(test, "Import")


def test_an_unknown_run_is_said(visit: Open) -> None:
    assert "There is no experiment 'nonsense' in this store" in words(visit(experiment="nonsense"))


@pytest.mark.parametrize(
    ("request_", "done", "on"),
    [
        ({"edits": [{"mode": "add_max", "strength": 2.0}], "prompt": "Hi"}, "add max 2", "“Hi”"),
        (
            {"method": "trace", "nodes": 9, "task": "a_task", "n_prompts": 64, "cases": []},
            "trace",
            "a task, 64 prompts",
        ),
        ({"method": "linkage", "clusters": 0, "tokens": 600}, "linkage", "600 next tokens"),
        ({"method": "gradient", "cases": [{"prompt": "Hi"}, {"prompt": "Ho"}]}, "", "2 prompts"),
        ({"train": [["a", "b"]]}, "", "1 text to learn from"),
    ],
)
def test_every_kind_of_run_says_what_was_done_on_what(request_: dict, done: str, on: str) -> None:
    assert (what(request_), about(request_)) == (done, on)


def test_an_estimate_is_one_line() -> None:
    estimate = {"value": 1.5, "low": 1.0, "high": 2.0, "n": 32}
    found = flat(brief({"a": [estimate, 2], "b": {"value": 0.5, "low": None, "high": None}}))
    assert found == {"a.0": "1.500 [1.000, 2.000], n 32", "a.1": 2, "b": "0.5000"}
