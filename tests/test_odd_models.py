"""Models of unusual make go through harvest, live reading, steering, ablation and circuits."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.ablation.ablation_requests import AblationRequest, PromptCase
from backend.ablation.model_parts import ModelPart
from backend.ablation.prompt_ablation import ablate_prompts
from backend.circuits.circuit_prompts import lay_out_circuit_prompts
from backend.circuits.sparse_feature_circuit import (
    SparseFeatureSettings,
    find_sparse_feature_circuit,
)
from backend.dictionaries import load
from backend.engine import LocalEngine
from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import GenerationRow, SamplingSettings, SummaryRecord, TokenRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.records import Edit
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import Context, FeatureId
from tests.dictionaries import CPU, saved
from tests.harvests import Rig, content
from tests.models import save, shared

ODD = ["neox", "gptj", "qwen2", "gemma2", "gemma3", "mamba"]
"""Parallel attention, grouped heads, soft caps, sliding windows, no attention at all."""
PROMPT = "the old cat saw a red"


def engine_of(lm: LanguageModel, folder: Path) -> LocalEngine:
    hooks = {"resid": "blocks.1.hook_resid_post", "early": "blocks.0.hook_resid_post"}
    found = {}
    for name, hook in hooks.items():
        path = saved(folder / name, "standard", d_in=lm.d_model, metadata={"hook_name": hook})
        found[name] = load(str(path), name=name, placement=CPU, width=lm.width)
    return LocalEngine(lm, found, bos=lm.bos)


@pytest.fixture(params=ODD)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> LocalEngine:
    return engine_of(shared(request.param), tmp_path)


def test_a_harvest_counts_what_the_model_does(
    engine: LocalEngine, rig: Rig, tmp_path: Path
) -> None:
    own = Rig(engine.lm, list(engine.dictionaries.values()), rig.folders[:2], rig.corpus)
    stored = content(own.harvest(tmp_path / "store", tokens=300))
    rows = [row for row in stored["feature"] if row["dictionary"] == "resid"]
    fired = np.zeros(len(rows), dtype=int)
    d = engine.dictionaries["resid"]
    for sequence in stored["sequence"]:
        ids = torch.tensor([sequence["token_ids"]])
        counted = torch.tensor([i not in engine.lm.special_ids for i in sequence["token_ids"]])
        x = engine.lm.activations(ids, [d.hook_name])[d.hook_name][0, counted]
        fired += (d.encode(x) > 0).sum(0).numpy()
    assert [row["n_active"] for row in rows] == fired.tolist()


def test_every_live_reading_is_a_number_or_a_sentence(engine: LocalEngine) -> None:
    text = engine.read(PROMPT)
    ids = np.array(text.token_ids)
    feature, at = FeatureId("resid", 3), len(ids) - 1
    context = Context("top", 0, None, "explain", 0, 0, 0, len(ids), at, 1.0, [], [])
    read: dict[str, Any] = {
        "firing": lambda: engine.compute_activations(text, ["resid", "early"])["resid"].value,
        "toward": lambda: engine.attribute_logit(text, ["resid"], 7, at)["resid"].value,
        "predict": lambda: [p for _, p in engine.predict_next_tokens(text, at, 5)],
        "lens": lambda: engine.logit_lens(feature),
        "removal": lambda: engine.measure_removal(feature, context, ids).after,
        "rows": lambda: [row.probabilities for row in engine.lens_rows(text)],
        "weights": lambda: engine.weights(feature) is not None,
        "nearest": lambda: [c for _, c in engine.find_nearest(feature, "early", 3) or []],
    }
    said = {}
    for name, ask in read.items():
        try:
            assert np.isfinite(np.asarray(ask(), dtype=float)).all(), name
        except InputError as refusal:
            said[name] = str(refusal)
    assert all(sentence.endswith(".") for sentence in said.values())
    assert set(said) <= {"rows", "weights"}


def test_a_steered_text_is_what_one_forward_of_it_gives(engine: LocalEngine) -> None:
    """Step by step, by whatever the model remembers, and the whole at once."""
    start = tokenize_text(engine.lm, PROMPT, bos=True)
    d = engine.dictionaries["resid"]
    stream = engine.lm.activations(torch.tensor([start.tokens]), [d.hook_name])[d.hook_name]
    length = float(stream[0, 1:].norm(dim=-1).mean() / d.W_dec[3].norm())
    edits = (Edit("add", (FeatureId("resid", 3),), 3 * length),)
    rows = [GenerationRow("default"), GenerationRow("steered", edits)]
    sampling = SamplingSettings(8, seed=3)
    made = list(
        stream_tokens(engine.lm, engine.dictionaries, start, rows, sampling, StreamOptions())
    )
    plan = compile_edits(engine.lm, engine.dictionaries, [row.edits for row in rows], guard=True)
    said = {one.row: one.tokens for one in made if isinstance(one, SummaryRecord)}
    texts = [[*start.tokens, *said[row.name]] for row in rows]
    whole = compute_edited_logits(plan, texts, n_prompt=len(start.tokens))
    assert whole.kl is not None
    for one in made:
        if isinstance(one, TokenRecord):
            row, at = ["default", "steered"].index(one.row), len(start.tokens) + one.index - 1
            logprob = whole.logits[row].log_softmax(-1)[at, one.id]
            assert one.logprob == pytest.approx(float(logprob), abs=1e-4)
            assert (one.kl or 0) == pytest.approx(float(whole.kl[row, at]), abs=1e-4)
    assert sum(isinstance(one, TokenRecord) and (one.kl or 0) > 1e-3 for one in made) >= 3


def test_ablation_and_circuit_give_numbers(engine: LocalEngine) -> None:
    case = PromptCase(PROMPT)
    fired = engine.compute_activations(engine.read(PROMPT), ["resid"])["resid"]
    part = ModelPart("feature", "resid", int(fired.feature[-1]))
    assert abs(ablate_prompts(engine, AblationRequest((case,), (part,)))["joint"]) > 1e-6
    settings = SparseFeatureSettings(nodes=6, edges=10, paths=2, draws=0)
    circuit = find_sparse_feature_circuit(
        engine, lay_out_circuit_prompts(engine, [case]), ("resid", "early"), settings
    )
    assert len(circuit.nodes) > 3
    assert all(np.isfinite(node.effect or 0) for node in circuit.nodes)


def test_a_model_that_remembers_nothing_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(shared("mamba"), tmp_path)
    monkeypatch.setattr("backend.interventions.forward_path.CACHE_NAMES", ("no_such_memory",))
    start = tokenize_text(engine.lm, PROMPT, bos=True)
    with pytest.raises(InputError, match="keeps no cache of the text that it has read"):
        list(
            stream_tokens(
                engine.lm, {}, start, [GenerationRow("a")], SamplingSettings(2), StreamOptions()
            )
        )


@pytest.mark.parametrize("name", ["neox", "gptj", "gpt2-small"])
def test_no_folder_name_is_taken_for_another_model(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path / name, "gpt2")
    with caplog.at_level(logging.WARNING):
        lm = LanguageModel.load(str(folder), choose_placement("cpu"))
    assert [
        record.getMessage() for record in caplog.records if "alias" in record.getMessage()
    ] == []
    assert lm.name == name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["padded", "neox", "gptj", "qwen", "gemma2", "mamba", "bigtok", "notok"]
)
def test_the_odd_models_of_the_cases(
    name: str, cases: Path, real: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Those of make_odd_models.py, through harvest, steering and ablation."""
    folder = tmp_path_factory.getbasetemp() / "odd"
    text = real / "text" / "tinystories_validation_part.jsonl"
    if not folder.exists():
        make = [sys.executable, str(cases / "make_odd_models.py"), str(folder)]
        subprocess.run([*make, str(real / "stories260k"), str(text)], check=True)
    if name == "notok":
        with pytest.raises(InputError, match="has no tokenizer"):
            LanguageModel.load(str(folder / name), CPU)
        return
    spec = "identity=identity:blocks.1.hook_resid_post"
    plan = HarvestPlan(tokens=600, context_size=32)
    request = HarvestRequest(str(folder / name), [spec], [str(text)], tmp_path, plan, CPU)
    harvest = HarvestRun(request)
    list(harvest.run())
    assert harvest.outcome == "published"
    lm = LanguageModel.load(str(folder / name), CPU)
    d = load(spec.partition("=")[2], name="identity", placement=CPU, width=lm.width)
    own = LocalEngine(lm, {"identity": d}, bos=lm.bos)
    edits = (Edit("add", (FeatureId("identity", 3),), 4.0),)
    start = tokenize_text(lm, "The girl", bos=True)
    made = stream_tokens(
        lm,
        own.dictionaries,
        start,
        [GenerationRow("a", edits)],
        SamplingSettings(6),
        StreamOptions(),
    )
    ids = [one.id for one in made if isinstance(one, TokenRecord)]
    assert ids and max(ids) < len(lm.tokenizer)
    told = ablate_prompts(
        own,
        AblationRequest((PromptCase("The girl saw a"),), (ModelPart("feature", "identity", 3),)),
    )
    assert np.isfinite(told["joint"])
