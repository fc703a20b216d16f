"""Attribution: estimates that add up, agree with small interventions, and with exact ablation."""

import pytest
import torch

from backend.attribution import effect_estimates
from backend.attribution.dictionary_activations import (
    DictionaryActivations,
    read_dictionary_activations,
)
from backend.attribution.exact_ablation import ablate_active_features, logit_spread
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.attribution.target_metric import (
    TargetMetric,
    tokenize_continuation,
    tokenize_single_token_answer,
)
from backend.dictionaries.base import Dictionary
from feature_store.errors import InputError
from tests.dictionaries import loaded
from tests.models import tiny, token_batch

KINDS = {
    "standard": {},
    "topk": {},
    "jumprelu": {},
    "standard layer_norm": {"normalize_activations": "layer_norm"},
    "skip_transcoder": {},
}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lm(request: pytest.FixtureRequest):
    return tiny(request.param)


@pytest.fixture(scope="module", params=KINDS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    """A dictionary of the tiny models' width."""
    kind = request.param
    return loaded(tmp_path_factory.mktemp("d"), kind.split()[0], d_in=16, d_out=16, **KINDS[kind])


def prompts() -> tuple[torch.Tensor, torch.Tensor, TargetMetric]:
    tokens = token_batch(2, 9)
    counted = torch.ones_like(tokens, dtype=torch.bool)
    counted[:, 0] = False
    return tokens, counted, TargetMetric([[5], [6, 7]], [[8], [9]], torch.tensor([8, 8]))


def reading(lm, d: Dictionary) -> DictionaryActivations:
    tokens, counted, _ = prompts()
    (found,) = read_dictionary_activations(lm, [d], tokens, counted)
    return found


def test_features_and_error_are_the_stream(lm, found: Dictionary) -> None:
    """decode(f) + error = the stream, at counted positions."""
    one = reading(lm, found)
    again = one.dictionary.reconstruct(one.x) + one.error_term()
    assert torch.allclose(again[one.counted], one.h[one.counted], atol=1e-4)
    assert not one.error_term()[~one.counted].any()
    assert not (one.active.position == 0).any() and len(one.active.row)


def test_integrated_gradients_add_up_to_the_measured_change(lm, found: Dictionary) -> None:
    tokens, _, target = prompts()
    one = reading(lm, found)
    goes = {one.dictionary.name: effect_estimates.make_zero_baseline(one, errors=True)}
    (result,) = effect_estimates.estimate_by_integrated_gradients(
        lm, [one], goes, tokens, target, steps=200
    )
    assert torch.allclose(result.total, result.moved, rtol=0.02, atol=2e-3)


def test_a_small_step_moves_the_target_as_the_gradient_says(lm, found: Dictionary) -> None:
    """Every node one per mille towards zero: the estimate for that step is the measured change."""
    tokens, _, target = prompts()
    one = reading(lm, found)
    goes = {one.dictionary.name: effect_estimates.AttributionBaseline(one.active.value * 0.999)}
    (result,) = effect_estimates.estimate_by_attribution_patching(lm, [one], goes, tokens, target)
    change = effect_estimates.total_baseline_change(one, goes[one.dictionary.name]).double()
    hook = one.dictionary.hook_out
    step = 10 * change  # float32 does not show the change itself; a centred step is linear
    moved = [
        target(lm.logits(tokens, {hook: lambda h, s=s: h + (s * step).float()})) for s in (-1, 1)
    ]
    measured = (moved[1] - moved[0]) / 20
    assert torch.allclose(result.total, measured, rtol=0.03, atol=1e-5)


def test_exact_ablation_is_decoding_without_the_feature(lm, found: Dictionary) -> None:
    tokens, _, target = prompts()
    one = reading(lm, found)
    nodes = torch.tensor([0, len(one.active.row) // 2, len(one.active.row) - 1])
    baseline = torch.zeros_like(one.active.value)
    result = ablate_active_features(
        lm, one, nodes, baseline, tokens, target.only, target.last, rows=2
    )
    for node, effect in zip(nodes.tolist(), result.effect, strict=True):
        value = one.active.value.clone()
        value[node] = 0
        h = one.decode_feature_values(value) - one.decode_feature_values(one.active.value)
        hook = one.dictionary.hook_out
        moved = target(lm.logits(tokens, {hook: lambda x, h=h: x + h})) - target(lm.logits(tokens))
        row = int(one.active.row[node])
        assert effect == pytest.approx(float(moved[row]), abs=2e-4)


def test_gradients_see_what_an_edit_made(lm) -> None:
    tokens, _, target = prompts()
    hook = "blocks.1.hook_resid_post"
    plain = compute_hook_gradients(lm, tokens, [hook], target)
    edited = compute_hook_gradients(lm, tokens, [hook], target, {hook: lambda h: h * 0})
    assert torch.allclose(plain.value, target(lm.logits(tokens)), atol=1e-5)
    assert not edited.activations[hook].any() and plain.activations[hook].any()


def test_rows_do_not_see_each_other(lm, found: Dictionary) -> None:
    tokens, counted, target = prompts()
    (whole,) = read_dictionary_activations(lm, [found], tokens, counted)
    (alone,) = read_dictionary_activations(lm, [found], tokens[1:], counted[1:])
    name = found.name
    all_goes, goes = (
        effect_estimates.make_zero_baseline(whole, errors=True),
        effect_estimates.make_zero_baseline(alone, errors=True),
    )
    (both,) = effect_estimates.estimate_by_attribution_patching(
        lm, [whole], {name: all_goes}, tokens, target
    )
    (one,) = effect_estimates.estimate_by_attribution_patching(
        lm, [alone], {name: goes}, tokens[1:], target.only(1)
    )
    assert torch.allclose(both.node[whole.active.row == 1], one.node, atol=1e-5)
    assert torch.allclose(both.error[1], one.error[0], atol=1e-5)


def test_spread_is_one_for_all_alike_and_small_for_one() -> None:
    vocabulary = 1000
    one = torch.zeros(1, vocabulary)
    one[0, 3] = 5.0
    half = torch.ones(1, vocabulary)
    half[0, ::2] = -1
    assert logit_spread(half) == pytest.approx(1.0)
    assert float(logit_spread(one)) < 5 / vocabulary
    assert torch.isnan(logit_spread(torch.ones(1, vocabulary)))


def test_a_target_is_a_difference_of_logits(lm) -> None:
    tokens, _, target = prompts()
    logits = lm.logits(tokens)
    assert target(logits)[0] == pytest.approx(float(logits[0, 8, 5] - logits[0, 8, 8]), abs=1e-5)
    alone = TargetMetric([[5]], None, torch.tensor([4]))
    wanted = logits[:1].float().log_softmax(-1)[0, 4, 5]
    assert alone(logits[:1])[0] == pytest.approx(float(wanted), abs=1e-5)


def test_an_answer_is_read_behind_its_prompt(lm) -> None:
    dog = lm.tokenizer.convert_tokens_to_ids("dog")
    assert tokenize_continuation(lm.tokenizer, "the big", " dog") == [dog]
    assert tokenize_single_token_answer(lm.tokenizer, "the big", " dog") == dog
    with pytest.raises(InputError, match="2 tokens"):
        tokenize_single_token_answer(lm.tokenizer, "the big", " dog ran")
    with pytest.raises(InputError, match="does not begin with a new token"):
        tokenize_single_token_answer(lm.tokenizer, "the big", "dog")
    with pytest.raises(InputError, match="empty"):
        tokenize_single_token_answer(lm.tokenizer, "the big", "")
