"""The logit lens by hand, and on real forwards whose final norm is held still."""

import pytest
import torch

from backend.features.logit_lens import compute_logit_lens
from backend.model.language_model import LanguageModel
from tests.models import VOCAB, shared, tiny, token_batch

STREAM = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.2.hook_resid_post"]


def by_hand(lm: LanguageModel, d: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    weight = lm.bare.get_output_embeddings().weight
    centred = weight - weight.mean(0)
    if lm.is_layer_norm:
        d = d - d.mean(-1, keepdim=True)
    return torch.stack([centred @ (gain * row) for row in d])


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "neox", "qwen2"])
def test_equal_to_a_calculation_by_hand(architecture: str) -> None:
    lm = shared(architecture)
    norm = dict(lm.bare.named_modules())
    norm = (
        norm.get("model.norm") or norm.get("transformer.ln_f") or norm["gpt_neox.final_layer_norm"]
    )
    gain = 1 + norm.weight if architecture == "gemma2" else norm.weight
    d = torch.randn(5, lm.d_model)
    got = compute_logit_lens(lm, d, "blocks.1.hook_resid_post")
    assert got is not None and got.shape == (5, len(VOCAB))
    torch.testing.assert_close(got, by_hand(lm, d, gain), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox", "qwen2"])
@pytest.mark.parametrize(
    "site", ["hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z"]
)
def test_equal_to_the_last_block_with_the_final_norm_held_still(
    architecture: str, site: str
) -> None:
    """Adding d in the last block moves the logits by lens(d) over the scale, up to a constant."""
    lm, tokens = shared(architecture), token_batch(1, 6)
    hook = f"blocks.2.{site}"
    d = torch.randn(1, lm.width(hook))
    scale = lm.activations(tokens, ["ln_final.hook_scale"])["ln_final.hook_scale"]

    def moved(shift: torch.Tensor) -> torch.Tensor:
        hooks = [
            ("ln_final.hook_scale", lambda h, hook: scale.clone()),
            (hook, lambda h, hook: h + shift.view(h.shape[2:])),
            # What attention changes in its own block's MLP is not on the direct path.
            ("blocks.2.hook_mlp_out", lambda h, hook: h if site == "hook_mlp_out" else h * 0),
        ]
        with lm.hold_bridge(hooks) as bridge, torch.no_grad():
            return bridge(tokens)

    got = compute_logit_lens(lm, d, hook)
    assert got is not None
    change = moved(d[0]) - moved(d[0] * 0)
    change = (change - change.mean(-1, keepdim=True)) * scale
    torch.testing.assert_close(change[0, -1], got[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "hook", "defined"),
    [
        *[("gemma2", hook, True) for hook in STREAM],
        ("gemma2", "blocks.1.hook_attn_out", True),  # TransformerLens reads it after the post-norm
        ("gemma2", "blocks.1.attn.hook_out", False),
        ("gemma2", "blocks.1.mlp.hook_out", False),
        ("gemma2", "blocks.1.attn.hook_z", False),
        ("llama", "blocks.1.mlp.hook_post", False),
        ("llama", "blocks.1.ln2.hook_normalized", False),
        ("llama", "blocks.1.attn.hook_q", False),
        ("neox", "blocks.1.hook_mlp_out", True),
    ],
)
def test_defined_only_where_nothing_stands_between(
    architecture: str, hook: str, defined: bool
) -> None:
    lm = shared(architecture)
    got = compute_logit_lens(lm, torch.randn(2, lm.width(hook)), hook)
    assert (got is not None) is defined


def test_a_model_that_scales_its_branches_has_no_lens_there() -> None:
    lm, hook = tiny("llama"), "blocks.1.hook_mlp_out"
    assert compute_logit_lens(lm, torch.randn(1, lm.d_model), hook) is not None
    block = lm.bare.get_submodule("model.layers.1")
    block.register_forward_hook(lambda module, args, out: out * 1.5)
    assert compute_logit_lens(lm, torch.randn(1, lm.d_model), hook) is None
