"""What an edit is compared with is alike in what matters, and random otherwise."""

import pytest

from backend.interventions.records import Edit, EditBasis, SteeringVector
from backend.steering.matched_controls import (
    DIRECTION_MODES,
    MATCHED_COLUMNS,
    check_controllable,
    control_band,
    control_with_matched_features,
    control_with_random_directions,
    draw_matched_features,
)
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId


@pytest.fixture(scope="module")
def file(harvested):
    opened = HarvestFile(harvested)
    yield opened
    opened.close()


def busy(file: HarvestFile, dictionary: str = "top") -> FeatureId:
    """A feature of the middle of its dictionary: others are alike."""
    table = file.feature_table(dictionary, between={"density": (1e-9, 1)}, order="density")
    return FeatureId(dictionary, table["feature"][len(table) // 2].as_py())


def test_controls_are_alike_within_the_stated_factor_and_never_the_feature_itself(file):
    feature = busy(file)
    avoided = draw_matched_features(file, feature, 4).controls[0]
    found = draw_matched_features(file, feature, 4, avoid=[avoided])
    own = file.facts(feature)
    assert len(found.controls) == len(set(found.controls)) == 4
    assert not {feature, avoided} & set(found.controls)
    for control in found.controls:
        its = file.facts(control)
        assert its.n_active > 0
        for name in MATCHED_COLUMNS:
            ratio = abs(getattr(its, name)) / abs(getattr(own, name))
            assert 1 / found.factor - 1e-6 <= ratio <= found.factor + 1e-6, name


def test_controls_follow_from_the_seed(file):
    feature = busy(file)
    again = [draw_matched_features(file, feature, 5, seed=seed).controls for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


@pytest.mark.parametrize("mode", ["add", "add_max", "clamp"])
def test_pushes_of_controls_are_as_long_as_the_original(file, mode):
    feature = busy(file)
    edit = Edit(mode, (feature,), 3.0, basis=EditBasis(values=(2.0,) if mode == "add_max" else ()))
    length = 3.0 * file.facts(feature).decoder_norm * (2.0 if mode == "add_max" else 1.0)
    controls = control_with_matched_features(edit, file, 3)
    for number in range(3):
        (other,) = controls.edits_at(number, 3.0)
        unit = other.basis.values[0] if mode == "add_max" else 1.0
        norm = file.facts(other.features[0]).decoder_norm
        assert other.strength * unit * norm == pytest.approx(length, rel=1e-5)
    direction = SteeringVector("random", "blocks.1.hook_resid_post", (0.6, 0.8))
    (pushed,) = control_with_random_directions(edit, [direction], file).edits_at(0, 3.0)
    size = sum(v * v for v in pushed.vector.values) ** 0.5  # type: ignore[union-attr]
    assert size * pushed.strength == pytest.approx(length, rel=1e-5)


def test_modes_without_a_counterpart_say_so(file):
    with pytest.raises(InputError, match="no matched controls"):
        check_controllable(Edit("swap", (FeatureId("top", 1), FeatureId("top", 2))))
    with pytest.raises(InputError, match=", ".join(DIRECTION_MODES)):
        control_with_random_directions(Edit("zero", (busy(file),)), [], file)
    dead = file.feature_table("top", between={"n_active": (0, 0)})
    if len(dead):
        with pytest.raises(InputError, match="never fired"):
            draw_matched_features(file, FeatureId("top", dead["feature"][0].as_py()))


def test_the_band_leaves_out_what_is_no_number():
    low, high = control_band([*range(101), float("nan")])  # type: ignore[misc]
    assert (low, high) == pytest.approx((2.5, 97.5))
    assert control_band([1.0]) is None
