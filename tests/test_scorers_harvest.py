"""Scorers on windows of a real harvest of a tiny model."""

import pytest

from autointerp import nulls
from autointerp.contexts import Sampled, sample_many
from autointerp.scorers import SCORERS
from autointerp.scorers.intruder import questions
from autointerp.scorers.predicted_logits import pairs
from autointerp.scorers.records import PATTERN, Tools
from feature_store.store import Store
from tests.scoring import alone


@pytest.fixture(scope="module")
def drawn(base: Store) -> list[Sampled]:
    file = base.harvest()
    found = [one for n in ("abs", "relu") for _, one in sample_many(file, n, range(12))]
    return [one for one in found if isinstance(one, Sampled)][:6]


@pytest.mark.parametrize("name", ["detection", "fuzzing", "simulation"])
def test_patterns_judge_what_a_harvest_holds(name: str, drawn: list[Sampled]) -> None:
    low, high = SCORERS[name].bounds
    assert drawn and PATTERN in SCORERS[name].judges
    for sampled in drawn:
        found = alone(name, sampled, nulls.token_label(sampled) or "")
        assert found.failed == 0 and len(found.judged) >= 40
        if found.value.value is not None:
            assert low <= found.value.value <= high
        constant = alone(name, sampled, nulls.CONSTANT).value.value
        assert constant == (None if name == "simulation" else 0.5)


def test_questions_are_the_same_for_the_same_seed(drawn: list[Sampled]) -> None:
    for sampled in drawn:
        for make in (questions, pairs):
            assert make(sampled, Tools(seed=1)) == make(sampled, Tools(seed=1))
        assert questions(sampled, Tools(seed=1)) != questions(sampled, Tools(seed=2))
