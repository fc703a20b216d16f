"""Formats other than sae-lens', against their formulae written out, and the hub's cache."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backend.dictionaries import load, parse_spec
from feature_store.errors import InputError
from tests import dictionaries as tiny

D, N = tiny.D_IN, tiny.D_SAE


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * 0.6


def learning(folder: Path, kind: str, state: dict, **trainer) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "ae.pt")
    trainer = {"dict_class": kind, "layer": 2, "lm_name": "tiny", **trainer}
    trainer.setdefault("submodule_name", "resid_post_layer_2")
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return folder


def layers() -> dict[str, torch.Tensor]:
    return {
        "encoder.weight": random(N, D),
        "encoder.bias": random(N),
        "decoder.weight": random(D, N),
    }


def check(folder: Path, encode, decode) -> None:
    """encode and decode as the library's classes write them."""
    ours = load(str(folder), placement=tiny.CPU)
    x = tiny.tokens()
    f = encode(x)
    assert (f != 0).any()
    torch.testing.assert_close(ours.encode(x), f, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.reconstruct(x), decode(f), atol=1e-4, rtol=1e-4)
    triples = ours.encode_sparse(x)
    assert len(triples.value) == (f != 0).sum()
    torch.testing.assert_close(f @ ours.W_dec, decode(f) - decode(f * 0), atol=1e-4, rtol=1e-4)
    assert ours.hook_name == ours.hook_out == "blocks.2.hook_resid_post"


def test_learning_autoencoder(tmp_path: Path) -> None:
    s = layers() | {"bias": random(D)}
    check(
        learning(tmp_path, "AutoEncoder", s),
        lambda x: ((x - s["bias"]) @ s["encoder.weight"].T + s["encoder.bias"]).relu(),
        lambda f: f @ s["decoder.weight"].T + s["bias"],
    )


def test_learning_autoencoder_new(tmp_path: Path) -> None:
    s = layers() | {"decoder.bias": random(D)}
    check(
        learning(tmp_path, "AutoEncoderNew", s),
        lambda x: (x @ s["encoder.weight"].T + s["encoder.bias"]).relu(),
        lambda f: f @ s["decoder.weight"].T + s["decoder.bias"],
    )


def test_learning_topk(tmp_path: Path) -> None:
    s = layers() | {"b_dec": random(D), "k": torch.tensor(4), "threshold": torch.tensor(-1.0)}

    def encode(x):
        pre = ((x - s["b_dec"]) @ s["encoder.weight"].T + s["encoder.bias"]).relu()
        values, at = pre.topk(4)
        return torch.zeros_like(pre).scatter(-1, at, values)

    folder = learning(tmp_path, "AutoEncoderTopK", s)
    check(folder, encode, lambda f: f @ s["decoder.weight"].T + s["b_dec"])


def test_learning_batch_topk_uses_its_threshold(tmp_path: Path) -> None:
    s = layers() | {"b_dec": random(D), "k": torch.tensor(4), "threshold": torch.tensor(0.9)}

    def encode(x):
        pre = ((x - s["b_dec"]) @ s["encoder.weight"].T + s["encoder.bias"]).relu()
        return pre * (pre > 0.9)

    folder = learning(tmp_path, "BatchTopKSAE", s)
    check(folder, encode, lambda f: f @ s["decoder.weight"].T + s["b_dec"])


def test_learning_matryoshka(tmp_path: Path) -> None:
    s = {"W_enc": random(D, N), "b_enc": random(N), "W_dec": random(N, D), "b_dec": random(D)}
    s |= {
        "k": torch.tensor(4),
        "threshold": torch.tensor(0.9),
        "group_sizes": torch.tensor([10, 30]),
    }

    def encode(x):
        pre = ((x - s["b_dec"]) @ s["W_enc"] + s["b_enc"]).relu()
        return pre * (pre > 0.9)

    folder = learning(tmp_path, "MatryoshkaBatchTopKSAE", s)
    check(folder, encode, lambda f: f @ s["W_dec"] + s["b_dec"])


def test_learning_gated(tmp_path: Path) -> None:
    s = {"encoder.weight": random(N, D), "decoder.weight": random(D, N), "decoder_bias": random(D)}
    s |= {name: random(N, seed=i) for i, name in enumerate(["r_mag", "gate_bias", "mag_bias"])}
    norms = s["decoder.weight"].norm(dim=0)

    def encode(x):
        p = (x - s["decoder_bias"]) @ s["encoder.weight"].T
        magnitude = (s["r_mag"].exp() * p + s["mag_bias"]).relu()
        return (p + s["gate_bias"] > 0) * magnitude * norms

    folder = learning(tmp_path, "GatedAutoEncoder", s)
    check(folder, encode, lambda f: f / norms @ s["decoder.weight"].T + s["decoder_bias"])


def test_learning_jumprelu(tmp_path: Path) -> None:
    s = {"W_enc": random(D, N), "b_enc": random(N), "W_dec": random(N, D), "b_dec": random(D)}
    s["threshold"] = random(N).abs() - 0.1
    norms = s["W_dec"].norm(dim=1)

    def encode(x):
        pre = x @ s["W_enc"] + s["b_enc"]
        return (pre * (pre > s["threshold"])).relu() * norms

    folder = learning(tmp_path, "JumpReluAutoEncoder", s)
    check(folder, encode, lambda f: f / norms @ s["W_dec"] + s["b_dec"])


def test_learning_says_what_is_missing(tmp_path: Path) -> None:
    s = layers() | {"b_dec": random(D), "k": torch.tensor(4), "threshold": torch.tensor(-1.0)}
    folder = learning(tmp_path, "BatchTopKSAE", s, submodule_name=None, layer=None)
    with pytest.raises(InputError, match=r"which hook point it reads .* write .*@HOOK\.$"):
        load(str(folder), placement=tiny.CPU)
    with pytest.raises(InputError, match="threshold of -1: training ended before"):
        load(f"{folder}@blocks.0.hook_resid_post", placement=tiny.CPU)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="its tensors fit more than one class"):
        load(f"{folder}@blocks.0.hook_resid_post", placement=tiny.CPU)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    folder = learning(tmp_path, "AutoEncoder", layers() | {"bias": random(D)})
    torch.save({"bias": Path("object")}, folder / "ae.pt")
    with pytest.raises(InputError, match="files that hold Python objects are refused"):
        load(str(folder), placement=tiny.CPU)


def sparsify(folder: Path, **cfg) -> tuple[Path, dict[str, torch.Tensor]]:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"encoder.weight": random(N, D), "encoder.bias": random(N), "W_dec": random(N, D)}
    state |= {
        "b_dec": random(D),
        **({"W_skip": random(D, D)} if cfg.get("skip_connection") else {}),
    }
    save_file(state, folder / "sae.safetensors")
    cfg = {"d_in": D, "k": 5, "num_latents": 0, "expansion_factor": 32, **cfg}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return folder, state


@pytest.mark.parametrize("kind", ["topk", "groupmax", "signed", "transcode", "skip"])
def test_sparsify(tmp_path: Path, kind: str) -> None:
    cfg = {
        "topk": {},
        "groupmax": {"activation": "groupmax"},
        "signed": {"signed": True},
        "transcode": {"transcode": True},
        "skip": {"transcode": True, "skip_connection": True},
    }[kind]
    folder, s = sparsify(tmp_path / "layers.3.mlp", **cfg)
    ours = load(str(folder), placement=tiny.CPU)
    x = tiny.tokens()
    pre = (x if "transcode" in cfg else x - s["b_dec"]) @ s["encoder.weight"].T + s["encoder.bias"]
    if kind == "groupmax":
        best, at = pre.relu().unflatten(-1, (5, -1)).max(-1)
        at = at + torch.arange(0, N, N // 5)
    else:
        at = (pre.abs() if kind == "signed" else pre.relu()).topk(5).indices
        best = pre.gather(-1, at) if kind == "signed" else pre.gather(-1, at).relu()
    f = torch.zeros_like(pre).scatter(-1, at, best)
    want = f @ s["W_dec"] + s["b_dec"] + (x @ s["W_skip"].T if kind == "skip" else 0)
    torch.testing.assert_close(ours.encode(x), f, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.reconstruct(x), want, atol=1e-4, rtol=1e-4)
    reads = "hook_in" if "transcode" in cfg else "hook_out"
    assert (ours.hook_name, ours.hook_out) == (f"blocks.3.mlp.{reads}", "blocks.3.mlp.hook_out")


def test_sparsify_reads_what_the_module_itself_sees(tiny_lm) -> None:
    from tests.models import token_batch

    mlp, seen = tiny_lm.bare.model.layers[1].mlp, {}
    handle = mlp.register_forward_hook(lambda _, args, out: seen.update(reads=args[0], writes=out))
    try:
        tokens = token_batch(2, 6)
        hooks = ["blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"]
        got = tiny_lm.activations(tokens, hooks)
    finally:
        handle.remove()
    for hook, want in zip(hooks, seen.values(), strict=True):
        torch.testing.assert_close(got[hook], want)


def test_sparsify_needs_a_hook_point_or_a_telling_name(tmp_path: Path) -> None:
    folder, _ = sparsify(tmp_path / "best")
    with pytest.raises(InputError, match=r"best does not name a hook point .* write .*@HOOK\.$"):
        load(str(folder), placement=tiny.CPU)
    given = load(f"{folder}@blocks.0.attn.hook_z", placement=tiny.CPU)
    assert given.hook_name == "blocks.0.attn.hook_z"
    assert given.source == "best@blocks.0.attn.hook_z"


def test_a_matrix_reads_and_writes_its_rows(tmp_path: Path) -> None:
    directions, bias = random(3, D), random(3)
    file = tmp_path / "probes.safetensors"
    save_file({"directions": directions, "bias": bias}, file)
    ours = load(f"{file}@blocks.0.hook_resid_post", name="probes", placement=tiny.CPU)
    x = tiny.tokens()
    code = x @ directions.T + bias
    torch.testing.assert_close(ours.encode(x), code, atol=1e-5, rtol=1e-5)
    assert ours.signed
    assert (code < 0).any()
    assert len(ours.encode_sparse(x).value) == code.numel()
    torch.testing.assert_close(ours.reconstruct(x), code @ directions, atol=1e-5, rtol=1e-5)


def test_one_vector_is_a_dictionary_of_one(tmp_path: Path) -> None:
    save_file({"steering": random(D)}, tmp_path / "v.safetensors")
    ours = load(f"{tmp_path}/v.safetensors@blocks.0.hook_resid_post", placement=tiny.CPU)
    assert (ours.d_in, ours.d_sae, ours.d_out, ours.name) == (D, 1, D, "v")


def test_a_file_of_many_tensors_is_asked_which(tmp_path: Path) -> None:
    save_file({"a": random(D), "b": random(D)}, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match="holds a, b: name one `directions`"):
        load(f"{tmp_path}/v.safetensors@blocks.0.hook_resid_post", placement=tiny.CPU)


def test_neurons_are_their_own_code() -> None:
    hook = "blocks.0.mlp.hook_post"
    ours = load(f"identity:{hook}", placement=tiny.CPU, width=lambda name: len(name))
    x = tiny.tokens(d=len(hook))
    assert torch.equal(ours.encode(x), x)
    assert torch.equal(ours.reconstruct(x), x)
    assert torch.equal(ours.encode_sparse(x).value, x.flatten())
    assert ours.signed
    assert ours.name == ours.source == f"identity:{hook}"
    with pytest.raises(InputError, match="load it together with a model"):
        load(f"identity:{hook}", placement=tiny.CPU)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cached(hub: Path, repository: str, folder: str) -> Path:
    root = hub / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("r1")
    return tiny.saved(root / "snapshots" / "r1" / folder, "standard")


def test_a_hub_repository_is_loaded_from_its_cache(hub: Path) -> None:
    folder = cached(hub, "someone/saes", "deep/layer1")
    ours = load("someone/saes/deep/layer1", placement=tiny.CPU)
    assert ours.name == ours.source == "someone/saes/deep/layer1"
    assert ours.weights_hash == load(str(folder), placement=tiny.CPU).weights_hash


def test_a_release_brings_its_figures_and_its_processing(hub: Path) -> None:
    """gpt2-small-res-jb wants centred writing weights; its files predate sae-lens 6."""
    folder = cached(hub, "jbloom/GPT2-Small-SAEs-Reformatted", "blocks.8.hook_resid_pre")
    flat = {"d_in": D, "d_sae": N, "dtype": "float32", "hook_point": "blocks.8.hook_resid_pre"}
    (folder / "cfg.json").write_text(json.dumps(flat | {"model_name": "gpt2-small"}))
    ours = load("gpt2-small-res-jb/blocks.8.hook_resid_pre", placement=tiny.CPU)
    assert ours.processing.center_writing_weights
    assert ours.metadata["l0"] == 60.0
    assert ours.hook_name == "blocks.8.hook_resid_pre"


def test_a_dictionary_that_cannot_be_fetched_says_so(hub: Path) -> None:
    with pytest.raises(InputError, match="cannot be fetched from the Hugging Face hub"):
        load("someone/saes/layer1", placement=tiny.CPU)


def test_names_and_specifications_come_apart(tmp_path: Path) -> None:
    assert parse_spec("a/b=folder") == ("a/b", "folder")
    assert parse_spec("gpt2-small-res-jb/x") == (None, "gpt2-small-res-jb/x")
    (odd := tmp_path / "k=32").mkdir()
    assert parse_spec(str(odd)) == (None, str(odd))
    with pytest.raises(InputError, match="is not NAME=SPECIFICATION"):
        parse_spec("=folder")


@pytest.mark.process
def test_looking_needs_neither_torch_nor_sae_lens(tmp_path: Path) -> None:
    folder = tiny.saved(tmp_path, "standard")
    code = (
        "import sys; from backend.dictionaries import check_source; "
        f"check_source({str(folder)!r}); "
        "check_source('gpt2-small-res-jb/blocks.8.hook_resid_pre'); "
        "sys.exit('torch' in sys.modules or 'sae_lens' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
