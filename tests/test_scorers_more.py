"""Simulation, intruder, predicted logits, embedding and surprisal: values worked out by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autointerp.scorers.intruder import make_intruder_questions
from autointerp.scorers.predicted_logits import make_token_pairs
from autointerp.scorers.scorer_interface import ScorerTools
from autointerp.scorers.token_counts import TokenCounts, count_corpus_tokens
from tests.openai_server import Body, Rule, Said
from tests.scoring import CAT, alone, asked, hard, lines, play, said, window, windows
from tests.stores import make_store


# Simulation ----------------------------------------------------------------------------------
def tokens(body: Body) -> list[str]:
    """The tokens shown: the last paragraph but one."""
    return json.loads(asked(body).strip().split("\n\n")[-2])


def foretold(numbers: Sequence[int]) -> str:
    return json.dumps({"activations": list(numbers)})


def even() -> Any:
    """Windows whose word always has the activation 10."""
    sampled = windows(30, n_random=30)
    alike = [
        replace(e, activations=tuple(10.0 * bool(a) for a in e.activations))
        for e in sampled.positives
    ]
    return replace(sampled, positives=tuple(alike))


def test_simulation_perfect_inverted_and_constant() -> None:
    perfect = play("simulation", lambda b: foretold([10 * (t == CAT) for t in tokens(b)]), even())
    assert perfect.value.value == pytest.approx(1.0) and perfect.value.n == 40 * 6
    assert perfect.parts["explained variance"].value == pytest.approx(1.0)
    inverted = play("simulation", lambda b: foretold([10 * (t != CAT) for t in tokens(b)]), even())
    assert inverted.value.value == pytest.approx(-1.0)
    same = play("simulation", lambda b: foretold([3] * len(tokens(b))), even())
    assert same.value.value is None and "undefined" in same.value.note


def test_simulation_correlates_over_the_concatenation_of_all_tokens() -> None:
    """A judge that only knows the word, on words of 1 … 10: r of 0/10 with the activations."""
    found = play("simulation", lambda b: foretold([10 * (t == CAT) for t in tokens(b)]), windows())
    shown = [e for e in windows().positives if e.kind != "top"]
    true = [a for e in shown for a in e.activations] + [0.0] * 6 * 20
    word = [10.0 * (a > 0) for a in true]
    assert found.value.value == pytest.approx(np.corrcoef(true, word)[0, 1])
    rest = np.array(true) - word
    assert found.parts["explained variance"].value == pytest.approx(
        1 - (rest**2).sum() / ((np.array(true) - np.mean(true)) ** 2).sum()
    )


def test_simulation_hard_windows_apart() -> None:
    rule: Rule = lambda b: foretold([10 * (t == CAT) for t in tokens(b)])  # noqa: E731
    found = play("simulation", rule, replace(even(), hard=tuple(hard())))
    assert found.value.value == pytest.approx(1.0)
    word = np.array([1.0] * 20 + [1.0] * 20 + [0.0] * 200)
    true = np.array([1.0] * 20 + [0.0] * 20 + [0.0] * 200)
    assert found.parts["hard"].value == pytest.approx(np.corrcoef(word, true)[0, 1])


def test_simulation_takes_expected_values_where_there_are_log_probabilities() -> None:
    """10 with 0.75 and 0 with 0.25 is 7.5."""

    def rule(body: Body) -> Said:
        yes, no = {"10": math.log(0.75), "0": math.log(0.25)}, {"0": 0.0}
        each = [("10", yes) if t == CAT else ("0", no) for t in tokens(body)]
        text = foretold([int(word) for word, _ in each])
        return said([x for one in each for x in (one, (",", {",": 0.0}))], text)

    found = play("simulation", rule, even())
    assert found.detail["scale"] == "expected values" and 7.5 in found.detail["tokens"][0]
    assert found.judged[0].answer == pytest.approx(7.5) and found.judged[0].truth == 10


def test_simulation_of_the_wrong_length_fails_alone() -> None:
    def rule(body: Body) -> str:
        n = len(tokens(body)) - ("Text r2" in tokens(body)[0])  # windows of 200 … 229
        return foretold([10 * (t == CAT) for t in tokens(body)][:n])

    found = play("simulation", rule, even())
    assert found.failed == 20 and found.value.n == 20 * 6
    assert found.value.value == pytest.approx(1.0)
    assert {row.failed for row in found.judged if row.answer is None} == {"unreadable"}


def test_simulation_of_one_side_takes_the_other_for_silent() -> None:
    """Windows in which just the other side fires: foretold there, it is wrong."""
    other = tuple(replace(window(400 + i, "top", -10.0), kind="other side") for i in range(20))
    rule: Rule = lambda b: foretold([10 * (t == CAT) for t in tokens(b)])  # noqa: E731
    found = play("simulation", rule, replace(even(), other=other))
    assert found.value.value == pytest.approx(1.0) and found.judged[-1].truth == 0
    word = np.array([1.0] * 40 + [0.0] * 200)
    true = np.array([1.0] * 20 + [0.0] * 220)
    assert found.parts["other side"].value == pytest.approx(np.corrcoef(word, true)[0, 1])


def test_simulation_by_patterns() -> None:
    found = alone("simulation", windows(hard=hard()), "fires on “cat”")
    assert found.value.value is not None and found.value.value > 0.8
    assert found.value.n == 6 * (20 + 21) and not found.calls
    assert alone("simulation", windows(), "Anything at all.").value.value is None


def test_tokens_may_hold_quotes_and_marks() -> None:
    """Marks and quotes in tokens are escaped: the judge sees as many as there are."""
    odd = replace(window(200, "random"), tokens=("«", '"]', "\n", " cat", "»", "}"))
    sampled = replace(windows(30, n_random=30), random=(odd, *windows(n_random=30).random[1:]))
    rule: Rule = lambda b: foretold([0] * len(tokens(b)))  # noqa: E731
    assert play("simulation", rule, sampled).failed == 0


# Intruder ------------------------------------------------------------------------------------
def odd_one(body: Body) -> int:
    """The number of the piece whose marks are not the word."""
    return 1 + next(i for i, text in enumerate(lines(body)) if f"«{CAT}»" not in text)


def test_intruder_perfect_inverted_and_constant() -> None:
    sampled = windows(n_random=40)
    right = play("intruder", lambda b: json.dumps({"intruder": odd_one(b)}), sampled)
    assert right.value.value == 1.0 and right.value.n == 30 and right.value.n_documents == 5
    wrong = play("intruder", lambda b: json.dumps({"intruder": odd_one(b) % 5 + 1}), sampled)
    assert wrong.value.value == 0.0
    same = play("intruder", lambda b: '{"intruder": 1}', sampled)
    first = [q.place == 0 for q in make_intruder_questions(sampled, ScorerTools())]
    assert same.value.value == pytest.approx(np.mean(first)) and 0 < sum(first) < 15


def test_intruders_are_silent_and_met_once_among_neighbours_in_activation() -> None:
    sampled = windows(n_random=40)
    asked = make_intruder_questions(sampled, ScorerTools())
    intruders = [q.shown[q.place][0].key for q in asked]
    assert len(set(intruders)) == len(intruders) == 30
    ranked = sorted(
        (e for e in sampled.positives if e.kind != "top"), key=lambda e: -max(e.activations)
    )
    for q in asked:
        four = {e.key for i, (e, _) in enumerate(q.shown) if i != q.place}
        assert four == {e.key for e in ranked[4 * q.group : 4 * q.group + 4]}
        assert {len(marks) for _, marks in q.shown} == {1}


def test_an_intruder_out_of_range_is_no_answer() -> None:
    found = play("intruder", lambda b: '{"intruder": 6}', windows(n_random=40))
    assert found.failed == 30 and found.value.value is None


# Predicted logits ----------------------------------------------------------------------------
PROMOTED = {"mat", "purr", "fur", "paw", "claw"}


def promoted(body: Body) -> list[int]:
    return [1 if one in PROMOTED else 2 for one, _ in lines(body)]


def numbers(answers: Sequence[int]) -> str:
    return json.dumps({"answers": list(answers)})


def test_predicted_logits_perfect_inverted_and_constant() -> None:
    rules: dict[float, Rule] = {
        1.0: lambda b: numbers(promoted(b)),
        0.0: lambda b: numbers([3 - one for one in promoted(b)]),
        0.5: lambda b: numbers([1] * len(lines(b))),
    }
    for value, rule in rules.items():
        found = play("predicted-logits", rule, windows())
        assert found.value.value == value and found.value.n == 20
        assert found.value.n_documents == 5  # promoted tokens are what is independent
        assert found.parts["suppressed"].value is None  # ten questions
        assert [row.answer for row in found.judged if row.kind == "suppressed"].count(1.0) == int(
            10 * value
        )


def test_controls_are_as_frequent_and_neither_promoted_nor_suppressed() -> None:
    names = tuple(f"t{i}" for i in range(500))
    known = TokenCounts((*names, "mat", "sea"), np.array([*range(500), 300, 299]))
    dice = np.random.default_rng(0)
    near = known.near("mat", {"mat", "sea"}, 5, dice)
    assert not {"mat", "sea"} & set(known.near("mat", {"mat", "sea"}, 100, dice))
    assert len(set(near)) == 5 and all(285 <= int(t[1:]) <= 315 for t in near)
    assert all(int(t[1:]) < 30 for t in known.near("unheard", set(), 3, dice))
    sampled = windows(promoted=("mat",), suppressed=("sea",))
    shown = {
        p.other for p in make_token_pairs(sampled, ScorerTools(counts=known)) if p.kind == "random"
    }
    assert len(shown) == 2 and not shown & {"mat", "sea"}


def test_without_counts_controls_stand_in_silent_windows() -> None:
    sampled = windows(promoted=(" dog",), suppressed=(" sat",))
    for seed in range(9):
        shown = {
            p.other for p in make_token_pairs(sampled, ScorerTools(seed=seed)) if p.kind == "random"
        }
        assert len(shown) == 2 and not shown & {" dog", " sat", CAT}


def test_counts_of_a_harvest(tmp_path: Any) -> None:
    file = make_store(tmp_path / "store").harvest()
    found = count_corpus_tokens(file)
    assert found.counts.sum() == len(file.sequences.flat) and "" not in found.tokens
    assert len(set(found.tokens)) == len(found.tokens) == len(found.counts)


# Embedding and surprisal ---------------------------------------------------------------------
def embed(texts: Sequence[str]) -> np.ndarray:
    """Towards the word, or away."""
    return np.array([[1.0, 0.0] if "cat" in t else [0.0, 1.0] for t in texts], np.float32)


def test_embedding_by_hand() -> None:
    sampled = windows(hard=hard())
    right, wrong = (alone("embedding", sampled, label, embed=embed) for label in ("cats", "dogs"))
    assert right.value.value == 1.0 and wrong.value.value == 0.0
    assert right.value.n == 20 and right.parts["hard"].value is None  # all the same cosine
    unknown = alone("embedding", sampled, "cats", embed=lambda texts: 0 * embed(texts))
    assert unknown.value.value is None and "undefined" in unknown.value.note


def test_embedding_by_chance_is_what_the_order_says() -> None:
    """Half of the firing windows are nearer than any silent one, half level with all: 0.75."""
    odd = {e.text for e in windows().positives if e.sequence % 2}
    found = alone(
        "embedding",
        windows(),
        "cats",
        embed=lambda texts: np.array(
            [[1.0, 0.0] if t in odd or t == "cats" else [0.6, 0.8] for t in texts]
        ),
    )
    assert found.value.value == pytest.approx(0.75)


async def surprised(prefixes: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """The label saves a nat where the text holds the word; one text cannot be read."""
    told = ["cats" in prefix for prefix in prefixes]
    nats = [3.0 - (t and CAT in text) for t, text in zip(told, texts, strict=True)]
    return np.array(
        [math.nan if "Text r200 " in x else n for x, n in zip(texts, nats, strict=True)]
    )


def test_surprisal_by_hand() -> None:
    found = alone("surprisal", windows(n_random=30), surprisal=surprised)
    assert found.value.value == 1.0 and found.failed == 1
    assert [row.answer for row in found.judged][:2] == [1.0, 1.0]
    other = alone("surprisal", windows(), "dogs", surprisal=surprised)
    assert other.value.value is None  # it saves nothing anywhere
