"""Probabilities out of log probabilities, by hand."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autointerp.llm.answer_probabilities import (
    MISSING_SHARE_TOLERANCE,
    option_shares,
    read_answer_shares,
)
from autointerp.llm.requests_and_replies import Reply, TokenLogprob
from autointerp.scorers import classification_scores
from autointerp.scorers.scorer_interface import JudgedItem


def test_shares_among_the_options() -> None:
    """0.6 and 0.1 for yes, with and without a space; 0.1 for no; the rest is neither."""
    place = TokenLogprob(
        "1",
        math.log(0.6),
        (("1", math.log(0.6)), (" 1", math.log(0.1)), ("0", math.log(0.1)), ("x", math.log(0.2))),
    )
    comma = TokenLogprob(",", 0.0, ((",", 0.0),))
    found = read_answer_shares(Reply("1,1", logprobs=(place, comma, place)), ("0", "1"))
    assert found == [pytest.approx({"0": 0.125, "1": 0.875})] * 2


def test_a_token_that_is_not_among_its_candidates_counts() -> None:
    place = TokenLogprob("1", math.log(0.3), (("0", math.log(0.1)),))
    assert read_answer_shares(Reply("1", logprobs=(place,)), ("0", "1")) == [
        pytest.approx({"0": 0.25, "1": 0.75})
    ]


def test_no_log_probabilities_are_no_probabilities() -> None:
    assert read_answer_shares(Reply("1"), ("0", "1")) is None
    assert read_answer_shares(Reply("7", logprobs=(TokenLogprob("7", 0.0, ()),)), ("0", "1")) == []


def place(said: str, top: dict[str, float]) -> TokenLogprob:
    """One token with its candidates, from probabilities."""
    logs = {token: math.log(p) for token, p in top.items()}
    return TokenLogprob(said, logs[said], tuple(logs.items()))


def test_an_option_missing_from_the_candidates_leaves_its_probability_open() -> None:
    """Seen on llama.cpp, which lists candidates as before its grammar: "0" was likely, but eleven
    tokens that the grammar forbids were likelier. It counted as 0, and "1" as certain."""
    assert option_shares(place("1", {"1": 0.3, "x": 0.2, "y": 0.15}), ("0", "1")) is None


def test_an_option_that_can_hardly_matter_counts_as_the_last_candidate() -> None:
    found = option_shares(place("1", {"1": 0.9, "x": 0.05, "y": 0.01}), ("0", "1"))
    assert found == pytest.approx({"0": 0.01 / 0.91, "1": 0.9 / 0.91})


def test_the_list_may_leave_less_than_its_last_candidate() -> None:
    found = option_shares(place("1", {"1": 0.6, "x": 0.399}), ("0", "1"))
    assert found == pytest.approx({"0": 0.001 / 0.601, "1": 0.6 / 0.601})


@given(st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=40), st.integers(1, 40), st.randoms())
def test_shares_of_a_cut_list_are_those_of_the_whole_or_open(
    weights: list[float], kept: int, dice
) -> None:
    """Whatever the distribution and wherever the list ends: never certainty, and never further from
    the truth than the tolerance."""
    dice.shuffle(weights)
    whole = {str(i): w / sum(weights) for i, w in enumerate(weights)}
    options = ("0", "1")
    top = dict(sorted(whole.items(), key=lambda pair: -pair[1])[:kept])
    assume(any(option in top for option in options))
    said = max((option for option in options if option in top), key=top.__getitem__)
    found = option_shares(place(said, top), options)
    if found is not None:
        truth = whole["0"] / (whole["0"] + whole["1"])
        assert abs(found["0"] - truth) <= MISSING_SHARE_TOLERANCE + 1e-9
        assert all(0.0 < share < 1.0 for share in found.values())
        assert sum(found.values()) == pytest.approx(1.0)
    if set(options) <= set(top):
        assert found is not None


def test_an_area_is_not_computed_from_those_answers_alone_that_are_known() -> None:
    def row(i: int, p: float | None) -> JudgedItem:
        return JudgedItem(i, 0, i, "decile 5" if i % 2 else "random", float(i % 2), 1.0, p)

    rows = [row(i, 0.2 + 0.5 * (i % 2)) for i in range(60)]
    firing, silent = rows[1::2], rows[::2]
    assert classification_scores.probability_auc(firing, silent).value == 1.0
    found = classification_scores.probability_auc([row(1, None), *firing[1:]], silent)
    assert found.value is None and "1 of 60 answers" in found.note
