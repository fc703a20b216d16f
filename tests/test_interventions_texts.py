"""Values that modes take from texts: another prompt's activations, densities of a concept."""

import pytest

from backend.engine import LocalEngine
from backend.interventions.text_statistics import fit_attenuation_basis, read_resample_basis
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.harvests import Rig

FEATURES = (FeatureId("relu", 3), FeatureId("relu", 7))
TEXT = "the cat ran to the park"


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def test_slots_are_the_activations_of_the_other_prompt(engine: LocalEngine) -> None:
    slots = read_resample_basis(engine, FEATURES, TEXT).slots
    read = engine.read(TEXT)
    firing = engine.compute_activations(read, ["relu"])["relu"]
    for feature, values in zip(FEATURES, slots, strict=True):
        found = firing.by_position(feature.index)
        assert values == pytest.approx([found.get(p, 0.0) for p in range(len(read.token_ids))])


def test_densities_count_tokens_without_bos(engine: LocalEngine) -> None:
    """Six tokens with the concept, two without: BOS is no token of either."""
    found = fit_attenuation_basis(engine, FEATURES, [TEXT], ["girl dog"])
    assert [one.prior for one in found.posterior] == [pytest.approx(6 / 8)] * 2
    assert "6 tokens" in found.source and "2 tokens" in found.source


def test_a_side_without_texts_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(InputError, match="without it"):
        fit_attenuation_basis(engine, FEATURES, [TEXT], [])
