"""A dictionary that fits passes, and every way of not fitting turns into words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.dictionaries import load
from backend.dictionaries.activation_rules import LinearRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.evaluation.reconstruction_check import (
    check_dictionary_fits,
    describe_check_problems,
    describe_reconstruction_problems,
)
from backend.evaluation.reconstruction_measurement import check_reconstruction
from backend.model.counted_positions import mark_counted_positions, pad_right, uncounted_token_ids
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from tests.dictionaries import at_hooks
from tests.models import shared, token_batch

PLACE = choose_placement("cpu")
HOOK = "blocks.1.hook_resid_post"


def identity(lm: LanguageModel, hook: str = HOOK) -> Dictionary:
    return load(f"identity:{hook}", placement=PLACE, width=lm.width)


def constant(value: torch.Tensor, n: int = 3) -> Dictionary:
    """Rebuilds every activation as `value`, with no feature ever firing."""
    d = len(value)
    none = torch.zeros(d, n), torch.zeros(n), torch.zeros(n, d)
    coder = AffineCoder(*none, b_dec=value, rule=LinearRule())
    return Dictionary(
        "constant", *single_sites(HOOK, HOOK, coder), "directions", "constant", "", coder
    )


def texts(n: int = 12) -> list[list[int]]:
    return [token_batch(1, 6 + i % 8, seed=i)[0].tolist() for i in range(n)]


@pytest.mark.parametrize("hook", [HOOK, "blocks.0.attn.hook_z", "blocks.2.mlp.hook_post"])
def test_the_layers_own_neurons_are_perfect(tiny_lm: LanguageModel, hook: str) -> None:
    got = check_reconstruction(tiny_lm, identity(tiny_lm, hook), texts())
    assert got.explained_variance == pytest.approx(1)
    assert got.delta_ce == pytest.approx(0, abs=1e-6)
    assert got.recovery_zero in (None, pytest.approx(1))  # ablation need not hurt a random model
    assert got.n_documents == 12
    assert got.n_tokens == sum(len(text) - 1 for text in texts())
    assert describe_reconstruction_problems(got) == []


def test_the_mean_explains_nothing_and_recovers_nothing(tiny_lm: LanguageModel) -> None:
    """Rebuilding everything as the mean over counted tokens is mean ablation itself."""
    tokens, real = pad_right(texts(), fill=0)
    at = mark_counted_positions(tokens, real, [0])
    mean = tiny_lm.activations(tokens, [HOOK])[HOOK][at].mean(0).clone()
    got = check_reconstruction(tiny_lm, constant(mean), texts())
    assert got.explained_variance == pytest.approx(0, abs=1e-5)
    assert got.ce_spliced == pytest.approx(got.ce_mean, abs=1e-5)
    assert (got.l0, got.dead_share) == (0, 1)
    assert got.dead_bound == pytest.approx(3 / got.n_tokens)
    assert "0.00 of the variance (expected above 0.5)" in describe_reconstruction_problems(got)[0]


def test_explained_variance_and_losses_by_hand(tiny_lm: LanguageModel) -> None:
    value = torch.randn(16)
    [text] = texts(1)
    got = check_reconstruction(tiny_lm, constant(value), [text])
    tokens = torch.tensor([text])
    y = tiny_lm.activations(tokens, [HOOK])[HOOK][0, 1:].double()
    want = 1 - (y - value).pow(2).sum() / (y - y.mean(0)).pow(2).sum()
    assert got.explained_variance == pytest.approx(want.item(), rel=1e-5)

    def spliced(h: torch.Tensor) -> torch.Tensor:
        return torch.cat([h[:, :1], value.expand_as(h[:, 1:])], dim=1)  # BOS passes unchanged

    losses = tiny_lm.token_losses(tokens, {HOOK: spliced})[0, 1:]
    assert got.ce_spliced == pytest.approx(losses.mean().item(), rel=1e-5)


def test_special_tokens_are_left_out_as_the_dictionary_says() -> None:
    tokens, real = pad_right([[0, 5, 1, 6], [0, 7]], fill=0)
    assert uncounted_token_ids(0, {0, 1, 2}, {}) == {0, 1, 2}
    assert uncounted_token_ids(0, {0, 1, 2}, {"exclude_special_tokens": False}) == {0}
    assert uncounted_token_ids(None, {1}, {"exclude_special_tokens": [6]}) == {6}
    assert mark_counted_positions(tokens, real, {0}).tolist() == [
        [False, True, True, True],
        [False, True, False, False],
    ]


def test_centred_dictionaries_are_judged_in_their_own_units() -> None:
    """A perfect reconstruction of the centred stream is a perfect splice into the raw one."""
    lm = shared("gpt2")
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    spliced = replace(identity(lm), architecture="directions")
    got = check_reconstruction(lm, replace(spliced, metadata=kwargs), texts())
    raw = check_reconstruction(lm, spliced, texts())
    assert got.explained_variance == pytest.approx(1)
    assert got.delta_ce == pytest.approx(0, abs=1e-6)
    assert got.ce_zero == pytest.approx(raw.ce_zero, abs=1e-4)  # LayerNorm does not see the mean
    assert got.ce_mean == pytest.approx(raw.ce_mean, abs=1e-4)


def test_folded_value_biases_come_back_in_the_splice() -> None:
    lm, hook = shared("gpt2"), "blocks.1.attn.hook_z"
    kwargs = {"model_from_pretrained_kwargs": {"fold_value_biases": True}}
    spliced = replace(identity(lm, hook), architecture="directions", metadata=kwargs)
    got = check_reconstruction(lm, spliced, texts())
    assert got.delta_ce == pytest.approx(0, abs=1e-6) and got.ce_zero is not None


def test_published_numbers_stand_beside_ours(tiny_lm: LanguageModel) -> None:
    metadata = {"l0": 5, "variance_explained": 0.75}
    got = check_reconstruction(tiny_lm, replace(identity(tiny_lm), metadata=metadata), texts())
    assert (got.published_l0, got.published_explained_variance) == (5, 0.75)
    [sentence] = describe_reconstruction_problems(got)
    assert sentence.startswith("16.0 features fire per token where 5.0 were published: check")


def test_a_width_that_does_not_fit_names_what_does(tiny_lm: LanguageModel) -> None:
    neurons = identity(tiny_lm, "blocks.1.mlp.hook_post")
    with pytest.raises(InputError) as bad:
        check_dictionary_fits(
            tiny_lm, at_hooks(replace(neurons, name="mine"), reads="blocks.1.hook_mlp_out")
        )
    assert str(bad.value) == (
        "mine reads vectors of 32 at blocks.1.hook_mlp_out, where tiny-llama has 16; no usual hook "
        "point has that width, so it belongs to another model."
    )
    stream = identity(tiny_lm)
    with pytest.raises(InputError, match="there that width is at blocks.1.hook_resid_pre, "):
        check_dictionary_fits(tiny_lm, at_hooks(stream, writes="blocks.1.mlp.hook_post"))


def test_a_hook_that_is_not_there(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="tiny-llama has no hook point 'blocks.7.hook_resid_post'"):
        check_dictionary_fits(
            tiny_lm, at_hooks(identity(tiny_lm), reads="blocks.7.hook_resid_post")
        )


@pytest.mark.parametrize("sequences", [[], [[0]], [[0, 1, 1]]])
def test_nothing_to_count(tiny_lm: LanguageModel, sequences: list[list[int]]) -> None:
    with pytest.raises(InputError, match="found no token to count"):
        check_reconstruction(tiny_lm, identity(tiny_lm), sequences)


@pytest.fixture(scope="module")
def stories3m(real: Path) -> LanguageModel:
    return LanguageModel.load(str(real / "stories3m"), PLACE)


@pytest.fixture(scope="module")
def stories(real: Path, stories3m: LanguageModel) -> list[list[int]]:
    path = real / "text" / "tinystories_validation_part.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[:20]
    ids = stories3m.tokenizer([json.loads(x)["text"] for x in lines], add_special_tokens=False)
    return [[1, *row[:63]] for row in ids["input_ids"]]


@pytest.mark.parametrize(
    ("name", "least"),
    [("sae-stories3m-resid3-topk", 0.88), ("transcoder-stories3m-mlp3", 0.75)],
)
def test_what_fits_passes(
    stories3m: LanguageModel, stories: list[list[int]], real: Path, name: str, least: float
) -> None:
    got = check_reconstruction(stories3m, load(str(real / name), placement=PLACE), stories)
    assert got.explained_variance is not None and got.explained_variance > least
    assert got.recovery_mean is not None and got.recovery_mean > 0.8
    assert (got.n_documents, describe_reconstruction_problems(got)) == (20, [])
    [few] = describe_check_problems(got)
    assert few.startswith("Measured on 20 pieces of only 20 documents (at least 50 are needed)")


def test_a_wrong_hook_point_is_turned_into_words(
    stories3m: LanguageModel, stories: list[list[int]], real: Path
) -> None:
    sae = load(str(real / "sae-stories3m-resid6-topk"), placement=PLACE)
    wrong = at_hooks(sae, reads="blocks.0.hook_resid_pre", writes="blocks.0.hook_resid_pre")
    said = " ".join(describe_check_problems(check_reconstruction(stories3m, wrong, stories)))
    assert "of the variance (expected above 0.5): check the hook point first" in said
    assert "nats per token" in said


def test_shuffled_weights_are_turned_into_words(
    stories3m: LanguageModel, stories: list[list[int]], real: Path
) -> None:
    sae = load(str(real / "sae-stories3m-resid3-topk"), placement=PLACE)
    order = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(0))
    assert isinstance(sae.coder, AffineCoder)
    mixed = replace(sae, coder=replace(sae.coder, W_dec=sae.coder.W_dec[order]))
    said = " ".join(describe_check_problems(check_reconstruction(stories3m, mixed, stories)))
    assert "of the variance" in said and "nats per token" in said
