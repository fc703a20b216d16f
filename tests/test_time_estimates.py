"""Estimates of time: the work that is foretold is the work that is done, and sentences say it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from app import time_estimates
from app.circuits.asked import CircuitRequest as Circuit
from app.circuits.running import find
from app.time_estimates import describe_duration, describe_estimate
from backend.ablation.ablation_requests import AblationRequest, EffectRankingRequest, PromptCase
from backend.ablation.dataset_ablation import ablate_dataset
from backend.ablation.effect_ranking import rank_effects
from backend.ablation.model_parts import ModelPart
from backend.engine import LocalEngine
from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import SamplingSettings
from backend.interventions.records import Edit
from backend.model import model_speed, run_token_counts
from backend.model.language_model import LanguageModel
from backend.model.model_speed import measure_and_store_speed, measure_model_speed
from backend.model.run_token_counts import RunTokenCounts
from backend.steering.strength_sweep import SweepRequest, run_sweep
from feature_store.model_speeds import ModelSpeed, ModelSpeeds
from feature_store.records import FeatureId
from tests.harvests import Rig

SPEED = ModelSpeed(read=100.0, write=10.0, batch=8)
PROMPT = "the cat ran to the park"


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@contextmanager
def counted_tokens(lm: LanguageModel) -> Iterator[list[int]]:
    """Tokens that enter the model's last block, pass by pass."""
    passes: list[int] = []
    last = lm.block(lm.n_layers - 1)
    hook = last.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(
            (args[0] if args else kwargs["hidden_states"]).shape[:2].numel()
        ),
        with_kwargs=True,
    )
    try:
        yield passes
    finally:
        hook.remove()


def assert_foretold(work: RunTokenCounts, passes: list[int]) -> None:
    """Within a factor of two and a half of the tokens that went through."""
    foretold, done = work.read + work.written, sum(passes)
    assert done / 2.5 <= foretold <= 2.5 * done, (foretold, done)


def test_a_sweep_takes_the_foretold_passes(engine: LocalEngine) -> None:
    start = tokenize_text(engine.lm, PROMPT, bos=True)
    feature = FeatureId("relu", 3)
    ask = SweepRequest(
        (Edit("add", (feature,), 1.0),),
        (0.0, 1.0, 2.0),
        (start,),
        seeds=(0, 1),
        sampling=SamplingSettings(max_new=8),
        concept=feature,
    )
    with counted_tokens(engine.lm) as passes:
        run_sweep(engine.lm, engine.dictionaries, ask)
    assert_foretold(run_token_counts.count_sweep_tokens(2 * 4, len(start.tokens), 8, 1), passes)


def test_an_ablation_over_prompts_takes_the_foretold_passes(engine: LocalEngine) -> None:
    cases = tuple(PromptCase(PROMPT, " the", " a") for _ in range(6))
    asked = AblationRequest(cases, (ModelPart.parse("relu/3"), ModelPart.parse("relu/4")), "zero")
    with counted_tokens(engine.lm) as passes:
        ablate_dataset(engine, asked)
    tokens = len(cases) * len(tokenize_text(engine.lm, PROMPT, bos=True).tokens)
    assert_foretold(run_token_counts.count_ablation_tokens(tokens, 2, 0), passes)


@pytest.mark.parametrize(("method", "steps"), [("gradient", 1), ("integrated", 10)])
def test_a_ranking_takes_the_foretold_passes(engine: LocalEngine, method: str, steps: int) -> None:
    """Backward passes are not seen by the count, so gradients count as one pass of three here."""
    cases = tuple(PromptCase(PROMPT, " the", " a") for _ in range(4))
    asked = EffectRankingRequest(cases, ("relu",), method, 5, "feature", "zero")
    with counted_tokens(engine.lm) as passes:
        rank_effects(engine, asked)
    tokens = len(cases) * len(tokenize_text(engine.lm, PROMPT, bos=True).tokens)
    foretold = run_token_counts.count_ranking_tokens(tokens, 1, steps, 5)
    backward = tokens * (run_token_counts.GRADIENT_PASSES - 1) * steps
    assert_foretold(RunTokenCounts(foretold.read - backward), passes)


@pytest.mark.parametrize(
    ("method", "names"), [("sparse-features", ("relu",)), ("trace", ("relu",))]
)
def test_a_circuit_takes_the_foretold_passes(
    engine: LocalEngine, method: str, names: tuple[str, ...]
) -> None:
    asked = Circuit(method, names, (PromptCase(PROMPT, " the"),), baseline="zero").check()
    with counted_tokens(engine.lm) as passes:
        find(engine, asked, lambda *_: None)
    tokens = len(tokenize_text(engine.lm, PROMPT, bos=True).tokens)
    assert_foretold(run_token_counts.count_circuit_tokens(tokens, len(names), method), passes)


def test_the_fastest_measurement_is_kept(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was busy when it measured is not called slow for ever."""
    speeds = ModelSpeeds(tmp_path / "speeds.json")
    first = measure_and_store_speed(speeds, engine.lm)
    assert first.read > 0 and first.write is not None
    assert speeds.find(engine.lm.model_hash) == first
    for read, write, kept in ((1.0, 1.0, first), (1e9, None, None)):
        given = ModelSpeed(read=read, write=write, batch=8)
        monkeypatch.setattr(model_speed, "measure_model_speed", lambda lm, given=given: given)
        kept = kept or ModelSpeed(read=1e9, write=first.write, batch=8)
        assert measure_and_store_speed(speeds, engine.lm) == kept
        assert speeds.find(engine.lm.model_hash) == kept


def test_a_model_that_cannot_be_measured_is_still_loaded(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lm: LanguageModel) -> ModelSpeed:
        raise torch.OutOfMemoryError("no memory is left")

    monkeypatch.setattr(model_speed, "measure_model_speed", fail)
    assert measure_and_store_speed(ModelSpeeds(tmp_path / "speeds.json"), engine.lm) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a/b": {"read": NaN}}', '{"a": 3}'])
def test_a_damaged_table_is_measured_anew(
    engine: LocalEngine, tmp_path: Path, content: str
) -> None:
    speeds = ModelSpeeds(tmp_path / "speeds.json")
    speeds.path.write_text(content)
    assert speeds.find(engine.lm.model_hash) is None
    speeds.remember(engine.lm.model_hash, SPEED)
    assert speeds.find(engine.lm.model_hash) == SPEED


def test_a_slow_model_is_measured_on_a_short_text(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring must not itself take minutes: after a pass that is slow no longer one is tried."""
    monkeypatch.setattr(model_speed, "_time_forward_pass", lambda lm, n: 2.0 * n)
    assert measure_model_speed(engine.lm).read == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (30, "30\u202fs"),
        (89, "89\u202fs"),
        (120, "2.0\u202fmin"),
        (5400, "1.5\u202fh"),
        (7 * 86400, "7.0\u202fdays"),
    ],
)
def test_durations_are_said_in_their_unit(seconds: float, said: str) -> None:
    assert describe_duration(seconds) == said


def test_an_estimate_is_said_only_where_it_is_known_and_matters() -> None:
    long = RunTokenCounts(read=100_000, written=57_600)
    said = describe_estimate(long, SPEED)
    assert said.startswith("About 1.9\u202fh on this machine") and "writes 10" in said
    assert describe_estimate(RunTokenCounts(read=500), SPEED) == ""
    assert "not known yet" in describe_estimate(long, None)
    silent = ModelSpeed(read=100.0, write=None, batch=8)
    assert describe_estimate(long, silent) == ""
    assert time_estimates.count_tokens_roughly("") == 1
    assert torch.is_grad_enabled()
