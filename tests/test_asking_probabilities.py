"""Probabilities out of log probabilities, by hand."""

import math

import pytest

from autointerp.asking.probabilities import choices
from autointerp.asking.records import Reply, Said


def test_shares_among_the_options() -> None:
    """0.6 and 0.1 for yes, with and without a space; 0.1 for no; the rest is neither."""
    place = Said("1", math.log(0.6), (("1", math.log(0.6)), (" 1", math.log(0.1)),
                                      ("0", math.log(0.1)), ("x", math.log(0.2))))  # fmt: skip
    comma = Said(",", 0.0, ((",", 0.0),))
    found = choices(Reply("1,1", logprobs=(place, comma, place)), ("0", "1"))
    assert found == [pytest.approx({"0": 0.125, "1": 0.875})] * 2


def test_a_token_that_is_not_among_its_candidates_counts() -> None:
    place = Said("1", math.log(0.3), (("0", math.log(0.1)),))
    assert choices(Reply("1", logprobs=(place,)), ("0", "1")) == [
        pytest.approx({"0": 0.25, "1": 0.75})
    ]


def test_no_log_probabilities_are_no_probabilities() -> None:
    assert choices(Reply("1"), ("0", "1")) is None
    assert choices(Reply("7", logprobs=(Said("7", 0.0, ()),)), ("0", "1")) == []
