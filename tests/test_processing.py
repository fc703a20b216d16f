"""Activations as a rewritten model would have them, without rewriting the model."""

import pytest
import torch

from backend.model.language_model import LanguageModel
from backend.model.weight_processing import NO_PROCESSING, WeightProcessing, require_same_processing
from feature_store.errors import InputError
from tests.models import hf_model, shared, token_batch, tokenizer

HOOKS = [
    "blocks.0.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.1.hook_attn_out",
    "blocks.1.hook_mlp_out",
    "blocks.1.attn.hook_z",
    "blocks.1.attn.hook_v",
    "blocks.1.ln2.hook_normalized",
    "blocks.1.mlp.hook_post",
]
GPT2_RES_JB = {"center_writing_weights": True}
ALL = dict.fromkeys(
    ["center_writing_weights", "fold_ln", "center_unembed", "fold_value_biases"], True
)


def rewritten(architecture: str, kwargs: dict[str, bool], tokens: torch.Tensor):
    """What TransformerLens gives after it has rewritten the weights of the same model."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        "tiny", hf_model=hf_model(architecture), tokenizer=tokenizer(), device="cpu"
    )
    bridge.enable_compatibility_mode(
        disable_warnings=True, **{**dict.fromkeys(ALL, False), **kwargs}
    )
    with torch.no_grad():
        return bridge.run_with_cache(tokens)[1]


@pytest.mark.parametrize("architecture", ["gpt2", "neox"])
@pytest.mark.parametrize(
    "kwargs",
    [{}, GPT2_RES_JB, {"fold_value_biases": True}, {"fold_ln": True}, ALL],
    ids=lambda kwargs: "+".join(kwargs) or "raw",
)
def test_equal_to_the_rewritten_model(architecture: str, kwargs: dict[str, bool]) -> None:
    lm, tokens = shared(architecture), token_batch(2, 9)
    want = rewritten(architecture, kwargs, tokens)
    got = lm.activations(tokens, HOOKS, WeightProcessing.parse(kwargs))
    for hook in HOOKS:
        torch.testing.assert_close(
            got[hook], want[lm.canonical(hook)].flatten(2), rtol=1e-4, atol=1e-4, msg=hook
        )


def test_value_biases_of_grouped_queries_are_taken_per_head() -> None:
    kwargs = {"fold_value_biases": True}
    lm, tokens, hook = shared("qwen2"), token_batch(2, 9), "blocks.1.attn.hook_z"
    got = lm.activations(tokens, [hook], WeightProcessing.parse(kwargs))[hook]
    want = rewritten("qwen2", kwargs, tokens)["blocks.1.attn.o.hook_in"].flatten(2)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_harmless_keys_and_refusals_ask_for_nothing() -> None:
    kwargs = {"n_ctx": 128, "device": "cuda", "fold_ln": False, "refactor_x": None, "dtype": "x"}
    assert (
        WeightProcessing.parse(kwargs)
        == WeightProcessing.parse({})
        == WeightProcessing.parse(None)
        == NO_PROCESSING
    )


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        (
            {"checkpoint_value": 1000},
            "The dictionary expects its model loaded with checkpoint_value=1000, which is not "
            "supported here. There are: center_unembed, center_writing_weights, fold_ln, "
            "fold_value_biases. If it does not change what the model computes, add "
            "?ignore=checkpoint_value to the dictionary's specification.",
        ),
        ({"fold_ln": "yes"}, "fold_ln must be true or false, not 'yes'."),
    ],
)
def test_unknown_keys_are_refused(kwargs: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as bad:
        WeightProcessing.parse(kwargs)
    assert str(bad.value) == says


def test_centring_a_model_with_rms_norm_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="its norms are RMSNorm"):
        tiny_lm.activations(token_batch(1, 4), HOOKS[:1], WeightProcessing.parse(GPT2_RES_JB))


def test_hooks_behind_a_folded_gain_are_refused() -> None:
    with pytest.raises(InputError, match=r"blocks.1.ln2.hook_out comes after a norm's gain"):
        shared("gpt2").activations(
            token_batch(1, 4), ["blocks.1.ln2.hook_out"], WeightProcessing(fold_ln=True)
        )


def test_dictionaries_must_agree() -> None:
    centred = WeightProcessing.parse(GPT2_RES_JB)
    assert require_same_processing({"a": centred, "b": centred}) == centred
    assert require_same_processing({}) == NO_PROCESSING
    with pytest.raises(InputError) as bad:
        require_same_processing({"a": centred, "b": NO_PROCESSING})
    assert str(bad.value) == (
        "a expects a model with center_writing_weights, b one with unprocessed weights. "
        "Harvest them separately."
    )
