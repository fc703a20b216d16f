"""Codes that find a planted head, and effects that are what an ablation does."""

from difflib import SequenceMatcher

import numpy as np
import pytest
import torch

from app.circuits.asked import CircuitRequest
from app.circuits.methods.head_codes import examples_of
from backend.ablation.ablation_requests import PromptCase
from backend.ablation.padded_prompts import PaddedPrompts
from backend.attribution.target_metric import TargetMetric
from backend.circuits.head_codes import (
    assign_nearest_codes,
    build_head_codes_circuit,
    fit_head_codes,
    read_head_outputs,
)
from backend.circuits.records import Circuit
from backend.circuits.task_counterexamples import COUNTEREXAMPLE_TASKS, sample_counterexample_pairs
from backend.engine_protocol import TokenizedText
from benchmarks.head_effects import auc, head_effects, shuffled_auc
from feature_store.errors import InputError
from tests.models import tiny, token_batch


def texts(n: int, seed: int = 0, last: int | None = None) -> list[TokenizedText]:
    rows = token_batch(n, 7, seed).tolist()
    if last is not None:
        rows = [[*row[:-1], last] for row in rows]
    return [TokenizedText(row, [False, *[True] * 6]) for row in rows]


def test_near_vectors_share_a_code() -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 4
    x = np.eye(6)[kind] + 0.05 * rng.normal(size=(60, 6))
    codes = assign_nearest_codes(x, 4, seed=1)
    assert {len(set(codes[kind == one])) for one in range(4)} == {1} and len(set(codes)) == 4
    assert set(assign_nearest_codes(np.ones((5, 2)), 10, seed=1)) == {0}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "neox"])
def test_outputs_of_heads_add_up_to_what_attention_writes(kind: str) -> None:
    """But for its bias, as a share of the stream's mean length."""
    lm, given = tiny(kind, seed=3), texts(6)
    prompts = PaddedPrompts.of(given)
    hooks = ["blocks.1.hook_attn_out", "blocks.1.hook_resid_pre"]
    got = lm.activations(prompts.tokens, hooks)
    written, stream = (got[hook][torch.arange(6), prompts.last] for hook in hooks)
    bias = getattr(lm.component("blocks.1.attn.o").original_component, "bias", None)
    written = written if bias is None else written - bias
    summed = read_head_outputs(lm, given)[:, 1].sum(1) * stream.norm(dim=-1).mean()
    torch.testing.assert_close(summed, written, atol=1e-5, rtol=1e-4)


def test_attention_that_a_norm_follows_is_read_as_z() -> None:
    outputs = read_head_outputs(tiny("gemma2"), texts(5))
    assert outputs.shape == (5, 3, 4, 8)
    torch.testing.assert_close(outputs.pow(2).mean((0, 2, 3)), torch.ones(3))


def test_a_head_that_says_next_to_nothing_has_no_code_of_its_own() -> None:
    lm, kinds = tiny("gpt2", seed=2), (texts(8, 1, last=9), texts(8, 2, last=30))
    assert fit_head_codes(lm, *kinds).share[0, 3] > 0.3
    lm.component("blocks.0.attn.o").original_component.weight.data[12:16] *= 1e-4  # what it writes
    whispered = fit_head_codes(lm, *kinds).share
    assert whispered[0, 3] == 0 and whispered.max() > 0.2


def test_a_head_that_speaks_on_positives_only_is_first() -> None:
    """All heads but one are silenced; it alone can tell the two kinds of last token apart."""
    lm = tiny("llama", seed=2)
    for layer in range(3):
        value = lm.component(f"blocks.{layer}.attn.v").original_component.weight.data
        keep = value[4:8].clone()
        value.zero_()
        if layer == 1:
            value[4:8] = keep  # the second of two key/value heads: query heads 2 and 3
    found = fit_head_codes(lm, texts(8, 1, last=9), texts(8, 2, last=30), seed=0)
    assert set(np.argsort(-found.score, axis=None)[:2]) == {1 * 4 + 2, 1 * 4 + 3}
    assert found.score.sum() == pytest.approx(1)


def test_the_same_seed_gives_the_same_codes(tiny_lm) -> None:
    one, other = (fit_head_codes(tiny_lm, texts(5, 1), texts(5, 2), seed=4) for _ in range(2))
    assert (one.codes == other.codes).all()


def test_the_same_examples_on_both_sides_have_no_codes_of_their_own(tiny_lm) -> None:
    assert fit_head_codes(tiny_lm, texts(5), texts(5)).share.max() == 0


def test_a_circuit_of_heads(tiny_lm) -> None:
    circuit = build_head_codes_circuit(tiny_lm, texts(5, 1), texts(6, 2))
    assert len(circuit.nodes) == 12 and all(node.kind == "head" for node in circuit.nodes)
    scores = [node.effect or 0.0 for node in circuit.nodes]
    assert scores == sorted(scores, reverse=True)
    layer = {node.id: node.layer for node in circuit.nodes}
    assert all(layer[edge.source] < layer[edge.target] for edge in circuit.edges)
    assert Circuit.from_json(circuit.to_json()) == circuit


def test_too_few_examples(tiny_lm) -> None:
    with pytest.raises(InputError, match="2 negative examples are too few"):
        fit_head_codes(tiny_lm, texts(5), texts(2))


def test_an_effect_is_what_the_ablation_changes(tiny_lm) -> None:
    prompts = PaddedPrompts.of(texts(6))
    target = TargetMetric([[7]] * 6, [[9]] * 6, prompts.last)
    found = head_effects(tiny_lm, prompts, target)
    hook, block = "blocks.1.attn.hook_z", slice(4, 8)
    mean = tiny_lm.activations(prompts.tokens, [hook])[hook][prompts.counted].mean(0)

    def edit(z: torch.Tensor) -> torch.Tensor:
        new = z.clone()
        new[:, 1:, block] = mean[block]
        return new

    change = target(tiny_lm.logits(prompts.tokens)) - target(
        tiny_lm.logits(prompts.tokens, {hook: edit})
    )
    np.testing.assert_allclose(found.lost[:, 1, 1], change.numpy(), atol=1e-5)
    last = np.corrcoef(found.lost[:, 2].ravel(), found.estimated[:, 2].ravel())[0, 1]
    assert last > 0.9


def test_effects_at_the_last_token_leave_the_others(tiny_lm) -> None:
    """Only the last token's target sees them: one that reads the token before keeps its value."""
    prompts = PaddedPrompts.of(texts(4))
    before = TargetMetric([[7]] * 4, [[9]] * 4, prompts.last - 1)
    assert np.abs(head_effects(tiny_lm, prompts, before, at_last=True).lost).max() < 1e-6
    assert np.abs(head_effects(tiny_lm, prompts, before).lost).max() > 1e-3
    at = TargetMetric([[7]] * 4, [[9]] * 4, prompts.last)
    found = head_effects(tiny_lm, prompts, at, at_last=True)
    np.testing.assert_allclose(found.lost[:, 2], found.estimated[:, 2], atol=0.05)
    assert np.abs(found.lost).max() > 1e-3


def test_examples_that_differ_in_everything_are_said_to(tiny_lm) -> None:
    loud = tiny("gpt2", seed=2)
    for layer in range(3):
        loud.component(f"blocks.{layer}.attn.o").original_component.weight.data *= 1000
    alike = [texts(1, kind)[0] for kind in (1, 2)]
    far = build_head_codes_circuit(loud, [alike[0]] * 5, [alike[1]] * 5)
    assert any("differ in more than the behaviour" in note for note in far.notes)
    same = build_head_codes_circuit(tiny_lm, texts(5), texts(5))
    assert not any("differ in more" in note for note in same.notes)


def test_auc_by_hand() -> None:
    truth = np.array([True, False, True, False])
    assert auc([3, 1, 2, 2], truth) == (4 - 0.5) / 4
    assert auc([1, 2], np.array([True, True])) is None
    drawn = shuffled_auc(np.arange(4.0), truth)
    assert 0.45 < drawn.mean() < 0.55


@pytest.mark.parametrize("task", COUNTEREXAMPLE_TASKS)
def test_counterexamples_take_out_what_decides(task: str) -> None:
    """The same prompt but for what decides; where the answer is asked for nothing of it is left."""
    for one in sample_counterexample_pairs(task, "held_out", 8, 3):
        assert one.text != one.without and one.answer != one.wrong
        a, b = one.text.split(), one.without.split()
        changed = [op for op in SequenceMatcher(None, a, b).get_opcodes() if op[0] != "equal"]
        assert 1 <= sum(op[2] - op[1] for op in changed) < len(a) / 3
    assert list(sample_counterexample_pairs(task, "train", 2, 3)) == list(
        sample_counterexample_pairs(task, "train", 2, 3)
    )


def test_the_page_says_what_the_negatives_are() -> None:
    shown = CircuitRequest("head-codes", (), task="induction", n_prompts=6)
    positives, negatives, note = examples_of(shown)
    assert len(positives) == len(negatives) == 6 and "not possible" in note
    assert "corrupt twins" in examples_of(CircuitRequest("head-codes", (), task="agreement"))[2]
    with pytest.raises(InputError, match="such a one beside each prompt"):
        examples_of(CircuitRequest("head-codes", (), (PromptCase("the dog"),)))
