"""The tabs' own logic: what a sweep asks, what is kept, what a figure shows."""
# pyright: reportAttributeAccessIssue=false

import json
import math

import pytest

from app.steer_more import sweeping
from app.steer_more.dose_chart import figure
from app.steer_more.sweeping import Sweep, parts, possible, request, spaced, usual
from app.theme import LIGHT
from backend.generation.steering_request import SteeringRequest
from backend.interventions.records import Edit, EditBasis, SteeringVector
from backend.steering.sweep_results import ControlCurve, MeasuredText, StrengthTexts, SweepOutcome
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

ADD = Edit("add", (FeatureId("top", 1),), 2.0)
VECTOR = Edit("add", vector=SteeringVector("difference", "blocks.1.hook_resid_post", (1.0, 0.0)))


def heard(strength: float, seed: int) -> MeasuredText:
    return MeasuredText(
        0, seed, "a cat", 2, {"mean": strength + seed, "kl": strength**2, "nll": 2.0}
    )


def outcome() -> SweepOutcome:
    doses = tuple(StrengthTexts(s, tuple(heard(s, i) for i in range(3))) for s in (0.0, 1.0, 2.0))
    curves = tuple(
        ControlCurve({"mean": (0.0, k, 2 * k), "kl": (0.0, 1.0, math.nan), "nll": (2.0, 2.0, 2.0)})
        for k in (0.1, 0.2, 0.3)
    )
    return SweepOutcome(doses[0], doses, {"features": curves}, neutral=0.0, notes=("three others",))


def test_a_sweep_is_the_same_after_a_trip_through_json():
    asked = SteeringRequest("the cat", (ADD, VECTOR))
    sweep = Sweep(spaced(0, 3, 4), seeds=3, swept=1, pattern="cat", prompts=("a dog",))
    again = parts(json.loads(json.dumps(request(asked, sweep))))
    assert again == (asked, sweep)
    with pytest.raises(InputError, match="no request for a sweep"):
        parts(asked.to_json())


def test_the_number_of_texts_is_what_will_be_generated():
    sweep = Sweep((0.0, 1.0), seeds=4, prompts=("b",), controls=("features",), n_controls=30)
    assert sweep.texts == 2 * (4 * 3 + 30 * 2 * 2)
    with pytest.raises(InputError, match="at most 20,000"):
        sweeping.check(
            SteeringRequest("a", (ADD,)), Sweep(spaced(0, 1, 40), seeds=200, control_seeds=200)
        )
    with pytest.raises(InputError, match="no edit"):
        sweeping.check(SteeringRequest("a"), Sweep((1.0,)))


def test_controls_are_offered_where_there_are_any(harvested):
    assert possible(ADD) == ["features", "directions"]
    assert possible(VECTOR) == ["directions"]
    assert possible(Edit("zero", ADD.features)) == ["features"]
    assert possible(Edit("swap", (FeatureId("top", 1), FeatureId("top", 2)))) == []
    file = HarvestFile(harvested)
    low, high = usual(ADD, file)
    assert low == 0
    assert high == pytest.approx(3 * (file.facts(ADD.features[0]).max_act or 1.0))
    assert usual(Edit("add_max", ADD.features, basis=EditBasis((2.0,))), file) == (0.0, 3.0)
    assert usual(Edit("zero", ADD.features), file) == (0.0, 1.0)
    file.close()


def test_the_figure_has_a_panel_for_each_and_the_band_where_it_is_known():
    drawn = figure(outcome(), "mean", "shift", LIGHT)
    names = [trace.name for trace in drawn.data if trace.showlegend]
    assert names == ["matched features, 95 % of 3", "without the edit", "this edit"]
    edits = [trace for trace in drawn.data if trace.name == "this edit"]
    assert [list(trace.x) for trace in edits] == [[0.0, 1.0, 2.0]] * 3
    assert edits[2].y[0] == pytest.approx(math.exp(2.0))  # perplexity of 2 nats
    by_kl = figure(outcome(), "mean", "kl", LIGHT)
    band = next(trace for trace in by_kl.data if trace.fill)
    assert list(band.x) == [0.0, 1.0]  # no control reaches KL 4
    assert "n 3" in edits[0].hovertext[1]
