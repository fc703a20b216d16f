"""Edits as plain data, the tokens they act on, and what is refused."""

import json
import subprocess
import sys
from dataclasses import astuple, replace

import pytest
import torch

from backend.interventions import concept_posterior, side_effects
from backend.interventions.edit_masks import RowTokens, edit_factors
from backend.interventions.edit_modes import MODES
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.records import (
    Edit,
    EditCondition,
    EditSchedule,
    FrozenLayers,
    SteeringVector,
)
from backend.interventions.token_text import TokenTextDecoder, decode_token_texts
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.editing import POST, dictionaries, edit, text
from tests.models import VOCAB, tokenizer

EDITS = [
    edit("attenuate", "relu/3", "relu/4", read="clean"),
    edit("resample", "a/b/3", where=EditCondition(positions=(1, 2), roles=("user",), bos=True)),
    Edit(
        "add",
        vector=SteeringVector("v", POST, (0.5, -1.0)),
        when=EditSchedule("every", 3),
        percent=3.0,
    ),
    edit(
        "clamp", "relu/3", where=EditCondition("generated", pattern="a+", gate=FeatureId("late", 2))
    ),
]


@pytest.mark.parametrize("one", EDITS)
def test_an_edit_survives_json(one: Edit) -> None:
    assert Edit.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_records_and_modes_load_without_torch() -> None:
    code = "import sys, backend.interventions.records, backend.generation.records;"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_mode_says_what_it_is() -> None:
    for name, mode in MODES.items():
        assert all([mode.formula, mode.unit, mode.help]), name
        assert (mode.neutral is None) == bool(mode.no_neutral), name
        assert mode.neutral is None or mode.usual[0] <= mode.neutral <= mode.usual[1], name


CONSTANT = EditSchedule()
WORDS = ["<s>", "the", "cat", "saw", "the", "dog", ".", "</s>", "the", "park"]


def mask(
    where: EditCondition, when: EditSchedule = CONSTANT, n_prompt: int = 8, roles=(), start: int = 0
) -> str:
    """One character per token of `<s> the cat saw the dog . </s> the park`."""
    line = RowTokens(tokenizer(), n_prompt, roles)
    ids = [VOCAB.index(word) for word in WORDS]
    for part in (ids[:n_prompt], *([token] for token in ids[n_prompt:])):
        line.extend(part, decode=True)
    one = Edit("add", (FeatureId("relu", 3),), where=where, when=when)
    found = edit_factors(one, line, start, 0, {0, 1})
    return "".join(f"{factor:g}" if factor in (0, 1) else "+" for factor in found)


def test_the_default_is_every_ordinary_token() -> None:
    assert mask(EditCondition()) == "0111111011"
    assert mask(EditCondition(special=True)) == "0111111111"
    assert mask(EditCondition(bos=True)) == "1111111011"


def test_parts_and_chosen_positions() -> None:
    assert mask(EditCondition("prompt")) == "0111111000"
    assert mask(EditCondition("generated")) == "0000000011"
    assert mask(EditCondition(positions=(0, 3, 7))) == "1001000100"
    assert mask(EditCondition("generated", positions=(0, 9))) == "0000000001"
    assert mask(EditCondition(), start=6) == "1011"


def test_a_pattern_chooses_tokens_by_their_text() -> None:
    assert mask(EditCondition(pattern="cat|dog")) == "0010010000"
    assert mask(EditCondition(pattern="catsaw")) == "0011000000"
    assert mask(EditCondition(pattern="park$")) == "0000000001"
    assert (
        mask(EditCondition(pattern="the$")) == "0000000010"
    )  # a generated token is judged as it stands


def test_roles_choose_who_speaks() -> None:
    roles = (None, "user", "user", "user", "system", "system", None, None)
    assert mask(EditCondition(roles=("user",)), roles=roles) == "0111000000"
    assert mask(EditCondition(roles=("assistant",)), roles=roles) == "0000000011"


def test_schedules_count_generated_tokens() -> None:
    assert mask(EditCondition("generated"), EditSchedule("first", 1), n_prompt=4) == "0000100000"
    assert mask(EditCondition("generated"), EditSchedule("every", 2), n_prompt=4) == "0000101010"
    assert mask(EditCondition("generated"), EditSchedule("ramp", 4), n_prompt=4) == "0000+++011"


def test_a_gate_opens_only_while_another_feature_fires(tiny_lm: LanguageModel) -> None:
    gate = FeatureId("topk", 3)
    h = tiny_lm.activations(torch.tensor([text()]), [POST])[POST]
    fires = dictionaries()["topk"].encode(h)[0, :, 3] > 0
    fires[0] = False  # BOS
    one = edit("add", "late/3", where=EditCondition(gate=gate))
    got = compute_edited_logits(compile_edits(tiny_lm, dictionaries(), [[one]]), [text()])
    assert ((got.shift["blocks.2.hook_resid_post"][0] > 0) == fires).all()
    assert 0 < fires.sum() < 11
    late = edit("add", "early/3", where=EditCondition(gate=FeatureId("late", 3)))
    with pytest.raises(InputError, match="choose a feature that is read earlier"):
        compute_edited_logits(compile_edits(tiny_lm, dictionaries(), [[late]]), [text()])


REFUSED = [
    ([edit("clmp", "relu/3")], "Did you mean 'clamp'"),
    ([edit("add", "relu/3", strength=float("nan"))], "write a finite number"),
    ([edit("add", "relu/3", strength=1e30)], "overflows"),
    ([edit("add", "rely/3")], "Did you mean 'relu'"),
    ([edit("add", "relu/40")], "has features 0 to 39"),
    ([edit("add", "relu/3"), edit("zero", "relu/3")], "could act at the same token"),
    ([edit("add", "relu/3", "relu/3")], "names a feature twice"),
    ([edit("add", "relu/3", "topk/3")], "features of one dictionary"),
    ([edit("swap", "relu/3")], "takes two features"),
    ([Edit("add_max", (FeatureId("relu", 3),))], "needs the features' maxima"),
    ([Edit("clamp", vector=SteeringVector("v", POST, (1.0,) * 16))], "needs features"),
    ([Edit("add", vector=SteeringVector("v", POST, (1.0,) * 5))], "has 5 values"),
    ([Edit("add", vector=SteeringVector("v", "blocks.7.hook_out", (1.0,)))], "no hook point"),
    ([Edit("add", vector=SteeringVector("v", POST, (0.0,) * 16))], "has no direction"),
    ([edit("add", "relu/3", where=EditCondition(pattern="(("))], "not a regular expression"),
    (
        [
            edit("zero", *(f"relu/{i}" for i in range(40))),
            edit("zero", *(f"topk/{i}" for i in range(25))),
        ],
        "at most 64",
    ),
]


@pytest.mark.parametrize(("edits", "words"), REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(tiny_lm: LanguageModel, edits, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compile_edits(tiny_lm, dictionaries(), [edits])


def test_a_dictionary_of_another_model_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="reads vectors of 12 at blocks.1.hook_resid_post"):
        compile_edits(tiny_lm, dictionaries(12), [[edit("add", "relu/3")]])
    with pytest.raises(InputError, match="has layers 0 to 2"):
        compile_edits(tiny_lm, dictionaries(), [[]], freeze=FrozenLayers(norms=(0, 3)))


def test_two_edits_of_one_feature_may_lie_apart(tiny_lm: LanguageModel) -> None:
    one, two = (
        edit("add", "relu/3", where=EditCondition(part)) for part in ("prompt", "generated")
    )
    compile_edits(tiny_lm, dictionaries(), [[one, two]])
    chosen = [replace(one, where=EditCondition(positions=at)) for at in ((1, 2), (3,))]
    compile_edits(tiny_lm, dictionaries(), [chosen])


def test_numbers_out_of_range_are_an_error_not_a_text(tiny_lm: LanguageModel) -> None:
    edits = [
        Edit(
            "norm_relative",
            vector=SteeringVector("v", f"blocks.{layer}.hook_out", (1.0,) * 16),
            strength=s,
        )
        for layer, s in enumerate([1e18, 1e18, 1e18])
    ]
    with pytest.raises(InputError, match="are not finite: choose smaller strengths"):
        compute_edited_logits(compile_edits(tiny_lm, dictionaries(), [edits]), [text()])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mode": "add", "strenght": 3}, "Did you mean 'strength'"),
        ({"features": ["relu/3"]}, "needs a mode"),
        ({"mode": "add", "strength": "much"}, "write a number"),
        ({"mode": "add", "features": ["relu"]}, "is not a feature"),
        ({"mode": "add", "when": {"n": 0}}, "whole number from 1"),
        ({"mode": "add", "where": {"parts": "promt"}}, "Did you mean 'prompt'"),
    ],
)
def test_edits_from_a_link_are_read_strictly(data: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Edit.from_json(data)


class Bytes:
    """A decoder of one byte per token, as byte-level vocabularies have at worst."""

    def decode(self, ids: list[int], **_: object) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def test_no_character_is_ever_cut_in_two() -> None:
    whole = "naïve 🐢 日本"
    decoder = TokenTextDecoder(Bytes())
    given = [decoder.add(byte) for byte in whole.encode()]
    assert "".join(given) == whole
    assert "\ufffd" not in "".join(given)
    assert decode_token_texts(Bytes(), [0xF0, 0x9F]) == ["", "\ufffd"]  # an end that never came


def test_pieces_join_to_the_text_and_forget() -> None:
    """Longer than what a decoder remembers; read at once or one by one."""
    whole = "naïve 🐢 日本 and much more than a dozen tokens"
    ids = list(whole.encode())
    assert "".join(decode_token_texts(Bytes(), ids)) == whole
    assert decode_token_texts(Bytes(), ids)[:3] == ["n", "a", ""]  # ï is whole with its second byte
    decoder = TokenTextDecoder(Bytes())
    assert [decoder.add(byte) for byte in ids] == decode_token_texts(Bytes(), ids)


def test_repetition_and_nothing_are_seen() -> None:
    assert side_effects.trigram_repetition([1, 2, 3] * 20) == pytest.approx(1 - 3 / 58)
    assert side_effects.trigram_repetition(list(range(60))) == 0
    assert side_effects.trigram_repetition([1] * 19) is None
    assert "repeats itself" in str(side_effects.describe_degeneration([1, 2] * 20, None, None))
    assert "perplexity 90, against 10" in str(
        side_effects.describe_degeneration(list(range(40)), 90.0, 10.0)
    )
    assert side_effects.describe_degeneration(list(range(40)), 20.0, 10.0) is None
    assert "changed nothing" in str(side_effects.describe_no_effect(0.0, 0.0))
    assert side_effects.describe_no_effect(0.5, 0.1) is None


def test_the_posterior_finds_the_feature_that_knows() -> None:
    generator = torch.Generator().manual_seed(0)
    concept = torch.rand(4000, generator=generator) < 0.3
    fires = torch.rand(4000, 2, generator=generator) < torch.where(concept, 0.9, 0.1)[:, None]
    size = 2 + 0.5 * torch.randn(4000, 2, generator=generator)
    size[:, 0] += 3.0 * concept
    f = torch.where(fires, size.clamp_min(0.01), 0.0)
    found = concept_posterior.fit_concept_posteriors(f, concept)
    densities = torch.tensor([astuple(one) for one in found], dtype=torch.double)
    p = -MODES["attenuate"].change(f.double(), torch.ones(4000, 2), densities) / f
    assert p[fires[:, 0] & concept, 0].mean() > 0.97
    assert p[fires[:, 0] & ~concept, 0].mean() < 0.1
    # The second fires alike, so that only how often it does speaks: Bayes by hand.
    want = 0.3 * 0.9 / (0.3 * 0.9 + 0.7 * 0.1)
    assert p[fires[:, 1], 1].mean() == pytest.approx(want, abs=0.05)
    with pytest.raises(InputError, match="give texts with it and texts without"):
        concept_posterior.fit_concept_posteriors(f, torch.zeros(4000, dtype=torch.bool))
