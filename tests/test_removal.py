"""Removing a feature: the edit's law, who is left alone, and what is kept of it."""

from pathlib import Path

import pytest
import torch

from backend.features.feature_removal import (
    compute_removal_delta,
    compute_removal_logits,
    measure_feature_removal,
)
from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.removal_effects import RemovalEffect, read_removal_effects, save_removal_effects
from tests.dictionaries import HOOK, PER_TOKEN, SAES, TRANSCODERS, loaded, tokens
from tests.harvests import Rig
from tests.models import token_batch

KINDS = [(kind, {}) for kind in [*SAES, *TRANSCODERS, "temporal"]]
KINDS += [("standard", {"normalize_activations": norm}) for norm in PER_TOKEN]


@pytest.mark.parametrize(("kind", "fields"), KINDS)
def test_the_change_is_what_decoding_without_the_feature_changes(
    tmp_path: Path, kind: str, fields: dict
) -> None:
    one = loaded(tmp_path / "d", kind, **fields)
    x = tokens(12, one.d_in)
    at = torch.arange(len(x)) > 1
    f = one.encode(x)
    feature = int((f[2:] != 0).sum(0).argmax())
    without = f.clone()
    without[at, feature] = 0
    got = compute_removal_delta(one, feature, x, at)
    assert (f[at, feature] != 0).any()
    assert torch.allclose(got, one.decode(without, x) - one.decode(f, x), atol=1e-5)
    assert not got[~at].any()


def firing(rig: Rig, name: str = "top") -> tuple:
    """(dictionary, a feature that fires, its sequence, what is counted, its peak)."""
    one = next(d for d in rig.found if d.name == name)
    ids = token_batch(1, 20, seed=3)[0]
    f = one.encode(rig.lm.activations(ids[None], [HOOK])[HOOK])[0]
    counted = torch.arange(len(ids)) > 0
    peak, feature = divmod(int(f[5:15].abs().argmax()), f.shape[1])
    return one, feature, ids, counted, peak + 5


@pytest.mark.parametrize("name", ["top", "abs", "relu", "seq"])
def test_removing_is_the_model_with_the_change_added(rig: Rig, name: str) -> None:
    one, feature, ids, counted, peak = firing(rig, name)
    got = compute_removal_logits(rig.lm, one, feature, ids, counted)
    x = rig.lm.activations(ids[None], [HOOK])[HOOK]
    delta = compute_removal_delta(one, feature, x[0], counted)
    assert delta[peak].abs().sum() > 0
    assert torch.allclose(got[0], rig.lm.logits(ids[None])[0], atol=1e-4)
    want = rig.lm.logits(ids[None], {HOOK: lambda h: h + delta})[0]
    assert torch.allclose(got[1], want, atol=1e-4)
    first = int(delta.abs().sum(-1).nonzero()[0])
    assert torch.allclose(got[1, :first], got[0, :first], atol=1e-4)


def test_a_transcoder_is_removed_where_it_writes(tmp_path: Path, tiny_lm) -> None:
    hooks = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    one = loaded(tmp_path / "d", "transcoder", d_in=16, d_out=16, metadata=hooks)
    ids = token_batch(1, 12)[0]
    counted = torch.arange(12) > 0
    x = tiny_lm.activations(ids[None], [one.hook_name])[one.hook_name][0]
    feature = int((one.encode(x)[1:] > 0).sum(0).argmax())
    delta = compute_removal_delta(one, feature, x, counted)
    got = compute_removal_logits(tiny_lm, one, feature, ids, counted)
    want = tiny_lm.logits(ids[None], {one.hook_out: lambda h: h + delta})[0]
    assert delta.any() and torch.allclose(got[1], want, atol=1e-4)


def test_losses_and_moved_tokens_by_hand(rig: Rig) -> None:
    one, feature, ids, counted, peak = firing(rig)
    got = measure_feature_removal(
        rig.lm, one, feature, ids, counted, sequence=7, window=(peak - 3, peak + 1), peak=peak
    )
    probs = compute_removal_logits(rig.lm, one, feature, ids, counted).softmax(-1)
    loss = [-probs[i, range(19), ids[1:]].log() for i in (0, 1)]
    gained = loss[1] - loss[0]
    assert got.next_loss == pytest.approx(float(gained[peak]), abs=1e-4)
    assert got.window_n == 3
    assert got.window_loss == pytest.approx(float(gained[peak - 3 : peak].sum()), abs=1e-4)
    moved = (probs[1, peak] - probs[0, peak]).abs()
    assert got.tokens[0] == int(moved.argmax())
    assert got.after[0] - got.before[0] == pytest.approx(
        float((probs[1] - probs[0])[peak, got.tokens[0]]), abs=1e-5
    )


def test_a_peak_at_the_end_has_no_next_token(rig: Rig) -> None:
    one, feature, ids, counted, peak = firing(rig)
    got = measure_feature_removal(
        rig.lm,
        one,
        feature,
        ids[: peak + 1],
        counted[: peak + 1],
        sequence=0,
        window=(peak - 2, peak + 1),
        peak=peak,
    )
    assert got.next_loss is None and got.window_n == 2


ONE = RemovalEffect(3, 4, 9, None, -0.25, 5, [1, 2], [0.5, 0.1], [0.25, 0.125])


def test_effects_are_kept_for_their_feature_and_harvest(tmp_path: Path) -> None:
    catalog, feature = Catalog(tmp_path / "catalog.duckdb"), FeatureId("a/b", 3)
    assert read_removal_effects(catalog, "h", feature) == {}
    save_removal_effects(catalog, "h", feature, [ONE])
    save_removal_effects(catalog, "h", feature, [ONE])  # said twice, kept once
    assert read_removal_effects(catalog, "h", feature) == {(3, 4, 9): ONE}
    assert read_removal_effects(catalog, "other", feature) == {}
    assert read_removal_effects(catalog, "h", FeatureId("a/b", 4)) == {}


def test_a_read_only_catalog_answers_and_refuses(tmp_path: Path) -> None:
    catalog, feature = Catalog(tmp_path / "catalog.duckdb"), FeatureId("d", 0)
    save_removal_effects(catalog, "h", feature, [ONE])
    catalog.writable = False
    assert read_removal_effects(catalog, "h", feature)[ONE.key] == ONE
    with pytest.raises(InputError, match="opened read-only"):
        save_removal_effects(catalog, "h", feature, [ONE])
