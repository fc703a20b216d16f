"""Directions compared: cosines by hand, one space at a time; the lens is that of the harvest."""

import numpy as np
import pytest
import torch

from backend.engine import LocalEngine
from backend.features import direction_cosines
from backend.features.logit_lens import map_to_residual_stream
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from tests.dictionaries import at_hooks
from tests.harvests import Rig


@pytest.fixture(scope="module")
def local(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def test_cosines_are_those_of_rows_and_columns_of_one_hook(local: LocalEngine) -> None:
    name, one = next(iter(local.dictionaries.items()))
    pair = [FeatureId(name, 1), FeatureId(name, 5)]
    found = local.pairwise_cosines(pair, "decoder")
    want = torch.cosine_similarity(one.W_dec[1], one.W_dec[5], dim=0)
    assert found[0][1] == found[1][0] == pytest.approx(float(want), abs=1e-6)
    assert found[0][0] == pytest.approx(1)
    W_enc = one.W_enc
    assert W_enc is not None
    want = torch.cosine_similarity(W_enc[:, 1], W_enc[:, 5], dim=0)
    assert local.pairwise_cosines(pair, "encoder")[0][1] == pytest.approx(float(want), abs=1e-6)


def test_the_nearest_are_those_of_a_full_comparison(
    local: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any number of chunks; and a feature is nearest to itself."""
    monkeypatch.setattr(direction_cosines, "ROWS_PER_CHUNK", 7)
    for name, one in local.dictionaries.items():
        found = local.find_nearest(FeatureId(name, 3), name, 4)
        assert found is not None and found[0] == (3, pytest.approx(1, abs=1e-5))
        rows = map_to_residual_stream(local.lm, one.W_dec, one.hook_out)
        rows = one.W_dec if rows is None else rows
        full = torch.cosine_similarity(rows, rows[3:4], dim=-1).topk(4)
        assert [value for _, value in found] == pytest.approx(full.values.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("hook", "side", "same"),
    [
        ("blocks.0.hook_resid_post", "decoder", True),
        ("blocks.0.hook_resid_post", "encoder", True),
        ("blocks.1.attn.hook_z", "decoder", True),  # through W_O into the stream
        ("blocks.1.attn.hook_z", "encoder", False),
        ("blocks.1.hook_mlp_out", "decoder", True),
        ("blocks.1.hook_mlp_out", "encoder", False),
        ("blocks.1.mlp.hook_post", "decoder", False),
    ],
)
def test_spaces(rig: Rig, hook: str, side: direction_cosines.EncoderOrDecoder, same: bool) -> None:
    """A cosine exists exactly where two features live in one space."""
    (stream,) = [one for one in rig.found if one.name == "relu"]
    other = at_hooks(stream, reads=hook, writes=hook)
    known = {"a": stream, "b": other}
    pair = [FeatureId("a", 0), FeatureId("b", 2)]
    assert (
        direction_cosines.compute_pairwise_cosines(rig.lm, known, pair, side)[0][1] is not None
    ) == same
    if side == "decoder":
        assert (
            direction_cosines.find_nearest_features(rig.lm, stream, 0, other, 2) is not None
        ) == same


def test_the_lens_holds_what_the_harvest_kept(local: LocalEngine, harvested) -> None:
    file = HarvestFile(harvested)
    for name in local.dictionaries:
        facts = file.facts(FeatureId(name, 2))
        values = local.logit_lens(FeatureId(name, 2))
        assert (values is None) == (facts.promoted_tokens is None)
        if values is not None and facts.promoted_values:
            n = len(facts.promoted_values)
            kept = np.array(facts.promoted_values)
            assert np.sort(values)[::-1][:n] == pytest.approx(kept, rel=1e-3, abs=1e-4)
