"""The door for other tools' configs: every key with every kind of wrong value gives a dictionary
that computes the same, or one sentence of ours."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from backend.dictionaries import check_source, load
from backend.dictionaries.dictionary_learning_config import TrainerConfig
from backend.dictionaries.foreign_config import ForeignConfig
from backend.dictionaries.saelens_config import SaeLensConfig
from backend.dictionaries.sparsify_config import SparsifyConfig
from feature_store.errors import InputError
from tests import dictionaries as tiny

D, N = tiny.D_IN, tiny.D_SAE
ABSENT = object()
WRONG = [ABSENT, "x", "16", True, -1, 0, 2.5, 10**30, float("nan"), None, [1], {}]
LOOSE = {
    "apply_b_dec_to_input",
    "reshape_activations",
    "activation_fn",
    "hook_name",
    "dict_class",
    "prepend_bos",
    "finetuning_scaling_factor",
    "layer",
    "submodule_name",
    "num_latents",
    "transcode",
    "signed",
    "k",
}
"""Keys for which a value of the list can be right and mean something else."""


def make_state(*, linear: bool) -> dict[str, torch.Tensor]:
    """An encoder and a decoder under the names of nn.Linear or of sae-lens."""
    made = tiny.sae_of("standard").state_dict()
    if not linear:
        return dict(made)
    return {
        "encoder.weight": made["W_enc"].T.contiguous(),
        "encoder.bias": made["b_enc"],
        "decoder.weight": made["W_dec"].T.contiguous(),
        "b_dec": made["b_dec"],
    }


def write_saelens(folder: Path, config: dict) -> Path:
    save_file(make_state(linear=False), folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def write_learning(folder: Path, config: dict) -> Path:
    torch.save(make_state(linear=True), folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": config}))
    return folder


def write_sparsify(folder: Path, config: dict) -> Path:
    state = make_state(linear=True)
    state["W_dec"] = state.pop("decoder.weight").T.contiguous()
    (folder := folder / "layers.1").mkdir(exist_ok=True)
    save_file(state, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


FLAT = {
    "model_name": "tiny",
    "hook_name": tiny.HOOK,
    "hook_layer": 1,
    "hook_head_index": None,
    "d_in": D,
    "d_sae": N,
    "activation_fn": "topk",
    "activation_fn_kwargs": {"k": 5},
    "normalize_activations": "none",
    "prepend_bos": True,
    "dtype": "torch.float32",
    "device": "cuda",
    "apply_b_dec_to_input": True,
    "noise_scale": 0.0,
    "context_size": 16,
    "model_from_pretrained_kwargs": {},
    "finetuning_scaling_factor": False,
}
TRAINER = {
    "dict_class": "AutoEncoderTopK",
    "trainer_class": "TopKTrainer",
    "activation_dim": D,
    "dict_size": N,
    "layer": 1,
    "lm_name": "tiny",
    "submodule_name": "resid_post_layer_1",
    "k": 5,
}
CODER = {
    "d_in": D,
    "k": 5,
    "num_latents": N,
    "expansion_factor": 32,
    "normalize_decoder": True,
    "signed": False,
    "transcode": False,
    "skip_connection": False,
    "activation": "topk",
}
FORMATS: dict[str, tuple[Callable[[Path, dict], Path], dict]] = {
    "sae-lens": (write_saelens, tiny.config("topk")),
    "sae-lens before 6": (write_saelens, FLAT),
    "dictionary_learning": (write_learning, TRAINER),
    "sparsify": (write_sparsify, CODER),
}


def sentence_of(error: BaseException, folder: Path) -> str:
    text = str(error)
    assert str(folder) in text, f"names no file: {text}"
    assert "\n" not in text
    assert text.endswith("."), text
    assert len(text) < 600, text
    return text


@pytest.mark.parametrize("kind", FORMATS)
def test_every_key_with_every_wrong_value(tmp_path: Path, kind: str) -> None:
    write, right = FORMATS[kind]
    x = tiny.tokens(20)
    place = write(tmp_path, right)
    want = load(str(place), placement=tiny.CPU).encode(x)
    assert ((want != 0).sum(-1) <= 5).all()
    loaded = refused = 0
    for key in right:
        for value in WRONG:
            changed = {k: v for k, v in right.items() if k != key}
            if value is not ABSENT:
                changed[key] = value
            place = write(tmp_path, changed)
            try:
                found = load(str(place), placement=tiny.CPU)
            except InputError as error:
                sentence_of(error, tmp_path)
                refused += 1
                continue
            loaded += 1
            if key not in LOOSE:
                assert torch.equal(found.encode(x), want), f"{key} = {value!r} changes the code"
    assert loaded > 10
    assert refused > 30


NUMBERS_OF_K = [
    -1,
    0,
    N + 1,
    2.5,
    "5",
    True,
    [5],
    {"k": 5},
    "{}",
    None,
    ABSENT,
    float("nan"),
    1e30,
    10**400,
]


@pytest.mark.parametrize("kind", FORMATS)
def test_k_is_a_whole_number_that_the_file_says(tmp_path: Path, kind: str) -> None:
    write, right = FORMATS[kind]
    flat = "activation_fn_kwargs" in right

    def with_k(k: object) -> dict:
        given = {} if k is ABSENT else {"k": k}
        if flat:
            return {**right, "activation_fn_kwargs": given}
        return {**{key: value for key, value in right.items() if key != "k"}, **given}

    assert load(str(write(tmp_path, with_k(7.0))), placement=tiny.CPU).coder.rule.k == 7
    for k in NUMBERS_OF_K:
        with pytest.raises(InputError) as caught:
            load(str(write(tmp_path, with_k(k))), placement=tiny.CPU)
        assert re.search(r"\bk\b", sentence_of(caught.value, tmp_path)), k


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@pytest.mark.parametrize("model", [SaeLensConfig, SparsifyConfig, TrainerConfig])
@settings(max_examples=60)
@given(data=st.data())
def test_no_json_raises_anything_but_a_sentence(model: type[ForeignConfig], data) -> None:
    fields = [*model.model_fields, "metadata", "activation_fn_kwargs", "n_targets", "hook_point"]
    base = {"d_in": 4, "d_sae": 8, "k": 2} if data.draw(st.booleans()) else {}
    content = base | data.draw(st.dictionaries(st.sampled_from(fields), JSON, max_size=6))
    try:
        model.read(content, "FILE")
    except InputError as error:
        assert str(error).startswith("FILE ")
        assert "\n" not in str(error)


@pytest.mark.parametrize("weights", ["sae_weights.safetensors", "sae.safetensors", "ae.pt"])
def test_a_wrong_config_is_told_before_torch_is_needed(tmp_path: Path, weights: str) -> None:
    kind = {"sae_weights.safetensors": "sae-lens", "sae.safetensors": "sparsify"}.get(
        weights, "dictionary_learning"
    )
    write, right = FORMATS[kind]
    place = write(tmp_path, {**right, "k": "many"})
    with pytest.raises(InputError, match='has k = "many": it must be a'):
        check_source(str(place))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"activation_fn": "tanh-relu"}, "activation_fn"),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 5}, "k": 6}, "k is 6 and"),
        ({"architecture": "gated", "activation_fn": "topk"}, "architecture 'gated'"),
        ({"architecture": "transcoder", "d_out": 9, "apply_b_dec_to_input": True}, "transcoder"),
        ({"architecture": "transcoder"}, "no d_out"),
        ({"architecture": "temporal"}, "no n_heads"),
        ({"architecture": "matching_pursuit"}, "no residual_threshold"),
        ({"d_out": 9}, "no architecture"),
        ({"metadata": []}, "metadata = []: it must be a JSON object"),
        ({"normalize_activations": "z-score"}, "normalize_activations"),
        ({"normalize_activations": "constant_scalar_rescale"}, "only temporal"),
        ({"model_from_pretrained_kwargs": "{}"}, "it must be a JSON object"),
    ],
)
def test_what_decides_the_numbers_is_never_a_default(change: dict, says: str) -> None:
    with pytest.raises(InputError) as caught:
        SaeLensConfig.read({"d_in": D, "d_sae": N, **change}, "cfg.json")
    assert says in str(caught.value)


def test_early_names_of_keys_are_todays() -> None:
    old = {
        "hook_point": "blocks.{layer}.hook_mlp_out",
        "hook_point_layer": 3,
        "activation_fn_str": "relu",
        "normalize_activations": False,
    }
    found = SaeLensConfig.read({"d_in": D, "d_sae": N, **old}, "cfg.json")
    assert found.find_hook_points() == ("blocks.3.hook_mlp_out", None)
    assert found.normalize_activations == "none"
    assert found.architecture == "standard"
    scaled = SaeLensConfig.read({"d_in": D, "d_sae": N, "normalize_activations": True}, "cfg.json")
    assert scaled.normalize_activations == "expected_average_only_in"


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("sparsify", {"n_targets": 3}, "trained with n_targets"),
        ("sparsify", {"coalesce_topk": "concat"}, "coalesce_topk"),
        ("sparsify", {"skip_connection": True}, "only transcoders"),
        ("sparsify", {"num_latents": N + 1}, f"the weights have {N} features"),
        ("sparsify", {"activation": "groupmax", "k": 7}, "groups do not divide"),
        ("dictionary_learning", {"dict_class": "CrossCoder"}, "No dictionary_learning class"),
        ("dictionary_learning", {"dict_class": "BatchTopKSAE"}, "without its threshold"),
        ("dictionary_learning", {"dict_class": None, "trainer_class": "MyTrainer"}, "'MyTrainer'"),
        ("dictionary_learning", {"activation_dim": D + 1}, "activation_dim"),
        ("dictionary_learning", {"layer": 2}, "write .*@HOOK"),
    ],
)
def test_what_is_not_read_is_said(tmp_path: Path, kind: str, change: dict, says: str) -> None:
    write, right = FORMATS[kind]
    with pytest.raises(InputError, match=says):
        load(str(write(tmp_path, {**right, **change})), placement=tiny.CPU)


def test_a_hint_only_names_what_means_the_same(tmp_path: Path) -> None:
    for name, hint in [("jumpreluu", True), ("clusterbatchtopk", False), ("abs-relu", False)]:
        write_saelens(tmp_path, tiny.config("standard") | {"architecture": name})
        with pytest.raises(InputError) as caught:
            load(str(tmp_path), placement=tiny.CPU)
        assert ("Did you mean" in str(caught.value)) is hint


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", FORMATS)
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, kind: str, bad: float
) -> None:
    write, right = FORMATS[kind]
    place = write(tmp_path, right)
    file = next(path for path in place.iterdir() if path.suffix in (".safetensors", ".pt"))
    pickled = file.suffix == ".pt"
    whole = torch.load(file, weights_only=True) if pickled else load_file(file)
    for name in whole:
        broken = {key: tensor.clone() for key, tensor in whole.items()}
        broken[name].view(-1)[-1] = bad
        torch.save(broken, file) if pickled else save_file(broken, file)
        with pytest.raises(InputError) as caught:
            load(str(place), placement=tiny.CPU)
        said = f"{file} cannot be used: its tensor {name} is not finite at"
        assert sentence_of(caught.value, tmp_path).startswith(said)
        if name != "b_dec":
            assert f"at feature {N - 1}." in str(caught.value)


def test_directions_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    directions = torch.ones(3, D)
    directions[1, 4] = torch.nan
    save_file({"directions": directions}, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match="tensor directions is not finite at feature 1"):
        load(f"{tmp_path}/v.safetensors@{tiny.HOOK}", placement=tiny.CPU)
    save_file({"v": torch.full((D,), torch.inf)}, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match="tensor v is not finite"):
        load(f"{tmp_path}/v.safetensors@{tiny.HOOK}", placement=tiny.CPU)


def test_finite_weights_whose_fold_is_not_are_refused(tmp_path: Path) -> None:
    """W_enc times decoder norms beyond float32."""
    config = tiny.config("topk", rescale_acts_by_decoder_norm=True)
    place = write_saelens(tmp_path, config)
    state = load_file(place / "sae_weights.safetensors")
    save_file(
        {**state, "W_enc": state["W_enc"] * 0 + 1e30, "W_dec": state["W_dec"] * 1e10},
        place / "sae_weights.safetensors",
    )
    with pytest.raises(InputError, match="folded in, cannot be used: its tensor W_enc"):
        load(str(place), placement=tiny.CPU)
