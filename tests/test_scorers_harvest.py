"""Scorers on windows of a real harvest of a tiny model."""

import pytest

from autointerp import baseline_labels
from autointerp.contexts import FeatureSample, sample_features
from autointerp.scorers import SCORERS
from autointerp.scorers.intruder import make_intruder_questions
from autointerp.scorers.predicted_logits import make_token_pairs
from autointerp.scorers.scorer_interface import PATTERN_JUDGE, ScorerTools
from feature_store.store import Store
from tests.scoring import alone


@pytest.fixture(scope="module")
def drawn(base: Store) -> list[FeatureSample]:
    file = base.harvest()
    found = [one for n in ("abs", "relu") for _, one in sample_features(file, n, range(12))]
    return [one for one in found if isinstance(one, FeatureSample)][:6]


@pytest.mark.parametrize("name", ["detection", "fuzzing", "simulation"])
def test_patterns_judge_what_a_harvest_holds(name: str, drawn: list[FeatureSample]) -> None:
    low, high = SCORERS[name].bounds
    assert drawn and PATTERN_JUDGE in SCORERS[name].judges
    for sampled in drawn:
        found = alone(name, sampled, baseline_labels.make_token_label(sampled) or "")
        assert found.failed == 0 and len(found.judged) >= 40
        if found.value.value is not None:
            assert low <= found.value.value <= high
        constant = alone(name, sampled, baseline_labels.CONSTANT_LABEL).value.value
        assert constant == (None if name == "simulation" else 0.5)


def test_questions_are_the_same_for_the_same_seed(drawn: list[FeatureSample]) -> None:
    for sampled in drawn:
        for make in (make_intruder_questions, make_token_pairs):
            assert make(sampled, ScorerTools(seed=1)) == make(sampled, ScorerTools(seed=1))
        assert make_intruder_questions(sampled, ScorerTools(seed=1)) != make_intruder_questions(
            sampled, ScorerTools(seed=2)
        )
