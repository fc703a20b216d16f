"""A sweep in one batch: what it agrees with, what its controls mean, where KL is reached."""

import json
import math
import threading
from dataclasses import replace

import pytest
import torch

from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import GenerationRow, SamplingSettings, SummaryRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.interventions.records import Edit
from backend.steering.matched_controls import EditControls
from backend.steering.strength_for_kl import KL_TOLERANCE, find_strength_for_kl, generate_unedited
from backend.steering.strength_sweep import (
    SweepRequest,
    SweepStopped,
    max_rows_per_batch,
    run_sweep,
)
from backend.steering.sweep_results import ControlCurve, MeasuredText, StrengthTexts, SweepOutcome
from backend.steering.text_measures import pattern_matches
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.editing import dictionaries, edit
from tests.models import shared

CONCEPT = FeatureId("relu", 3)
SAMPLING = SamplingSettings(max_new=8)


def asked(**fields) -> SweepRequest:
    lm = shared()
    prompts = tuple(tokenize_text(lm, text, bos=True) for text in ("the cat saw", "a dog and the"))
    given = {
        "edits": (edit("add", "relu/3"), edit("add", "topk/2", strength=0.5)),
        "strengths": (-3.0, 0.0, 3.0, 9.0),
        "prompts": prompts,
        "seeds": (0, 1, 2),
        "sampling": SAMPLING,
        "concept": CONCEPT,
        "nearest": FeatureId("relu", 5),
        "pattern": "cat|dog",
    }
    return SweepRequest(**{**given, **fields})


def others(n: int = 3) -> EditControls:
    pairs = [((edit("add", f"relu/{10 + i}"), 1.0 + i),) for i in range(n)]
    return EditControls("features", tuple(pairs), ("three others",))


@pytest.fixture(scope="module")
def outcome() -> SweepOutcome:
    return run_sweep(shared(), dictionaries(), asked(), [others()], bos=0)


def test_a_batch_gives_what_one_by_one_gives(outcome):
    single = run_sweep(shared(), dictionaries(), asked(), [others()], bos=0, rows=1)
    pairs = zip((outcome.default, *outcome.doses), (single.default, *single.doses), strict=True)
    for one, other in pairs:
        for a, b in zip(one.heard, other.heard, strict=True):
            assert (a.prompt, a.seed, a.text) == (b.prompt, b.seed, b.text)
            assert a.values == pytest.approx(b.values, abs=1e-4)
    for a, b in zip(outcome.controls["features"], single.controls["features"], strict=True):
        assert {k: list(v) for k, v in a.values.items()} == {
            k: pytest.approx(v, abs=1e-4, nan_ok=True) for k, v in b.values.items()
        }


def test_numbers_are_those_of_a_guarded_generation(outcome):
    ask = asked()
    rows = [GenerationRow("steered", ask.edits_at(9.0), seed=1)]
    records = stream_tokens(
        shared(), dictionaries(), ask.prompts[1], rows, SAMPLING, StreamOptions(watch=(CONCEPT,))
    )
    (end,) = [one for one in records if isinstance(one, SummaryRecord)]
    (heard,) = [h for h in outcome.doses[-1].heard if (h.prompt, h.seed) == (1, 1)]
    assert heard.text == end.text
    assert heard.values["kl"] == pytest.approx(end.mean_kl, abs=1e-4)
    assert math.exp(heard.values["nll"]) == pytest.approx(end.perplexity, rel=1e-4)
    assert heard.values["match"] == float("cat" in end.text or "dog" in end.text)


def test_the_concept_is_read_in_the_text_alone_by_the_clean_model(outcome):
    lm, one = shared(), dictionaries()["relu"]
    text = outcome.doses[-1].heard[0].text
    ids = [0, *lm.tokenizer(text, add_special_tokens=False)["input_ids"]]
    x = lm.activations(torch.tensor([ids]), [one.hook_name])[one.hook_name]
    found = one.encode(x)[0, 1:, 3]
    values = outcome.doses[-1].heard[0].values
    assert values["mean"] == pytest.approx(float(found.mean()), abs=1e-5)
    assert values["max"] == pytest.approx(float(found.max()), abs=1e-5)
    assert values["rate"] == pytest.approx(float((found > 0).float().mean()))


def test_the_neutral_strength_is_the_default_and_other_edits_stay(outcome):
    zero = outcome.doses[1]
    assert zero.strength == outcome.neutral == 0.0
    assert [h.text for h in zero.heard] == [h.text for h in outcome.default.heard]
    assert zero.mean("kl") == pytest.approx(outcome.default.mean("kl"), abs=1e-6)
    assert zero.mean("kl") > 1e-5  # the second edit
    assert outcome.doses[-1].mean("kl") > zero.mean("kl")


def test_what_was_found_survives_json(outcome):
    again = SweepOutcome.from_json(json.loads(json.dumps(outcome.to_json(), allow_nan=False)))
    assert again.to_json() == outcome.to_json()
    assert again.at_equal_kl("features", "kl") == outcome.at_equal_kl("features", "kl")


def made(kls: list[float], values: list[float], controls: list[ControlCurve]) -> SweepOutcome:
    def dose(s: float, kl: float, value: float) -> StrengthTexts:
        return StrengthTexts(
            s, tuple(MeasuredText(0, i, "", 1, {"kl": kl, "mean": value}) for i in range(3))
        )

    doses = tuple(dose(s, *pair) for s, *pair in zip((-1.0, 1.0, 2.0), kls, values, strict=True))
    return SweepOutcome(dose(0, 0, 0), doses, {"features": tuple(controls)}, neutral=0.0)


def test_controls_at_equal_kl_are_read_between_strengths_of_the_same_side():
    curves = [
        ControlCurve({"kl": (9.0, 1.0, 2.0), "mean": (90.0, 10.0 * k, 20.0 * k)})
        for k in (1.0, 2.0)
    ]
    found = made([0.5, 1.5, 4.0], [5.0, 5.0, 5.0], curves)
    down, up, beyond = found.at_equal_kl("features", "mean")
    assert down is not None
    assert up is not None
    assert (down.low, down.high) == pytest.approx((5.0, 5.0))  # 90 · 0.5 ÷ 9
    assert (up.low, up.high) == pytest.approx((15.375, 29.625))
    assert beyond is None  # no control's KL reaches 4
    equal = found.at_equal_shift("features", "mean")[1]
    assert equal is not None
    assert (equal.low, equal.high, equal.n) == (pytest.approx(10.25), pytest.approx(19.75), 2)


def test_an_interval_widens_with_what_differs_and_is_none_where_nothing_does():
    heard = [
        MeasuredText(0, i, "", 1, {"mean": float(i % 2), "match": 1.0, "max": 2.0})
        for i in range(8)
    ]
    dose = StrengthTexts(1.0, tuple(heard))
    mean, match, largest = (dose.estimate(name) for name in ("mean", "match", "max"))
    assert mean is not None
    assert mean.low is not None
    assert 0 <= mean.low < mean.value == 0.5 < mean.high <= 1  # type: ignore[operator]
    assert match is not None
    assert match.low == pytest.approx(0.676, abs=1e-3)  # Wilson, 8 of 8
    assert largest is not None
    assert (largest.low, largest.high) == (None, None)
    assert dose.estimate("judge") is None


def test_stopping_ends_it_and_progress_counts_texts():
    stop, told = threading.Event(), []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 7:
            stop.set()

    with pytest.raises(SweepStopped):
        run_sweep(shared(), dictionaries(), asked(), bos=0, rows=7, tell=tell, stop=stop)
    assert told == sorted(told)
    assert told[-1] == (7, 2 * 3 * 5)
    assert len(told) > 3


def test_bad_requests_are_refused_in_a_sentence():
    for fields, said in (
        ({"swept": 2}, "no edit"),
        ({"strengths": ()}, "at least one"),
        ({"strengths": (math.nan,)}, "finite"),
        ({"strengths": tuple(map(float, range(99)))}, "at most 40"),
        ({"pattern": "("}, "not a regular expression"),
    ):
        with pytest.raises(InputError, match=said):
            run_sweep(shared(), dictionaries(), asked(**fields))
    with pytest.raises(InputError, match="simpler"):
        pattern_matches("(?:a|aa)+$", "a" * 60 + "b")
    assert max_rows_per_batch(shared(), 10, 20) > 100


@pytest.mark.parametrize("mode", ["add", "add_max", "clamp", "zero", "norm_relative"])
def test_bisection_meets_the_kl_or_says_that_it_cannot(mode):
    lm, one = shared(), edit(mode, "relu/3")
    start = tokenize_text(lm, "the cat saw", bos=True)
    texts = generate_unedited(lm, dictionaries(), start, range(4), SAMPLING)
    found = find_strength_for_kl(lm, dictionaries(), [one], 0.01, start, texts)
    again = find_strength_for_kl(lm, dictionaries(), [one], 1e6, start, texts)
    assert found.reached == (abs(found.kl - 0.01) <= KL_TOLERANCE * 0.01)
    assert found.reached or mode in ("clamp", "zero")
    assert len(found.tried) <= 15 + 12
    assert not again.reached
    assert "not reached" in again.note
    with pytest.raises(InputError, match="above 0"):
        find_strength_for_kl(lm, dictionaries(), [one], 0.0, start, texts)


def test_bisection_looks_downwards_too():
    lm, one = shared(), edit("add", "relu/3")
    start = tokenize_text(lm, "the cat saw", bos=True)
    texts = generate_unedited(lm, dictionaries(), start, range(4), SAMPLING)
    found = find_strength_for_kl(lm, dictionaries(), [one], 0.02, start, texts, upwards=False)
    assert found.reached
    assert found.strength < 0


def test_a_judge_is_heard():
    ask = replace(asked(), edits=(Edit("add", (CONCEPT,), 1.0),), strengths=(1.0,))
    found = run_sweep(shared(), dictionaries(), ask, bos=0, judge=lambda texts: [2.0] * len(texts))
    assert found.doses[0].mean("judge") == 2.0
