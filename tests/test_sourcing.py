"""Direct feature attribution adds up, and heads and neurons are named as the weights have them."""

from pathlib import Path

import pytest
import torch

from backend.dictionaries.base import Dictionary
from backend.features.direct_feature_attribution import (
    attribute_to_source_tokens,
    head_norm_shares,
    reads_attention_z,
)
from backend.features.weights_and_neurons import read_feature_weights
from feature_store.errors import InputError
from tests.dictionaries import loaded
from tests.models import shared, token_batch

Z = "blocks.1.attn.hook_z"
PEAK = 9


def on_z(folder: Path, kind: str = "topk", **fields: object) -> Dictionary:
    given = {"d_in": 16, "reshape_activations": "hook_z", "metadata": {"hook_name": Z}} | fields
    return loaded(folder, kind, **given)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox", "qwen2"])
@pytest.mark.parametrize("kind", ["topk", "jumprelu", "gated"])
def test_sources_and_bias_add_up_to_the_pre_activation(
    tmp_path: Path, architecture: str, kind: str
) -> None:
    """Grouped-query attention among them: llama and qwen2 have two heads for each key."""
    lm, one = shared(architecture), on_z(tmp_path / "d", kind)
    ids = token_batch(1, 14, seed=2)[0]
    z = lm.activations(ids[None], [Z])[Z][0, PEAK]
    coder = one.coder
    want = coder.centre(z) @ coder.W_enc + coder.b_enc
    for feature in (0, 7, 39):
        got = attribute_to_source_tokens(lm, one, feature, ids, PEAK)
        assert got.parts.shape == (lm.n_heads, PEAK + 1)
        assert got.total == pytest.approx(float(want[feature]), abs=1e-4)
    active = int(one.encode(z).abs().argmax())
    if kind == "topk":
        assert attribute_to_source_tokens(lm, one, active, ids, PEAK).total == pytest.approx(
            float(one.encode(z)[active]), abs=1e-4
        )


def test_folded_value_biases_become_part_of_the_bias(tmp_path: Path) -> None:
    lm = shared("gpt2")
    kwargs = {"model_from_pretrained_kwargs": {"fold_value_biases": True}, "hook_name": Z}
    one = on_z(tmp_path / "d", metadata=kwargs)
    ids = token_batch(1, 14)[0]
    z = lm.activations(ids[None], [Z], one.processing)[Z][0, PEAK]
    want = one.coder.centre(z) @ one.coder.W_enc[:, 3] + one.coder.b_enc[3]
    assert attribute_to_source_tokens(lm, one, 3, ids, PEAK).total == pytest.approx(
        float(want), abs=1e-4
    )


def test_a_head_that_looks_away_has_no_part(tmp_path: Path, tiny_lm) -> None:
    one = on_z(tmp_path / "d")
    one.coder.W_enc[4:8] = 0  # the second head's block
    got = attribute_to_source_tokens(tiny_lm, one, 5, token_batch(1, 12)[0], PEAK)
    assert not got.parts[1].any() and got.parts[[0, 2, 3]].any()
    assert got.pattern.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_sources_exist_only_at_hook_z_and_for_linear_encoders(tmp_path: Path, tiny_lm) -> None:
    elsewhere = loaded(tmp_path / "r", "topk", d_in=16)
    assert not reads_attention_z(tiny_lm, elsewhere)
    with pytest.raises(InputError, match="only for dictionaries on an attention layer's hook_z"):
        attribute_to_source_tokens(tiny_lm, elsewhere, 0, token_batch(1, 12)[0], 3)
    other = on_z(tmp_path / "m", "matching_pursuit")
    with pytest.raises(InputError, match="not one linear map"):
        attribute_to_source_tokens(tiny_lm, other, 0, token_batch(1, 12)[0], 3)


def test_shares_are_of_the_blocks_norms(tiny_lm) -> None:
    w = torch.zeros(16)
    w[0], w[4], w[5] = 2.0, 3.0, 4.0
    assert head_norm_shares(tiny_lm, w).tolist() == pytest.approx([2 / 7, 5 / 7, 0, 0])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_neurons_own_direction_finds_that_neuron(tmp_path: Path, architecture: str) -> None:
    lm = shared(architecture)
    hooks = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    one = loaded(tmp_path / "d", "transcoder", d_in=16, d_out=16, metadata=hooks)
    out = lm.component("blocks.1.mlp.out").original_component
    d_mlp = max(out.weight.shape)
    with torch.no_grad():
        one.coder.W_dec[3] = (out(torch.eye(d_mlp)) - out(torch.zeros(1, d_mlp)))[5]
    got = read_feature_weights(lm, one, 3)
    assert got.writers is not None and got.writers.layer == 1
    assert got.writers.nearest.index[0] == 5
    assert got.writers.nearest.value[0] == pytest.approx(1.0, abs=1e-5)
    assert got.decoder.index[0] == int(one.coder.W_dec[3].abs().argmax())
    assert got.decoder_heads is None


def test_readers_are_those_whose_input_the_encoder_reads(tmp_path: Path, tiny_lm) -> None:
    """An encoder column that is a gate's weights, norm gain included."""
    hook = "blocks.1.ln2.hook_normalized"
    hooks = {"hook_name": hook, "hook_name_out": "blocks.1.hook_mlp_out"}
    one = loaded(tmp_path / "d", "transcoder", d_in=16, d_out=16, metadata=hooks)
    gate = tiny_lm.component("blocks.1.mlp.gate").original_component
    scale = tiny_lm.component("blocks.1.ln2").original_component.weight
    one.coder.W_enc[:, 2] = gate.weight[9] * scale
    got = read_feature_weights(tiny_lm, one, 2).readers
    assert got is not None and got.nearest.index[0] == 9
    assert got.nearest.value[0] == pytest.approx(1.0, abs=1e-5)


def test_the_stream_before_a_block_was_written_by_the_layer_below(tmp_path: Path, tiny_lm) -> None:
    for layer, below in [(1, 0), (0, None)]:
        name = f"blocks.{layer}.hook_resid_pre"
        one = loaded(tmp_path / str(layer), "topk", d_in=16, metadata={"hook_name": name})
        found = read_feature_weights(tiny_lm, one, 0).writers
        assert (found.layer if found else None) == below
