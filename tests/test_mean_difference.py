"""Directions from texts: planted ones are found, and random ones are as real tokens differ."""

import pytest
import torch

from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.engine_protocol import TokenizedText
from backend.steering.mean_difference import compute_mean_difference
from backend.steering.random_directions import draw_random_directions
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from tests.editing import dictionaries
from tests.models import VOCAB, shared

ENTERS = "blocks.0.hook_resid_pre"


def texts(*words: str) -> list[TokenizedText]:
    """Each BOS and a few words."""
    found = []
    for text in words:
        ids = [0, *(VOCAB.index(word) for word in text.split())]
        found.append(TokenizedText(ids, [False] + [True] * (len(ids) - 1)))
    return found


def planted() -> Dictionary:
    """Random unit directions; feature 5 reads and writes cat's embedding less dog's."""
    words = torch.tensor([[VOCAB.index("cat"), VOCAB.index("dog")]])
    h = shared().activations(words, [ENTERS])[ENTERS][0]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(12, h.shape[1], generator=generator)
    rows[5] = h[0] - h[1]
    rows = rows / rows.norm(dim=-1, keepdim=True)
    coder = AffineCoder(
        rows.T.contiguous(), torch.zeros(12), rows, torch.zeros(16), ThresholdRule(None)
    )
    return Dictionary(
        "planted", *single_sites(ENTERS, ENTERS, coder), "standard", "test", "0" * 64, coder
    )


def test_a_planted_direction_is_found_in_both_spaces():
    cats, dogs = (
        texts("the cat saw a cat", "cat on a house"),
        texts("the dog saw a dog", "dog on a house"),
    )
    one = planted()
    found = compute_mean_difference(shared(), one, cats, dogs, m=3)
    vector = torch.tensor(found.vector.values, dtype=torch.float64)
    assert float(torch.cosine_similarity(vector, one.W_dec[5].double(), dim=0)) > 1 - 1e-6
    assert found.features[0][0] == FeatureId("planted", 5)
    assert found.features[0][1] > 0
    assert found.cosine is not None
    assert found.cosine > 0.6
    assert found.n == (2, 2)
    assert "only 2 texts" in found.notes[0]


@pytest.mark.parametrize("name", ["relu", "topk", "mlp", "heads", "sequence"])
def test_adding_the_vector_once_moves_one_mean_to_the_other(name):
    lm, one = shared(), dictionaries()[name]
    first, second = (
        texts("the cat ran", "a bird ate two red fish"),
        texts("mum saw the lake", "box"),
    )
    found = compute_mean_difference(lm, one, first, second)

    def mean(side: list[TokenizedText], moved: float) -> torch.Tensor:
        rows = [
            lm.activations(torch.tensor([t.token_ids]), [one.hook_out])[one.hook_out][0, 1:].mean(0)
            for t in side
        ]
        return torch.stack(rows).mean(0) + moved * torch.tensor(found.vector.values)

    assert torch.allclose(mean(second, 1.0), mean(first, 0.0), atol=1e-5)
    codes = [
        torch.stack(
            [
                one.encode(
                    lm.activations(torch.tensor([t.token_ids]), [one.hook_name])[one.hook_name]
                )[0, 1:].mean(0)
                for t in side
            ]
        ).mean(0)
        for side in (first, second)
    ]
    for feature, value in found.features:
        assert value == pytest.approx(float((codes[0] - codes[1])[feature.index]), abs=1e-5)


def test_sides_that_cannot_be_compared_are_refused():
    cat = texts("the cat")
    for first, second, said in (
        ([], cat, "at least one text"),
        (cat, cat, "no steering vector"),
        (cat, [TokenizedText([0], [False])], "no ordinary token"),
        (cat * 600, cat, "at most 512"),
    ):
        with pytest.raises(InputError, match=said):
            compute_mean_difference(shared(), planted(), first, second)


def test_random_directions_are_units_between_real_tokens(harvested, rig):
    file = HarvestFile(harvested)
    hook = "blocks.1.hook_resid_post"
    found = draw_random_directions(rig.lm, file, hook, 12)
    assert len(found) == 12
    assert found == draw_random_directions(rig.lm, file, hook, 12)
    assert found != draw_random_directions(rig.lm, file, hook, 12, seed=1)
    for one in found:
        assert float(torch.tensor(one.values).norm()) == pytest.approx(1.0, abs=1e-5)
    file.close()
