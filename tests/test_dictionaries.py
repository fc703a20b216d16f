"""Every architecture that sae-lens loads: our maths against its own encode and forward."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from backend.dictionaries import load, saelens_coders
from tests import dictionaries as tiny

EVERY = [*tiny.SAES, *tiny.TRANSCODERS]
NORMS = ["none", *tiny.PER_TOKEN]


def dense(triples, n: int, d_sae: int) -> torch.Tensor:
    out = torch.zeros(n, d_sae, dtype=triples.value.dtype)
    out[triples.token, triples.feature] = triples.value
    return out


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", EVERY)
def test_codes_and_reconstructions_are_sae_lens_own(tmp_path: Path, architecture, norm) -> None:
    theirs = tiny.sae_of(architecture, normalize_activations=norm)
    ours = tiny.loaded(tmp_path, architecture, normalize_activations=norm)
    x = tiny.tokens()
    close(ours.encode(x), theirs.encode(x))
    close(ours.reconstruct(x), theirs(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", [*EVERY, "temporal"])
def test_sparse_is_dense(tmp_path: Path, architecture, norm) -> None:
    ours = tiny.loaded(tmp_path, architecture, normalize_activations=norm)
    x = tiny.tokens(d=ours.d_in)
    triples = ours.encode_sparse(x)
    code = ours.encode(x)
    close(dense(triples, len(x), ours.d_sae), code)
    assert len(triples.value) == (code != 0).sum() > 0
    key = triples.token.long() * ours.d_sae + triples.feature
    assert (key.diff() > 0).all()


@pytest.mark.parametrize("entries", [1, 200, 3000])
@pytest.mark.parametrize("architecture", ["matching_pursuit", "temporal"])
def test_dense_tiles_do_not_matter(tmp_path: Path, monkeypatch, architecture, entries) -> None:
    ours = tiny.loaded(tmp_path, architecture)
    x = tiny.tokens(60, d=ours.d_in).reshape(6, 10, -1)
    monkeypatch.setattr(saelens_coders, "DENSE", entries)
    close(dense(ours.encode_sparse(x), 60, ours.d_sae), ours.encode(x).flatten(0, 1))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_decoder_norms_are_counted_in_once(tmp_path: Path, architecture, rescale) -> None:
    fields = {"rescale_acts_by_decoder_norm": rescale}
    theirs, ours = (
        tiny.sae_of(architecture, **fields),
        tiny.loaded(tmp_path, architecture, **fields),
    )
    x = tiny.tokens()
    close(ours.encode(x), theirs.encode(x))
    close(ours.reconstruct(x), theirs(x))


@pytest.mark.parametrize("apply", [False, True])
@pytest.mark.parametrize("architecture", tiny.SAES)
def test_the_decoder_bias_is_taken_off_where_the_config_says(tmp_path, architecture, apply) -> None:
    theirs = tiny.sae_of(architecture, apply_b_dec_to_input=apply)
    ours = tiny.loaded(tmp_path, architecture, apply_b_dec_to_input=apply)
    close(ours.reconstruct(tiny.tokens()), theirs(tiny.tokens()))


@pytest.mark.parametrize("architecture", tiny.SAES)
def test_heads_come_flattened_and_nothing_is_remembered(tmp_path: Path, architecture) -> None:
    fields = {"reshape_activations": "hook_z", "metadata": {"hook_name": "blocks.0.attn.hook_z"}}
    theirs, ours = (
        tiny.sae_of(architecture, **fields),
        tiny.loaded(tmp_path, architecture, **fields),
    )
    x = tiny.tokens()
    want = theirs(x.unflatten(-1, (3, 4))).flatten(-2)
    close(ours.reconstruct(x), want)
    close(ours.reconstruct(x[None]), want[None])


@pytest.mark.parametrize("kind", ["none", "layer_norm", "constant_scalar_rescale"])
@pytest.mark.parametrize("tied", [False, True])
def test_temporal_sees_whole_sequences(tmp_path: Path, kind, tied) -> None:
    fields = {
        "normalize_activations": kind,
        "tied_weights": tied,
        "activation_normalization_factor": 3.0,
    }
    theirs, ours = tiny.sae_of("temporal", **fields), tiny.loaded(tmp_path, "temporal", **fields)
    x = tiny.tokens(30, d=16).reshape(3, 10, 16)
    close(ours.encode(x), theirs.encode(x))
    close(ours.reconstruct(x), theirs(x))
    close(dense(ours.encode_sparse(x), 30, 64), theirs.encode(x).flatten(0, 1))
    assert ours.needs_sequence


@pytest.mark.parametrize("architecture", ["standard", "topk", "gated", "jumprelu", "abstopk"])
def test_an_input_scale_is_folded_as_sae_lens_folds_it(tmp_path: Path, architecture) -> None:
    fields = {"normalize_activations": "expected_average_only_in"}
    if architecture.endswith("topk"):
        fields["rescale_acts_by_decoder_norm"] = True
    theirs = tiny.sae_of(architecture, **fields)
    theirs.fold_activation_norm_scaling_factor(1.7)
    folder = tiny.saved(tmp_path, architecture, **fields)
    tiny.save_scaler(folder, 1.7)
    ours = load(str(folder), placement=tiny.CPU)
    x = tiny.tokens()
    close(ours.encode(x), theirs.encode(x))
    close(ours.reconstruct(x), theirs(x))


@pytest.mark.parametrize("architecture", ["standard", "topk", "gated", "jumprelu"])
def test_whitening_reads_and_writes_the_hooks_own_units(tmp_path: Path, architecture) -> None:
    folder = tiny.saved(tmp_path, architecture, normalize_activations="covariance_whitening")
    w = {name: t.float() for name, t in tiny.save_whitening(folder).items()}
    ours = load(str(folder), placement=tiny.CPU)
    theirs = tiny.sae_of(architecture)
    x = tiny.tokens()
    z = (x - w["mean"]) @ w["matrix"]
    torch.testing.assert_close(ours.encode(x), theirs.encode(z), atol=1e-3, rtol=1e-3)
    want = theirs(z) @ w["inverse_matrix"] + w["mean"]
    torch.testing.assert_close(ours.reconstruct(x), want, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", [*EVERY, "temporal"])
def test_one_unit_of_a_feature_adds_its_direction(tmp_path: Path, architecture) -> None:
    fields = {"rescale_acts_by_decoder_norm": True} if "topk" in architecture else {}
    if architecture == "temporal":
        fields = {
            "normalize_activations": "constant_scalar_rescale",
            "activation_normalization_factor": 3.0,
        }
    ours = tiny.loaded(tmp_path, architecture, **fields)
    x = tiny.tokens(d=ours.d_in)
    code = ours.encode(x)
    effect = ours.decode(code, x) - ours.decode(torch.zeros_like(code), x)
    close(effect, code @ ours.W_dec)
    assert not ours.per_token_norm


@pytest.mark.parametrize("norm", tiny.PER_TOKEN)
@pytest.mark.parametrize("architecture", tiny.SAES)
def test_an_edit_is_denormalised_token_by_token(tmp_path: Path, architecture, norm) -> None:
    """decode(f2, x) - decode(f1, x) is the edit in normalised units times the token's scale."""
    ours = tiny.loaded(tmp_path, architecture, normalize_activations=norm)
    x = tiny.tokens()
    code = ours.encode(x)
    edited = code.clone()
    edited[:, 3] += 2
    delta = ours.decode(edited, x) - ours.decode(code, x)
    scale = x.std(-1) if norm == "layer_norm" else x.norm(dim=-1) / tiny.D_IN**0.5
    close(delta, scale[:, None] * 2 * ours.W_dec[3])


@pytest.mark.parametrize("norm", tiny.PER_TOKEN)
def test_threads_do_not_mix_their_normalisation(tmp_path: Path, norm) -> None:
    ours = tiny.loaded(tmp_path, "matching_pursuit", normalize_activations=norm)
    inputs = [tiny.tokens(seed=seed) * 10 ** (seed % 3) for seed in range(40)]
    alone = [ours.reconstruct(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ours.reconstruct, inputs * 3))
    for got, want in zip(together, alone * 3, strict=True):
        assert torch.equal(got, want)


def test_only_magnitude_topk_is_signed(tmp_path: Path) -> None:
    for architecture in EVERY:
        ours = tiny.loaded(tmp_path / architecture, architecture)
        negative = bool((ours.encode(tiny.tokens()) < 0).any())
        assert ours.signed == negative == (architecture == "abstopk")


def test_transcoders_write_elsewhere(tmp_path: Path) -> None:
    for architecture in tiny.TRANSCODERS:
        ours = tiny.loaded(tmp_path / architecture, architecture)
        assert (ours.hook_name, ours.hook_out) == (tiny.HOOK, tiny.HOOK_OUT)
        assert (ours.d_in, ours.d_sae, ours.d_out) == (tiny.D_IN, tiny.D_SAE, tiny.D_OUT)


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    first, again, other = (
        tiny.loaded(tmp_path / str(i), "standard", seed=seed) for i, seed in enumerate([0, 0, 1])
    )
    assert first.weights_hash == again.weights_hash != other.weights_hash


def test_float64_is_computed_in_float64(tmp_path: Path) -> None:
    ours = load(str(tiny.saved(tmp_path, "jumprelu")), placement=tiny.EXACT)
    assert ours.encode(tiny.tokens()).dtype == torch.float64


def test_processing_is_what_the_metadata_asks(tmp_path: Path) -> None:
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    ours = tiny.loaded(tmp_path, "standard", metadata=kwargs)
    assert ours.processing.center_writing_weights
    assert ours.metadata["context_size"] == 16


@pytest.mark.parametrize("name", ["sae-stories3m-resid4-topk", "transcoder-stories3m-mlp2"])
def test_real_dictionaries_agree_with_sae_lens(real: Path, name: str) -> None:
    from sae_lens import SAE

    theirs = SAE.load_from_disk(real / name)
    ours = load(str(real / name), placement=tiny.CPU)
    x = tiny.tokens(300, d=ours.d_in)
    close(ours.encode(x), theirs.encode(x))
    close(dense(ours.encode_sparse(x), 300, ours.d_sae), theirs.encode(x))
    close(ours.reconstruct(x), theirs(x))
