"""Dictionaries as other tools left them, read by what they mean: formulas, names, notes, refusals.

The folders of failing cases (SAEFARI_TEST_CASES) fit stories260k; the classes behind them are made
here, so that they are tested without those folders, too.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.dictionaries import check_source, expand_folders, load, parse_spec
from backend.dictionaries.module_hook_points import find_module_points, translate_hook
from feature_store.errors import InputError
from tests import dictionaries as tiny

D, N = tiny.D_IN, tiny.D_SAE
WEIGHTS = "sae_weights.safetensors"


def change_config(folder: Path, **keys) -> Path:
    """Set keys of a cfg.json; None takes one away."""
    path = folder / "cfg.json"
    config = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def message(spec: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        load(str(spec), placement=tiny.CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Failing cases, by the numbers that a right reading gives.

READ = {
    "cfg_float_k": ("blocks.2.hook_resid_pre", 0.656, 16),
    "dl_topk_k_only_in_config": ("blocks.2.hook_resid_pre", 0.656, 16),
    "dl_layer_without_submodule": ("blocks.2.hook_resid_post", 1.0, 64),
    "kwargs_attn_implementation": ("blocks.2.hook_resid_pre", 1.0, 64),
    "saelens_hf_hook_name": ("blocks.1.hook_resid_post", 1.0, 64),
    "sparsify_hookpoints/model.layers.1": ("blocks.1.hook_resid_post", 0.656, 16),
    "sparsify_hookpoints/layers.1.attention": ("blocks.1.attn.hook_out", 0.70, 16),
}
REFUSED = {
    "nan_bias_saelens": "tensor b_enc is not finite at feature 5",
    "topk_without_k": "it has no k",
    "dl_batchtopk_no_threshold": "without its threshold can't be read outside training",
}


@pytest.fixture(scope="module")
def activations(real: Path):
    """hook -> [token 64] of stories260k on a few stories."""
    from backend.model.language_model import LanguageModel

    lm = LanguageModel.load(str(real / "stories260k"), tiny.CPU)
    text = (real / "text" / "tinystories_validation_part.jsonl").read_text("utf-8").splitlines()
    ids = [lm.tokenizer(json.loads(line)["text"])["input_ids"][:100] for line in text[:20]]
    tokens = torch.tensor([row for row in ids if len(row) == 100])
    hooks = sorted({hook for hook, _, _ in READ.values()})
    found = lm.activations(tokens, hooks)
    return {hook: x[:, 1:].flatten(0, 1).clone() for hook, x in found.items()}


@pytest.mark.parametrize("case", READ)
def test_a_case_is_read_to_the_number(cases: Path, activations, case: str) -> None:
    hook, variance_explained, l0 = READ[case]
    found = load(str(cases / case), placement=tiny.CPU)
    assert (found.hook_name, found.hook_out) == (hook, hook)
    x = activations[hook]
    code = found.encode(x)
    left = (x - found.decode(code, x)).square().sum() / (x - x.mean(0)).square().sum()
    assert float((code != 0).sum(1).float().mean()) == pytest.approx(l0, abs=0.05)
    assert 1 - float(left) == pytest.approx(variance_explained, abs=0.02)


@pytest.mark.parametrize("case", REFUSED)
def test_a_case_is_refused_in_one_sentence(cases: Path, case: str) -> None:
    assert REFUSED[case] in message(cases / case)


def test_notes_say_what_was_not_plain(cases: Path) -> None:
    said = {
        "kwargs_attn_implementation": 'attn_implementation = "eager"',
        "dl_layer_without_submodule": "layer 2 and no submodule",
        "saelens_finetuning_scaling_factor": "multiplied into the decoder",
        "saelens_checkpoint_batchtopk": "read as a JumpReLU SAE with the threshold 0.05",
    }
    for case, note in said.items():
        (found,) = load(str(cases / case), placement=tiny.CPU).notes
        assert note in found


# BatchTopK checkpoints against sae-lens' own export.


def save_checkpoint(folder: Path, architecture: str, **fields) -> Path:
    """A training checkpoint as sae-lens writes it: training config, topk_threshold."""
    from sae_lens import TrainingSAE

    config = {
        "architecture": architecture,
        "d_in": D,
        "d_sae": N,
        "k": 4.5,
        "dtype": "float32",
        "device": "cpu",
        "metadata": {"hook_name": tiny.HOOK},
        **fields,
    }
    if architecture == "matryoshka_batchtopk":
        config["matryoshka_widths"] = [10, N]
    sae = TrainingSAE.from_dict(config)
    tiny.randomise(sae)
    sae.topk_threshold.fill_(0.7)
    sae.save_model(folder / "checkpoint")
    if fields.get("normalize_activations") == "expected_average_only_in":
        tiny.save_scaler(folder / "checkpoint", 1.7)
        sae.fold_activation_norm_scaling_factor(1.7)
        sae.cfg.normalize_activations = "none"
    sae.save_inference_model(folder / "export")
    return folder


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("rescales", [False, True])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_a_batch_topk_checkpoint_is_its_export(
    tmp_path: Path, architecture: str, rescales: bool, scaled: bool
) -> None:
    kind = "expected_average_only_in" if scaled else "none"
    save_checkpoint(
        tmp_path, architecture, rescale_acts_by_decoder_norm=rescales, normalize_activations=kind
    )
    ours = load(str(tmp_path / "checkpoint"), placement=tiny.CPU)
    export = load(str(tmp_path / "export"), placement=tiny.CPU)
    assert ours.architecture == export.architecture == "jumprelu"
    x = tiny.tokens()
    code = export.encode(x)
    assert 0.02 < float((code != 0).float().mean()) < 0.9
    torch.testing.assert_close(ours.encode(x), code, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), export.reconstruct(x), atol=1e-5, rtol=1e-5)


def test_a_batch_topk_checkpoint_needs_its_threshold(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "batchtopk") / "checkpoint"
    change_config(folder, rescale_acts_by_decoder_norm=None)
    assert "are not of norm 1" in message(folder)
    state = load_file(folder / WEIGHTS)
    save_file({**state, "topk_threshold": torch.tensor(0.0)}, folder / WEIGHTS)
    assert "training ended before one was estimated" in message(folder)
    save_file({k: v for k, v in state.items() if k != "topk_threshold"}, folder / WEIGHTS)
    assert "can't be read outside training" in message(folder)


# A scale of each feature that finetuning learnt.


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
@pytest.mark.parametrize("architecture", ["standard", "gated", "topk", "abstopk", "jumprelu"])
def test_a_finetuned_scale_is_in_the_decoder(tmp_path: Path, architecture: str, name: str) -> None:
    plain = tiny.loaded(tmp_path, architecture)
    scale = torch.linspace(0.5, 2, N)
    state = load_file(tmp_path / WEIGHTS)
    save_file({**state, name: scale}, tmp_path / WEIGHTS)
    assert "finetuning_scaling_factor = true" in message(tmp_path)
    change_config(tmp_path, finetuning_scaling_factor=True)
    ours = load(str(tmp_path), placement=tiny.CPU)
    x = tiny.tokens()
    code = plain.encode(x)
    assert torch.equal(ours.encode(x), code)
    torch.testing.assert_close(
        ours.reconstruct(x), plain.decode(code * scale, x), atol=1e-5, rtol=1e-5
    )
    assert ours.weights_hash != plain.weights_hash
    save_file({**state, name: torch.ones(N)}, tmp_path / WEIGHTS)  # some versions wrote ones
    assert load(str(tmp_path), placement=tiny.CPU).weights_hash == plain.weights_hash
    save_file(state, tmp_path / WEIGHTS)
    assert "holds no scaling_factor" in message(tmp_path)


@pytest.mark.parametrize("architecture", ["matching_pursuit", "transcoder"])
def test_a_finetuned_scale_without_a_meaning_is_refused(tmp_path: Path, architecture: str) -> None:
    tiny.saved(tmp_path, architecture)
    change_config(tmp_path, finetuning_scaling_factor=True)
    assert "finetuning_scaling_factor is not defined for its architecture" in message(tmp_path)


# Names of modules.

MODULES = {
    "model.layers.3": ("hook_resid_pre", "hook_resid_post"),
    "layers.3": ("hook_resid_pre", "hook_resid_post"),
    "h.3": ("hook_resid_pre", "hook_resid_post"),
    "transformer.h.3": ("hook_resid_pre", "hook_resid_post"),
    "gpt_neox.layers.3": ("hook_resid_pre", "hook_resid_post"),
    "model.language_model.layers.3": ("hook_resid_pre", "hook_resid_post"),
    "base_model.model.model.layers.3": ("hook_resid_pre", "hook_resid_post"),
    "model.decoder.layers.3": ("hook_resid_pre", "hook_resid_post"),
    "layers.3.mlp": ("mlp.hook_in", "mlp.hook_out"),
    "gpt_neox.layers.3.mlp": ("mlp.hook_in", "mlp.hook_out"),
    "model.layers.3.mlp.down_proj": ("mlp.hook_post", "mlp.hook_out"),
    "layers.3.attention": ("attn.hook_in", "attn.hook_out"),
    "model.layers.3.self_attn": ("attn.hook_in", "attn.hook_out"),
    "transformer.h.3.attn": ("attn.hook_in", "attn.hook_out"),
    "model.layers.3.self_attn.o_proj": ("attn.hook_z", "attn.hook_out"),
}


@pytest.mark.parametrize("path", MODULES)
def test_a_module_is_its_two_hook_points(path: str) -> None:
    reads, writes = MODULES[path]
    assert find_module_points(path) == (f"blocks.3.{reads}", f"blocks.3.{writes}")
    assert translate_hook(path) == f"blocks.3.{writes}"


def test_other_names_stay() -> None:
    for name in [
        "blocks.3.hook_resid_post",
        "blocks.3.attn.hook_z",
        "layers.3.mlp.experts.2",
        "vision_tower.encoder.layers.3",
        "model.layers.3.post_attention_layernorm",
        "model.layers.x",
        "encoder.layers.3",
        "best",
    ]:
        assert translate_hook(name) == name
    assert translate_hook("model.embed_tokens") == "embed.hook_out"


def test_a_transcoder_reads_the_modules_input(tmp_path: Path) -> None:
    names = {"hook_name": "model.layers.1.mlp", "hook_name_out": "model.layers.1.mlp"}
    tiny.saved(tmp_path, "transcoder", metadata=names)
    found = load(str(tmp_path), placement=tiny.CPU)
    assert (found.hook_name, found.hook_out) == ("blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out")


def test_a_user_may_name_the_module(tmp_path: Path) -> None:
    tiny.saved(tmp_path / "sae", "standard", metadata={"hook_name": ""})
    tiny.saved(tmp_path / "transcoder", "transcoder")
    module = "transformer.h.1.mlp"
    sae = load(f"{tmp_path / 'sae'}@{module}", placement=tiny.CPU)
    assert (sae.hook_name, sae.hook_out) == ("blocks.1.mlp.hook_out", "blocks.1.mlp.hook_out")
    both = load(f"{tmp_path / 'transcoder'}@{module},{module}", placement=tiny.CPU)
    assert (both.hook_name, both.hook_out) == ("blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out")
    assert check_source(f"identity:{module}").hook == "blocks.1.mlp.hook_out"


def test_a_modules_points_are_what_the_module_sees(tiny_lm) -> None:
    """Of a block, its attention and its MLP: what forward hooks of transformers catch."""
    from tests.models import token_batch

    tokens = token_batch(2, 6)
    for path in ["model.layers.1", "model.layers.1.mlp", "model.layers.1.self_attn"]:
        seen: dict[str, torch.Tensor] = {}

        def keep(_, args, kwargs, out, seen=seen) -> None:
            seen["reads"] = args[0] if args else kwargs["hidden_states"]
            seen["writes"] = out[0] if isinstance(out, tuple) else out

        module = tiny_lm.bare.get_submodule(path)
        handle = module.register_forward_hook(keep, with_kwargs=True)
        try:
            points = find_module_points(path)
            assert points is not None
            got = tiny_lm.activations(tokens, [points.reads, points.writes])
        finally:
            handle.remove()
        torch.testing.assert_close(got[points.writes], seen["writes"])
        torch.testing.assert_close(got[points.reads], seen["reads"])


# Folders of several, folder names, keywords that are left aside.


def save_sparsify(folder: Path, **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = tiny.sae_of("standard").state_dict()
    state = {
        "encoder.weight": made["W_enc"].T.contiguous(),
        "encoder.bias": made["b_enc"],
        "W_dec": made["W_dec"],
        "b_dec": made["b_dec"],
    }
    save_file(state, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "k": 5, **config}))
    return folder


def test_a_folder_of_hook_points_is_all_its_dictionaries(tmp_path: Path) -> None:
    for name in ["layers.10.mlp", "layers.2.mlp", "layers.2.attention/seed1"]:
        save_sparsify(tmp_path / "run" / name)
    found = [parse_spec(text) for text in expand_folders([str(tmp_path / "run"), "other@x"])]
    names = ["layers.2.attention/seed1", "layers.2.mlp", "layers.10.mlp", None]
    assert [name for name, _ in found] == names
    loaded = [load(spec, name=name, placement=tiny.CPU) for name, spec in found[:3]]
    assert [one.hook_name for one in loaded] == [
        "blocks.2.attn.hook_out",
        "blocks.2.mlp.hook_out",
        "blocks.10.mlp.hook_out",
    ]
    assert expand_folders([f"mine={tmp_path / 'run'}"])[0].startswith("mine/layers.2.attention/")
    assert "it holds 3, such as" in message(tmp_path / "run")
    whole = str(tmp_path / "run" / "layers.2.mlp")
    assert expand_folders([whole]) == [whole]


def test_a_dictionary_learning_folder_names_its_submodule(tmp_path: Path) -> None:
    folder = tmp_path / "resid_post_layer_3" / "trainer_0"
    folder.mkdir(parents=True)
    made = tiny.sae_of("standard").state_dict()
    state = {
        "encoder.weight": made["W_enc"].T.contiguous(),
        "encoder.bias": made["b_enc"],
        "decoder.weight": made["W_dec"].T.contiguous(),
        "bias": made["b_dec"],
    }
    torch.save(state, folder / "ae.pt")
    found = load(str(folder), placement=tiny.CPU)
    assert found.hook_name == "blocks.3.hook_resid_post"
    assert "from the folder's name resid_post_layer_3" in found.notes[0]
    for submodule, hook in [
        ("mlp_out_layer4", "blocks.4.hook_mlp_out"),
        ("model.layers.4.mlp", "blocks.4.mlp.hook_out"),
        ("resid_out_layer4", "blocks.4.hook_resid_post"),
    ]:
        config = {"trainer": {"trainer_class": "StandardTrainer", "submodule_name": submodule}}
        (folder / "config.json").write_text(json.dumps(config))
        found = load(str(folder), placement=tiny.CPU)
        assert (found.hook_name, found.architecture) == (hook, "AutoEncoder")


def test_a_keyword_of_the_models_loading_can_be_left_aside(tmp_path: Path) -> None:
    kwargs = {"fold_ln": True, "checkpoint_value": 1000, "attn_implementation": "eager"}
    tiny.saved(tmp_path, "standard", metadata={"model_from_pretrained_kwargs": kwargs})
    assert "add ?ignore=checkpoint_value" in message(tmp_path)
    spec = f"{tmp_path}?ignore=checkpoint_value"
    found = load(spec, placement=tiny.CPU)
    assert found.processing.fold_ln
    assert found.source == f"{tmp_path.name}?ignore=checkpoint_value"
    assert "checkpoint_value = 1000, which is ignored as you asked" in found.notes[0]
    assert 'attn_implementation = "eager"' in found.notes[1]
    both = load(
        f"{tmp_path}@blocks.0.hook_resid_pre?ignore=checkpoint_value,fold_ln", placement=tiny.CPU
    )
    assert (both.hook_name, both.processing.fold_ln) == ("blocks.0.hook_resid_pre", False)
    assert "ignore 'fold_l', which is not among the dictionary's model keywords" in message(
        f"{tmp_path}?ignore=checkpoint_value,fold_l"
    )
    assert "names nothing to ignore" in message(f"{tmp_path}?ignore=")
    assert parse_spec(spec) == (None, spec)
    assert parse_spec(f"mine={spec}") == ("mine", spec)


def test_a_hook_and_an_ignored_keyword_survive_the_way_to_the_store(tmp_path: Path) -> None:
    from backend.harvest.run import make_spec_absolute

    assert make_spec_absolute(f"{tmp_path}?ignore=a") == f"{tmp_path}?ignore=a"
    assert make_spec_absolute(f"{tmp_path}@x,y?ignore=a") == f"{tmp_path}@x,y?ignore=a"
    assert make_spec_absolute("release/id?ignore=a") == "release/id?ignore=a"


def save_gemma_scope(folder: Path, **changes) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    state = dict(tiny.sae_of("jumprelu").state_dict()) | changes
    np.savez(folder / "params.npz", **{name: np.asarray(t) for name, t in state.items()})
    return state


def test_gemma_scopes_own_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-scope-2b-pt-mlp" / "layer_20" / "width_16k" / "average_l0_71"
    s = save_gemma_scope(folder)
    found = load(str(folder), placement=tiny.CPU)
    assert found.hook_name == "blocks.20.hook_mlp_out"
    assert found.metadata["l0"] == 71
    x = tiny.tokens()
    pre = x @ s["W_enc"] + s["b_enc"]
    code = pre.relu() * (pre > s["threshold"])
    torch.testing.assert_close(found.encode(x), code)
    torch.testing.assert_close(found.reconstruct(x), code @ s["W_dec"] + s["b_dec"])
    (name,) = [parse_spec(text)[0] for text in expand_folders([str(tmp_path)])]
    assert name == "gemma-scope-2b-pt-mlp/layer_20/width_16k/average_l0_71"


def test_gemma_scopes_files_need_a_hook_point_and_numbers(tmp_path: Path) -> None:
    save_gemma_scope(tmp_path)
    assert "write " in message(tmp_path)
    assert "HOOK_OUT" in message(tmp_path)
    found = load(f"{tmp_path}@{tiny.HOOK}", placement=tiny.CPU)
    assert found.hook_name == tiny.HOOK
    save_gemma_scope(tmp_path, b_enc=torch.full((N,), torch.nan))
    assert "tensor b_enc is not finite at features 0, 1" in message(f"{tmp_path}@{tiny.HOOK}")
    save_gemma_scope(tmp_path, b_enc=torch.zeros(N - 1))
    assert "its encoder's bias has shape" in message(f"{tmp_path}@{tiny.HOOK}")
    np.savez(tmp_path / "params.npz", W_enc=np.array([{"a": 1}], dtype=object))
    assert "cannot be read as arrays of numbers" in message(f"{tmp_path}@{tiny.HOOK}")
    (tmp_path / "params.npz").write_bytes(b"PK")
    assert "is damaged or not a file of numpy's" in message(f"{tmp_path}@{tiny.HOOK}")
