"""Traces: exact sums from every kind of start, totals over all paths, both sides of a score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.circuits.attention_score import linearize_attention_score
from backend.circuits.patch_free_tracing import (
    AttentionScoreStart,
    FeatureStart,
    LogitStart,
    _head_vectors_of_sources,
    select_cut_dictionaries,
    trace_to_sources,
)
from backend.circuits.records import Circuit
from backend.circuits.replacement_model import ReplacementModel
from backend.circuits.source_tracer import SourceTracer
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.dictionaries import loaded
from tests.models import shared
from tests.test_circuits_graph import N, prompt, transcoder, without_sources


def sae(folder: Path, layer: int, key: str, architecture: str = "topk"):
    found = loaded(
        folder / f"{key}{layer}",
        architecture,
        layer + 7,
        d_in=16,
        metadata={"hook_name": f"blocks.{layer}.{key}"},
    )
    return replace(found, name=f"{key.rsplit('_')[-1]}{layer}")


@pytest.fixture(scope="module")
def dictionaries(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tracing")
    heads = [sae(folder, layer, "attn.hook_z") for layer in range(3)]
    return [*heads, *(transcoder(folder, layer) for layer in range(3))]


def a_feature(lm, d, position: int) -> FeatureId:
    """One that is active at a position of the prompt."""
    x = lm.activations(torch.tensor([prompt().token_ids]), [d.hook_name])[d.hook_name]
    return FeatureId(d.name, int(d.encode_sparse(x[0, position : position + 1]).feature[0]))


def held_still(lm, dictionaries, *reads) -> ReplacementModel:
    tokens, counted = (torch.tensor([one]) for one in (prompt().token_ids, prompt().counted))
    return ReplacementModel(lm, tokens, counted, dictionaries, extra_reads=reads)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("start", ["logit", "feature", "score"])
def test_a_trace_begins_with_the_models_number(architecture: str, start: str, dictionaries) -> None:
    """What is traced is the model's own number."""
    lm = shared(architecture)
    used = dictionaries if lm.n_heads * lm.d_head == 16 else dictionaries[3:]
    if start == "logit":
        given = LogitStart((7,), (9,))
        logits = lm.logits(torch.tensor([prompt().token_ids]))[0, -1]
        value = float(logits[7] - logits[9])
    elif start == "feature":
        d = used[-1]
        feature = a_feature(lm, d, N - 1)
        given = FeatureStart(feature, N - 1)
        x = lm.activations(torch.tensor([prompt().token_ids]), [d.hook_name])[d.hook_name]
        value = float(d.encode(x[0, N - 1])[feature.index])
    else:
        given = AttentionScoreStart(2, 3, N - 1, 2)
        cached = lm.bridge_activations(
            torch.tensor([prompt().token_ids]), ["blocks.2.attn.hook_attn_scores"]
        )
        value = float(cached["blocks.2.attn.hook_attn_scores"][0, 3, N - 1, 2])
    circuit = trace_to_sources(lm, used, prompt(), given, nodes=10_000, edge_share=1.0)
    capped = architecture == "gemma2" and start == "logit"  # a soft-cap follows
    assert circuit.facts["start"][0] == pytest.approx(value, rel=1e-2 if capped else 1e-3, abs=1e-3)
    assert Circuit.from_json(circuit.to_json()) == circuit


def test_totals_are_sums_over_all_paths(tiny_lm, dictionaries) -> None:
    """Each feature passes on a part of its activation: w (I - S)^-1 by inversion."""
    held = held_still(tiny_lm, dictionaries, "ln_final.hook_out")
    logits = tiny_lm.logits(torch.tensor([prompt().token_ids]))[0, -1]
    from backend.circuits.logit_targets import build_logit_target

    number = build_logit_target(tiny_lm, logits, [7])[0].linear_readout(tiny_lm, N - 1)
    tracer = SourceTracer(held, [number], np.ones(1), budget=10_000, memory=1 << 30, rule="signed")
    found = tracer.trace_features(None)
    n = len(found.kept)
    made_up = np.ones(n + 1)
    made_up[: len(tracer.features)] = [
        tracer.columns.sources[i].value for i in sorted(tracer.features)
    ]
    share = found.effects / made_up[:, None]
    whole = np.linalg.inv(np.eye(n + 1) - share)[n, :n]
    np.testing.assert_allclose(tracer.importance()[found.kept], whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox", "qwen2"])
def test_a_score_is_made_of_query_and_key(architecture: str, dictionaries) -> None:
    """q · between · k is the score, and what a source brings to q gives its direct effect."""
    lm, tokens = shared(architecture), torch.tensor([prompt().token_ids])
    score = linearize_attention_score(lm, tokens, 1, 2, 4, 3)
    q, k = (
        lm.bridge_activations(tokens, [f"blocks.1.attn.hook_{name}"])[
            f"blocks.1.attn.hook_{name}"
        ].flatten(2)
        for name in "qk"
    )
    mine, theirs = q[0, 4, score.query_slice], k[0, 3, score.key_slice]
    assert float(mine @ score.between @ theirs) == pytest.approx(score.value, rel=1e-3, abs=1e-4)
    for side in (score.query, score.key):  # a product has nothing beside it
        assert side.offset == pytest.approx(0, abs=1e-4) and side.direction.norm() > 0
    held = held_still(lm, dictionaries, "blocks.1.attn.hook_q", "blocks.1.attn.hook_k")
    sides = [score.query, score.key]
    both = held.source_contributions(sides)
    whole, effects = held.values(sides), both[0].detach().numpy()
    brought = _head_vectors_of_sources(
        held, score.query, score.query_slice, np.arange(len(effects))
    )
    product = brought.T @ (score.between @ theirs).numpy()
    np.testing.assert_allclose(product, effects, rtol=1e-3, atol=1e-4)
    bias = without_sources(held, sides)
    torch.testing.assert_close(both.sum(1) + bias, whole, rtol=1e-3, atol=1e-3)


def test_a_score_names_pairs(tiny_lm, dictionaries) -> None:
    circuit = trace_to_sources(tiny_lm, dictionaries, prompt(), AttentionScoreStart(2, 0, 5, 3))
    pairs = circuit.facts["pairs"]
    assert len(pairs) == 30 and all("@" in pair["query"] for pair in pairs)
    sizes = [abs(pair["score"]) for pair in pairs]
    assert sizes == sorted(sizes, reverse=True)


def test_the_stream_is_not_cut_where_branches_are_known(tiny_lm, dictionaries, tmp_path) -> None:
    stream = sae(tmp_path, 1, "hook_resid_post")
    assert select_cut_dictionaries(tiny_lm, [stream, *dictionaries]) == dictionaries
    assert select_cut_dictionaries(tiny_lm, [stream]) == [stream]


def test_a_feature_of_the_stream_is_traced_to_what_wrote_it(
    tiny_lm, dictionaries, tmp_path
) -> None:
    stream = sae(tmp_path, 1, "hook_resid_post")
    start = FeatureStart(a_feature(tiny_lm, stream, 3), 3)
    circuit = trace_to_sources(tiny_lm, dictionaries, prompt(), start, known=[stream])
    assert max(node.layer for node in circuit.nodes) == 1
    assert {node.dictionary for node in circuit.nodes} >= {"z0", "z1", "t0", "t1"}


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (AttentionScoreStart(1, 9, 3, 2), "has no head 1.9"),
        (AttentionScoreStart(1, 1, 2, 4), "Position 2 cannot attend to position 4"),
        (FeatureStart(FeatureId("t1", 4000), 2), "t1 has features 0 to 39, not 4000"),
        (FeatureStart(FeatureId("t1", 4), 20), "positions 0 to 5, not 20"),
        (FeatureStart(FeatureId("t9", 4), 2), "No dictionary called 't9'"),
        (LogitStart(()), "There is no target"),
    ],
)
def test_a_start_that_is_not_there(tiny_lm, dictionaries, start, says: str) -> None:
    with pytest.raises(InputError, match=says):
        trace_to_sources(tiny_lm, dictionaries, prompt(), start)
