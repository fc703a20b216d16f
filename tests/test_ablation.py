"""Ablation: taking parts away is exact, leaves the rest alone, and refuses what it cannot do."""

import pytest
import torch

from backend.ablation.ablated_forward import AblatedForward
from backend.ablation.model_parts import ModelPart, check_model_parts
from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.splice import measure_splice
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from feature_store.errors import InputError
from tests.dictionaries import loaded
from tests.models import shared, token_batch

KINDS = {
    "standard": {},
    "topk": {},
    "standard layer_norm": {"normalize_activations": "layer_norm"},
    "skip_transcoder": {"metadata": {"hook_name": "blocks.1.hook_resid_pre"}},
}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lm(request: pytest.FixtureRequest):
    return shared(request.param)


@pytest.fixture(scope="module", params=KINDS)
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    kind = request.param
    return loaded(tmp_path_factory.mktemp("d"), kind.split()[0], d_in=16, d_out=16, **KINDS[kind])


def prompts(n: int = 3, pos: int = 8, seed: int = 0) -> PaddedPrompts:
    rows = token_batch(n, pos, seed).tolist()
    return PaddedPrompts.of([TokenizedText(row, [False] + [True] * (pos - 1)) for row in rows])


def run(lm, one: Dictionary | None, parts: list[str], how: str = "zero", **given):
    found = {one.name: one} if one else {}
    text = given.pop("prompts", prompts())
    names = [ModelPart.parse(p.replace("D", one.name if one else "")) for p in parts]
    return AblatedForward(lm, found, how, **given).run(names, text)  # type: ignore[arg-type]


def active(lm, one: Dictionary) -> int:
    """A feature that fires somewhere on the prompts."""
    batch = prompts()
    x = lm.activations(batch.tokens, [one.hook_name])[one.hook_name][batch.counted]
    return int(one.encode(x).abs().sum(0).argmax())


def test_a_feature_at_zero_is_decoding_without_it(lm, one: Dictionary) -> None:
    batch, index = prompts(), active(lm, one)
    found = run(lm, one, [f"D/{index}"])
    raw = lm.activations(batch.tokens, [one.hook_name])
    x = raw[one.hook_name].clone()
    f = one.encode(x)
    without = f.clone()
    without[..., index] = 0
    change = (one.decode(without, x) - one.decode(f, x)) * batch.counted[..., None]
    wanted = lm.logits(batch.tokens, {one.hook_out: lambda h: h + change})
    assert torch.allclose(found.ablated, wanted, atol=1e-4)
    assert not torch.allclose(found.ablated, found.clean, atol=1e-4)


def test_what_comes_back_is_what_was_there(lm, one: Dictionary) -> None:
    """Patching every part from the same prompt changes nothing."""
    parts = [["dictionary:D"], ["error:D"], [f"D/{active(lm, one)}"], ["head:1.2"], ["mlp:0"]]
    for names in parts:
        found = run(lm, one, names, "pair", donors=prompts())
        assert torch.allclose(found.ablated, found.clean, atol=1e-4), names


def test_features_and_error_away_leave_what_decodes_from_nothing(lm, one: Dictionary) -> None:
    batch = prompts()
    found = run(lm, one, ["dictionary:D", "error:D"])
    x = lm.activations(batch.tokens, [one.hook_name])[one.hook_name].clone()
    base = one.decode(torch.zeros(*x.shape[:2], one.d_sae), x)
    there = batch.counted[..., None]
    wanted = lm.logits(batch.tokens, {one.hook_out: lambda h: torch.where(there, base, h)})
    assert torch.allclose(found.ablated, wanted, atol=1e-4)


def test_all_heads_away_is_no_attention_from_them(lm) -> None:
    batch = prompts()
    found = run(lm, None, [f"head:1.{head}" for head in range(lm.n_heads)])
    z = "blocks.1.attn.hook_z"
    there = batch.counted[..., None]
    wanted = lm.logits(batch.tokens, {z: lambda h: h * ~there})
    assert torch.allclose(found.ablated, wanted, atol=1e-5)


def test_prompts_do_not_see_each_other(lm, one: Dictionary) -> None:
    whole = run(lm, one, ["dictionary:D", "mlp:2"])
    alone = run(lm, one, ["dictionary:D", "mlp:2"], prompts=prompts().rows(slice(1, 2)))
    assert torch.allclose(whole.ablated[1], alone.ablated[0], atol=1e-5)


def test_a_mean_is_the_harvests_for_features_and_the_prompts_for_others(
    lm, one: Dictionary
) -> None:
    index = active(lm, one)
    given = run(lm, one, [f"D/{index}"], "mean", means=lambda part: 0.0)
    assert torch.allclose(given.ablated, run(lm, one, [f"D/{index}"]).ablated, atol=1e-5)
    batch = prompts()
    hook = "blocks.1.hook_mlp_out"
    mean = lm.activations(batch.tokens, [hook])[hook][batch.counted].mean(0)
    there = batch.counted[..., None]
    wanted = lm.logits(batch.tokens, {hook: lambda h: torch.where(there, mean, h)})
    assert torch.allclose(run(lm, None, ["mlp:1"], "mean").ablated, wanted, atol=1e-5)


def test_a_resampled_value_comes_from_another_prompt_at_the_same_slot(lm) -> None:
    batch = prompts(2)
    hook = "blocks.0.hook_mlp_out"
    swapped = lm.activations(batch.tokens, [hook])[hook].flip(0).clone()
    there = batch.counted[..., None]
    wanted = lm.logits(batch.tokens, {hook: lambda h: torch.where(there, swapped, h)})
    found = run(lm, None, ["mlp:0"], "resample", prompts=batch)
    assert torch.allclose(found.ablated, wanted, atol=1e-5)


def test_bos_stays(lm, one: Dictionary) -> None:
    found = run(lm, one, ["dictionary:D"])
    assert torch.allclose(found.ablated[:, 0], found.clean[:, 0], atol=1e-6)


def test_kl_and_losses_know_the_padding(lm) -> None:
    texts = [
        TokenizedText([0, 5, 6, 7, 8], [False] + [True] * 4),
        TokenizedText([0, 9, 10], [False, True, True]),
    ]
    found = run(lm, None, ["mlp:1"], prompts=PaddedPrompts.of(texts))
    clean, ablated = found.losses()
    assert torch.isnan(clean).tolist() == [[False] * 4, [False] * 2 + [True] * 2]
    assert torch.isnan(found.kl()).sum() == 2
    token, before, after = found.most_moved(1, 2, 3)[0]
    p = found.clean[1, 2].softmax(-1)[token]
    assert before == pytest.approx(float(p)) and abs(before - after) > 0
    assert torch.isnan(ablated[1, 2:]).all()


def test_spliced_with_its_error_the_model_is_the_model(lm, one: Dictionary) -> None:
    found = measure_splice(lm, one, prompts())
    assert found.with_error == pytest.approx(found.clean, abs=1e-4)
    assert found.without_error != pytest.approx(found.clean, abs=1e-3)
    assert found.tokens == 3 * 6
    way = (found.zero - found.without_error) / (found.zero - found.clean)
    assert found.recovered_zero == pytest.approx(way)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "not a part"),
        ("head:9.0", "layers 0 to 2"),
        ("head:0.9", "heads 0 to 3"),
        ("mlp:7", "layers 0 to 2"),
        ("dictionary:none", "No dictionary"),
        ("head:1", "not a part"),
        ("D/4000", "features 0 to"),
    ],
)
def test_parts_that_are_not_there(lm, one: Dictionary, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        run(lm, one, [text])


def test_parts_that_do_not_go_together() -> None:
    parse = ModelPart.parse
    for texts in (
        ["a/1", "a/1"],
        ["a/1", "dictionary:a"],
        ["head:0.1", "attention:0"],
        [],
        [f"a/{i}" for i in range(65)],
    ):
        with pytest.raises(InputError):
            check_model_parts([parse(text) for text in texts])


@pytest.mark.parametrize("text", ["a/b/7", "dictionary:a/b", "error:x", "head:3.11", "mlp:2"])
def test_a_part_is_spelt_as_it_is_read(text: str) -> None:
    assert str(ModelPart.parse(text)) == text


def test_unequal_pairs_are_refused(lm) -> None:
    with pytest.raises(InputError, match="8 tokens and its partner 7"):
        run(lm, None, ["mlp:0"], "pair", donors=prompts(pos=7))
    with pytest.raises(InputError, match="no other prompt is as long"):
        run(lm, None, ["mlp:0"], "resample", prompts=prompts(1))
