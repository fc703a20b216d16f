"""On a device that keeps its tensors to itself nothing mixes, and the host seldom waits.

Each scenario runs on the CPU and on the pretended device of `tests/pretend_device.py`, and gives
the same numbers. Its budget says how often the host may wait for the device per forward pass of the
model; docs/performance-gpu.md has the budgets, too.
"""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from app.circuits.asked import CircuitRequest
from app.circuits.running import find
from backend.ablation.ablation_requests import AblationRequest, EffectRankingRequest
from backend.ablation.effect_ranking import rank_effects
from backend.ablation.model_parts import ModelPart
from backend.ablation.prompt_ablation import ablate_prompts
from backend.ablation.splice import splice_losses_by_dictionary
from backend.attribution.dictionary_activations import DictionaryActivations
from backend.circuits import replacement_model
from backend.circuits.circuit_prompts import lay_out_circuit_prompts
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from backend.dictionaries import load
from backend.engine import LocalEngine
from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import GenerationRow, SamplingSettings
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.harvest.shard_run import TripleChunk
from backend.interventions.edit_modes import MODES
from backend.model.device import Placement
from backend.steering import features_from_examples
from backend.steering.features_from_examples import ExamplesRequest, find_features_from_examples
from backend.steering.strength_sweep import SweepRequest, run_sweep
from feature_store.records import Context, FeatureId
from tests.dictionaries import CPU, saved
from tests.editing import FORMS, edit
from tests.harvests import content, make_rig
from tests.models import tiny
from tests.pretend_device import DEVICE, MixedDevicesError, pretend_device
from tests.test_ablation_trial import BARE, CASES, TEXTS

PRETEND = Placement(DEVICE, torch.float32, "a test")
SUMMED = ("mean_act", "std_act", "skew", "kurtosis", "mean_all")
FEATURE = FeatureId("relu", 3)


@dataclass
class Bench:
    """What a scenario works with, on one device."""

    folder: Path
    placement: Placement
    engine: LocalEngine

    @classmethod
    def set_up(cls, folder: Path, placement: Placement) -> "Bench":
        """A tiny model with a dictionary of every form."""
        lm = tiny(placement=placement)
        found = {}
        for seed, (name, (architecture, fields)) in enumerate(FORMS.items()):
            path = folder / name
            if not path.exists():
                saved(path, architecture, seed, **{"d_in": 16, **fields})
            found[name] = load(str(path), name=name, placement=placement, width=lm.width)
        lm.has_fast_forward("blocks.1.hook_resid_post")  # compares the two roads, once
        return cls(folder, placement, LocalEngine(lm, found, bos=lm.bos))


def harvest(bench: Bench) -> Any:
    """Self-check, streaming pass, statistics, lens, neighbours, and the published file."""
    rig = make_rig(bench.folder / "rig", bench.placement)
    path = rig.harvest(bench.folder / bench.placement.device.type, tokens=600, forward_batch=100)
    kept = ("dictionary", "feature", "n_active", "max_act", "mean_act")
    return [{key: row[key] for key in kept} for row in content(path)["feature"]]


def read_live(bench: Bench) -> Any:
    """What the feature page and the Prompt page ask of a loaded model."""
    engine = bench.engine
    text = engine.read(TEXTS[0])
    told: list[Any] = [engine.compute_activations(text, list(engine.dictionaries))]
    told += [engine.predict_next_tokens(text, 3, 5), engine.lens_rows(text)]
    for name in engine.dictionaries:
        feature = FeatureId(name, 3)
        told += [engine.weights(feature), engine.logit_lens(feature)]
        told += [engine.find_nearest(feature, "relu", 3)]
    told.append(engine.pairwise_cosines([FEATURE, FeatureId("topk", 3)], "decoder"))
    context = Context("top", 0, None, "explain", 0, 0, 0, 8, 5, 1.0, [], [])
    return [*told, engine.measure_removal(FEATURE, context, np.array(text.token_ids))]


def steer(bench: Bench) -> Any:
    """Three tokens under every mode, with a clean twin beside each row."""
    lm = bench.engine.lm
    rows = [GenerationRow("clean")]
    for name, mode in MODES.items():
        rows.append(GenerationRow(name, (edit(name, *("relu/3", "relu/5")[: 1 + mode.pair]),)))
    start, extras = (
        tokenize_text(lm, "the cat saw", bos=True),
        StreamOptions(watch=(FEATURE,), top=3),
    )
    return list(
        stream_tokens(
            lm, bench.engine.dictionaries, start, rows, SamplingSettings(3, seed=4), extras
        )
    )


def ablate_parts(bench: Bench) -> Any:
    parts = tuple(map(ModelPart.parse, ("relu/3", "head:1.2", "error:topk")))
    return ablate_prompts(bench.engine, AblationRequest(CASES, parts, "zero", 7, 2, "all"))


def splice_dictionaries(bench: Bench) -> Any:
    return splice_losses_by_dictionary(
        bench.engine, BARE, ["relu", "topk", "mlp", "sequence", "heads"]
    )


def rank_features(bench: Bench) -> Any:
    ranking = EffectRankingRequest(CASES, ("topk", "normed"), "integrated", 3, "node", "zero", 5)
    return rank_effects(bench.engine, ranking)


def attribute_toward(bench: Bench) -> Any:
    text = bench.engine.read(TEXTS[0])
    return bench.engine.attribute_logit(text, ["relu", "topk", "normed", "mlp"], 7, 5)


def find_feature_circuit(bench: Bench) -> Any:
    """Effects and edges of a sparse feature circuit on two prompts."""
    settings = SparseFeatureSettings(nodes=8, edges=20, paths=2, draws=0)
    examples = lay_out_circuit_prompts(bench.engine, CASES[:2])
    circuit = find_sparse_feature_circuit(
        bench.engine, examples, ("early", "topk", "mlp"), settings
    )
    return [(node.id, node.effect) for node in circuit.nodes]


def find_circuit(bench: Bench, method: str) -> Any:
    """A circuit of one prompt with its proof, where the method has one."""
    cases = tuple(replace(case, pair=other) for case, other in zip(CASES, TEXTS[::-1], strict=True))
    n = len(cases) if method == "head-codes" else 1
    request = CircuitRequest(method, ("early", "topk", "mlp"), cases[:n], nodes=8, edges=20)
    circuit = find(bench.engine, request, lambda done, total, note: None)
    return [(node.id, node.effect) for node in circuit.nodes]


def search_features(bench: Bench) -> Any:
    """Features that make given texts likelier, by proximal gradient descent."""
    start = tokenize_text(bench.engine.lm, "the cat", bos=True)
    chosen = {name: bench.engine.dictionaries[name] for name in ("relu", "early")}
    request = ExamplesRequest(start, ((20, 21, 22), (21, 20, 23)), m=2)
    with patch.multiple(features_from_examples, SELECTION_STEPS=2, REFIT_STEPS=2):
        return find_features_from_examples(bench.engine.lm, chosen, request)


def sweep_strengths(bench: Bench) -> Any:
    start = tokenize_text(bench.engine.lm, "the cat saw", bos=True)
    request = SweepRequest(
        (edit("add", "relu/3"),), (0.0, 3.0), (start,), seeds=(0, 1), sampling=SamplingSettings(3)
    )
    return run_sweep(bench.engine.lm, bench.engine.dictionaries, request)


METHODS = ("attribution-graph", "trace", "weights", "head-codes")

BUDGETS: dict[Callable[[Bench], Any], float] = {
    harvest: 16,
    read_live: 20,
    steer: 30,
    ablate_parts: 45,
    splice_dictionaries: 10,
    rank_features: 15,
    attribute_toward: 20,
    find_feature_circuit: 26,
    **{partial(find_circuit, method=method): 20 for method in METHODS},
    search_features: 5,
    sweep_strengths: 16,
}
"""The most waits of the host for the device per forward pass."""


def _name(scenario: Any) -> str:
    return scenario.keywords["method"] if isinstance(scenario, partial) else scenario.__name__


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Bench]:
    """The same model and dictionaries, on the CPU and on the pretended device."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "rig").mkdir()
    with pretend_device():
        pretended = Bench.set_up(folder, PRETEND)
    return Bench.set_up(folder, CPU), pretended


@pytest.mark.parametrize("scenario", BUDGETS, ids=_name)
def test_the_device_road_mixes_nothing_waits_seldom_and_agrees_with_the_cpu(
    benches: tuple[Bench, Bench], scenario: Callable[[Bench], Any]
) -> None:
    on_cpu, pretended = benches
    with pretend_device() as ledger:
        found = scenario(pretended)
    assert ledger.mixed == []
    assert ledger.operations > 100
    waits = sum(ledger.waits.values()) / max(1, ledger.forwards)
    assert waits <= BUDGETS[scenario], f"{waits:.1f} waits: {ledger.waits.most_common(8)}"
    assert_agrees(found, scenario(on_cpu))


def assert_agrees(one: Any, other: Any, where: str = "") -> None:
    """Equal, numbers to rounding: kernels of the two roads add in different orders."""
    if is_dataclass(one) and not isinstance(one, type):
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_agrees(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, np.ndarray):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4, err_msg=where)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_agrees(*pair, f"{where}[{number}]")
    elif isinstance(one, float) and not where.endswith(".seconds"):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4, nan_ok=True), where
    elif not where.endswith(".seconds"):
        assert one == other, where


def test_the_streaming_pass_waits_a_few_times_per_batch(
    benches: tuple[Bench, Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the survivors of each tile, and three times to bring a batch onto the device; what
    a chunk of batches costs comes on top, and a chunk is a million activations of a dictionary."""
    waits: dict[str, list[int]] = {"feed": [], "fold": []}

    def counting(name: str) -> Callable[..., Any]:
        whole = getattr(TripleChunk, name)

        def counted(*args: Any) -> Any:
            before = sum(ledger.waits.values())
            result = whole(*args)
            waits[name].append(sum(ledger.waits.values()) - before)
            return result

        return counted

    for name in waits:
        monkeypatch.setattr(TripleChunk, name, counting(name))
    with pretend_device() as ledger:
        rig = make_rig(tmp_path, PRETEND)
        rig.harvest(tmp_path / "store", tokens=600, forward_batch=100)
    n = len(rig.found)
    assert len(waits["feed"]) >= 5
    assert max(waits["feed"]) <= 6 + 2 * n + 2, waits["feed"]
    assert max(waits["fold"]) <= 60 * n, waits["fold"]


def test_one_line_that_leaves_a_tensor_on_the_cpu_is_found(
    benches: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spliced forward whose mask of counted positions never reaches the device."""
    whole = replacement_model.read_dictionary_activations

    def careless(*args: Any) -> list[DictionaryActivations]:
        return [replace(one, counted=args[3]) for one in whole(*args)]

    monkeypatch.setattr(replacement_model, "read_dictionary_activations", careless)
    with (
        pretend_device() as ledger,
        pytest.raises(MixedDevicesError, match="dictionary_activations.py"),
    ):
        find_circuit(benches[1], "weights")
    assert ledger.mixed


def test_the_pretended_device_refuses_and_counts_what_a_gpu_would() -> None:
    with pretend_device() as ledger:
        on_device, here = torch.arange(6.0, device=DEVICE), torch.arange(6.0)
        for mixing in (
            lambda: on_device + here,
            lambda: here.add_(on_device.sum()),
            lambda: here[on_device.long()],
            lambda: torch.cat([on_device, here]),
            lambda: on_device.gather(0, here.long()),
            lambda: torch.where(here > 1, on_device, on_device),
        ):
            with pytest.raises(MixedDevicesError):
                mixing()
        with pytest.raises(TypeError, match="numpy"):
            on_device.numpy()
        assert len(ledger.mixed) == 7
        ledger.waits.clear()
        assert (on_device * torch.tensor(2.0) + 1).tolist() == [1, 3, 5, 7, 9, 11]
        assert on_device[on_device > 3].cpu().sum() == 9  # a mask's length is only known there
        assert float(on_device[[1, 2]].sum()) == 3
        kinds = {kind for kind, _ in ledger.waits}
        assert kinds == {"tolist", "mask as index", "to the CPU", "to the device", "item"}
        on_device.requires_grad_()
        on_device.pow(2).sum().backward()
        assert on_device.grad is not None and on_device.grad.tolist() == [0, 2, 4, 6, 8, 10]
