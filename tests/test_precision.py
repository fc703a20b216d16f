"""float16 and bfloat16, stored or computed with, give float32's numbers within tolerances."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.dictionaries import load
from backend.engine import LocalEngine
from backend.features.logit_lens import compute_logit_lens
from backend.harvest.weight_facts import compute_lens_tile
from backend.model.device import Placement
from backend.model.language_model import LanguageModel
from tests.dictionaries import CPU, HOOK, saved
from tests.harvests import Rig, content, make_rig
from tests.models import hf_model, shared, tiny, token_batch, tokenizer
from tests.pretend_device import DEVICE, pretend_device

STREAMS, LOSSES = 0.03, 0.02
"""Relative differences of residual streams and next-token losses in bfloat16, by their norms; the
random models of the tests are no smoother than trained ones."""
HALVES = [torch.float16, torch.bfloat16]


def apart(one: Any, other: Any) -> float:
    """Norm of the difference over the norm of the second."""
    a, b = (torch.as_tensor(x).cpu().double() for x in (one, other))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("dtype", HALVES)
def test_a_model_stored_in_half_precision_is_computed_with_in_float32(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    network: Any = hf_model("llama").to(dtype)
    network.save_pretrained(tmp_path / "half")
    tokenizer().save_pretrained(tmp_path / "half")
    lm = LanguageModel.load(str(tmp_path / "half"), CPU)
    assert {p.dtype for p in lm.bare.parameters()} == {torch.float32}
    wanted = LanguageModel.wrap(network.float(), tokenizer(), "x", CPU).logits(token_batch(2, 9))
    torch.testing.assert_close(lm.logits(token_batch(2, 9)), wanted)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_a_dictionary_stored_in_half_precision_is_computed_with_in_float32(
    tmp_path: Path, architecture: str, dtype: torch.dtype
) -> None:
    folder = saved(tmp_path / "sae", architecture)
    path = folder / "sae_weights.safetensors"
    rounded = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(rounded, path)
    half = load(str(folder), placement=CPU)
    save_file({name: tensor.float() for name, tensor in rounded.items()}, path)
    full = load(str(folder), placement=CPU)
    x = torch.randn(30, half.d_in, generator=torch.Generator().manual_seed(1))
    assert half.W_dec.dtype == torch.float32
    assert torch.equal(half.encode(x), full.encode(x))
    assert torch.equal(half.reconstruct(x.to(dtype)), full.reconstruct(x.to(dtype).float()))


@pytest.fixture(params=["cpu", "pretended"])
def place(request: pytest.FixtureRequest) -> Iterator[Placement]:
    """bfloat16 on both roads: numpy's on the CPU, torch's on a device."""
    device = DEVICE if request.param == "pretended" else torch.device("cpu")
    with pretend_device() if request.param == "pretended" else nullcontext():
        yield Placement(device, torch.bfloat16, "a test")


def in_half(place: Placement) -> LanguageModel:
    network: Any = hf_model("llama").to(torch.bfloat16)
    return LanguageModel.wrap(network, tokenizer(), "tiny", place)


def test_a_model_in_bfloat16_gives_float32s_numbers_but_for_rounding(place: Placement) -> None:
    lm, full, tokens = in_half(place), shared("llama"), token_batch(4, 20)
    hooks = ["blocks.0.hook_resid_pre", HOOK, "blocks.2.hook_resid_post"]
    ours, theirs = lm.activations(tokens, hooks), full.activations(tokens, hooks)
    for hook in hooks:
        assert apart(ours[hook], theirs[hook]) < STREAMS
    losses = lm.token_losses(tokens)
    assert losses.dtype == torch.float32
    assert apart(losses, full.token_losses(tokens)) < LOSSES


def test_what_is_computed_from_halves_is_accumulated_in_float32(
    place: Placement, tmp_path: Path
) -> None:
    """A harvest's sums are those of its own activations in float64, and so is a lens."""
    lm = in_half(place)
    folder = saved(tmp_path / "sae", "standard", d_in=16)
    one = load(str(folder), name="relu", placement=place, width=lm.width)
    assert one.W_dec.dtype == torch.float32
    (tmp_path / "rig").mkdir()
    base = make_rig(tmp_path / "rig")
    rig = Rig(lm, [one], [f"relu={folder}"], base.corpus)
    stored = content(rig.harvest(tmp_path / "store", tokens=600))
    total = torch.zeros(one.d_sae, dtype=torch.float64)
    fired = torch.zeros(one.d_sae, dtype=torch.float64)
    for sequence in stored["sequence"]:
        ids = sequence["token_ids"]
        counted = [at for at, i in enumerate(ids) if i not in lm.special_ids]
        x = lm.activations(torch.tensor([ids]), [one.hook_name])[one.hook_name][0].cpu()[counted]
        f = one.encode(x.to(place.device)).cpu().double()
        total, fired = total + f.sum(0), fired + (f > 0).sum(0)
    rows = stored["feature"]
    wanted = (total / fired.clamp_min(1)).tolist()
    near = [
        abs(row["mean_act"] - mean) <= 5e-3 * abs(mean)
        for row, mean in zip(rows, wanted, strict=True)
        if row["n_active"]
    ]
    assert near and np.mean(near) > 0.9  # a batch's shape moves a bfloat16 product by a rounding
    logits = compute_logit_lens(lm, one.W_dec, one.hook_out)
    assert logits is not None and logits.dtype == torch.float32
    assert compute_lens_tile(logits)["promoted_values"].dtype == np.float32


def test_live_readings_in_bfloat16_are_near_float32s(place: Placement, tmp_path: Path) -> None:
    folder = saved(tmp_path / "sae", "standard", d_in=16)
    read = {}
    for name, lm, at in (("half", in_half(place), place), ("full", tiny("llama"), CPU)):
        one = load(str(folder), name="relu", placement=at, width=lm.width)
        engine = LocalEngine(lm, {"relu": one}, bos=0)
        text = engine.read("the old cat saw a red ball")
        dense = np.zeros((len(text.token_ids), one.d_sae))
        fired = engine.compute_activations(text, ["relu"])["relu"]
        dense[fired.position, fired.feature] = fired.value
        read[name] = dense
    assert apart(read["half"], read["full"]) < 2 * STREAMS
