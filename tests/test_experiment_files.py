"""Kept runs as files and back, in words, and beside each other."""

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.experiments.files import read, take_in, written
from app.experiments.pair import differences, flat, measured_again, parting, repeated
from app.experiments.words import matching, named, quoted, what, whom
from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.experiments import Experiment, ExperimentKind, Experiments, ExperimentSummary
from tests.foreign_files import BAD_CONTENTS, spoil
from tests.kept import filled, runs

TOKENS = some.lists(some.integers(0, 5), max_size=12)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> list[Experiment]:
    """Two steering runs."""
    return runs(filled(tmp_path_factory.mktemp("kept")))


def empty(tmp_path: Path) -> Experiments:
    return Experiments(Catalog(tmp_path / "catalog.duckdb", patience_s=0.3))


def test_a_file_brings_the_same_runs(kept: list[Experiment], tmp_path: Path) -> None:
    other = empty(tmp_path)
    taken = take_in(other, read(written(kept), "runs.json"))
    assert (taken.new, taken.same, set(taken.ids)) == (2, 0, {run.id for run in kept})
    assert [other.open(run.id) for run in kept] == kept
    assert take_in(other, read(written(kept[:1]), "run.json")).same == 1


def test_a_note_comes_along_and_one_that_is_here_stays(
    kept: list[Experiment], tmp_path: Path
) -> None:
    other, run = empty(tmp_path), json.loads(written(kept[:1]))
    for said in ("theirs", "theirs later"):
        taken = take_in(other, read(json.dumps({**run, "note": said}).encode(), "run.json"))
    assert other.open(taken.ids[0]).note == "theirs"


BROKEN: dict[str, Callable[[dict], Any]] = {
    "no file of experiments": lambda run: run.update(saefari="list"),
    "its request is not an object": lambda run: run.update(request=[]),
    "its model is not a text": lambda run: run.pop("model"),
    "'sing' is no kind": lambda run: run.update(kind="sing"),
    "is no time": lambda run: run.update(created="yesterday"),
    "its dictionaries are not texts": lambda run: run.update(dictionaries={"top": 3}),
    "has no field 'colour'": lambda run: run["request"].update(colour="red"),
    "its result is not that": lambda run: run["result"]["rows"]["steered"].pop("kl"),
    "its result is not that of": lambda run: run["result"]["rows"]["steered"].pop("counted"),
    "result is not that of": lambda run: run["result"]["rows"]["default"]["pieces"].append(3),
    "result is not that of a steering": lambda run: run["result"].update(rows={"third": {}}),
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_broken_file_is_refused_whole(kept: list[Experiment], says: str) -> None:
    good, bad = (json.loads(written([run])) for run in kept)
    BROKEN[says](bad)
    both = {"saefari": "experiments", "experiments": [good, bad]}
    content = bad if bad["saefari"] == "list" else both
    with pytest.raises(InputError, match=says):
        read(json.dumps(content).encode(), "runs.json")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b'{"a": NaN}', b"[" * 100_000, b"7"])
def test_what_is_no_json_is_said(content: bytes) -> None:
    with pytest.raises(InputError, match=r"runs\.json is no"):
        read(content, "runs.json")


@given(TOKENS, TOKENS)
def test_two_texts_part_where_they_do(a: list[int], b: list[int]) -> None:
    found = parting(a, b)
    assert a[: found.same] == b[: found.same]
    assert a[found.same : found.same + 1] != b[found.same : found.same + 1] or found.identical
    assert found.identical == (a == b)
    left, right = (
        [token for i, token in enumerate(side) if i not in gone]
        for side, gone in zip((a, b), found.changed, strict=True)
    )
    assert left == right


def test_a_run_again_is_told_token_by_token(kept: list[Experiment]) -> None:
    then = kept[0].result
    assert repeated(then, then) == (
        True,
        ["default: the same 9 tokens", "steered: the same 9 tokens"],
    )
    now = deepcopy(dict(then))
    now["rows"]["steered"]["tokens"][4] += 1
    now["rows"]["steered"]["pieces"][4] = " other"
    same, said = repeated(then, now)
    assert not same and said[0] == "default: the same 9 tokens"
    assert "different from token 5 on (9 then, 9 now)" in said[1] and "' other' now" in said[1]


def test_numbers_again_are_the_same_up_to_rounding() -> None:
    then = {"kl": [0.5, 2.0], "n": 3, "target": "log_prob"}
    assert measured_again(then, {**then, "kl": [0.50001, 2.0]}) == (True, ["the same 3 numbers"])
    same, said = measured_again(then, {**then, "kl": [0.6, 3.0]})
    assert not same and said == ["different: 2 of 4 values, most at kl.1: 2.000 then, 3.000 now"]
    assert not measured_again(then, {"kl": [0.5]})[0]
    worded = [{**then, "notes": notes, "null": {"note": notes[0]}} for notes in (["a"], ["b", "c"])]
    assert measured_again(*worded)[0], "sentences may be worded differently"


def test_what_two_requests_differ_in(kept: list[Experiment]) -> None:
    newer, older = (run.request for run in kept)
    assert differences(older, older) == []
    assert differences(older, newer) == [
        ("edits.0.strength", "9.000", "12.00"),
        ("sampling.seed", "2", "5"),
    ]
    assert differences({}, {"a": {"b": None}}) == [("a.b", "–", "none")]
    assert flat({"a": [{"b": 1}], "c": []}) == {"a.0.b": 1}


def test_in_words() -> None:
    edits = [
        {"mode": "add", "strength": 8.0, "features": ["a/1", "a/2"]},
        {"mode": "zero", "strength": 1.0, "vector": {"name": "joy"}},
    ]
    steer = {"edits": edits, "prompt": "Once\nupon"}
    assert (what(steer), whom(steer)) == ("add 8 + zero 1", ["a/1", "a/2", "joy"])
    ablate = {"how": "mean", "parts": ["a/1"], "cases": [{"prompt": "x"}, {"prompt": "y"}]}
    assert named("ablate", ablate) == "ablate · mean · a/1 · 2 prompts"
    assert named("effects", {"dictionaries": ["a"]}) == "effects · a"
    assert quoted("long " * 40).endswith("…”") and quoted("Once\nupon") == "“Once upon”"


def test_a_filter_wants_every_word() -> None:
    request = {"edits": [{"mode": "add", "features": ["a/12"]}], "prompt": "The Park"}
    now = datetime(2026, 1, 1)
    given: list[tuple[ExperimentKind, str]] = [("steer", "good"), ("steer", ""), ("ablate", "")]
    runs = [
        ExperimentSummary(f"id{n}", k, "h", request, now, note) for n, (k, note) in enumerate(given)
    ]

    def found(kind: str, text: str) -> list[str]:
        return [run.id for run in matching(runs, kind, text)]

    assert found("", "park A/12") == ["id0", "id1", "id2"]
    assert found("steer", "") == ["id0", "id1"] and found("", "good park") == ["id0"]
    assert found("", "zebra") == []


def test_every_malformed_run_is_refused_or_kept_whole(
    kept: list[Experiment], tmp_path: Path
) -> None:
    """Each value of a kept run, but of its long result, by each bad one, and each bad file."""
    run = json.loads(written(kept[:1]))
    result = run.pop("result")
    contents = dict(BAD_CONTENTS)
    for what_, text in spoil({**run, "versions": {"torch": "2"}}):
        contents[what_] = json.dumps({**json.loads(text), "result": result}).encode()
    other, refused = empty(tmp_path), 0
    for what_, content in contents.items():
        try:
            assert take_in(other, read(content, "run.json")).new <= 1
        except InputError as error:
            refused += 1
            assert "run.json" in str(error) or "cannot be kept" in str(error), what_
    assert refused > 100
