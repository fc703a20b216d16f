"""Generation and intervention, by judges that play rules and by patterns: values by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from autointerp.scorers.pattern_texts import (
    drop_special_token,
    find_insertion_points,
    label_phrases,
    split_pieces,
    write_pattern_texts,
)
from autointerp.scorers.scorer_interface import SteeredPair
from feature_store.records import FeatureId
from tests.openai_server import Body, Rule, Said
from tests.scoring import CAT, alone, asked, play, said, window, windows


# Generation ----------------------------------------------------------------------------------
def writer(texts: Sequence[str]) -> Rule:
    return lambda body: json.dumps({"texts": list(texts)})


async def counts_cats(feature: FeatureId, texts: Sequence[str]) -> np.ndarray:
    assert feature == FeatureId("d", 3)
    return np.array([5.0 * text.count(CAT) for text in texts], np.float32)


def test_generation_by_hand() -> None:
    """Of each five texts two hold the word: two fifths, whatever the call."""
    texts = [" a cat", " the cat", " a dog", " cats, no: Cat", " fish"]
    found = play("generation", writer(texts), windows(), activates=counts_cats)
    expected = sum(CAT in t for t in texts) / 5
    assert found.value.value == pytest.approx(expected) == found.parts["fires"].value
    assert found.value.n == 25 and found.value.n_documents == 5 and len(found.calls) == 5
    assert found.detail["texts"][:5] == texts and found.detail["window density"] == 0.1


@pytest.mark.parametrize(("texts", "value"), [([" cat"] * 5, 1.0), ([" dog"] * 5, 0.0)])
def test_generation_perfect_and_useless(texts: list[str], value: float) -> None:
    found = play("generation", writer(texts), windows(), activates=counts_cats)
    assert found.value.value == value


def test_generation_weak_firing_is_not_above_the_lowest_decile() -> None:
    async def weak(feature: FeatureId, texts: Sequence[str]) -> np.ndarray:
        return np.array([0.5, -0.5, 9.0, -9.0, math.nan] * 5)

    found = play("generation", writer(["a"] * 5), windows(), activates=weak)
    assert found.value.value == 0.5 and found.parts["fires"].value == 1.0
    assert found.failed == 5 and found.value.n == 20


@pytest.mark.parametrize("bad", [[" cat"] * 4, [*[" cat"] * 4, " \n"]])
def test_generation_with_a_failed_call(bad: list[str]) -> None:
    def rule(body: Body) -> str:
        return json.dumps({"texts": bad if body["seed"] == 1003 else [" cat"] * 5})

    found = play("generation", rule, windows(), activates=counts_cats)
    assert found.failed == 5 and found.value.n == 20 and found.value.value == 1.0


def test_schemas_hold_only_what_servers_take_in_strict_mode() -> None:
    known = {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "enum",
        "minimum",
        "maximum",
    }
    seen: list[Body] = []
    for name in ("detection", "simulation", "intruder", "generation", "intervention"):
        play(
            name,
            lambda b: seen.append(b) or "no",
            windows(n_random=30),
            activates=counts_cats,
            steers=steers,
        )
    for body in seen:
        schema = body["response_format"]["json_schema"]["schema"]
        (part,) = schema["properties"].values()
        assert {*schema, *part, *part.get("items", {})} <= known


# Intervention --------------------------------------------------------------------------------
async def steers(feature: FeatureId, n: int) -> list[SteeredPair]:
    return [SteeredPair(f"Prompt {i}", " a dog", " a cat", 1.0, 4.0) for i in range(n)]


def letter_with_cat(body: Body) -> str:
    return next(k for k in "AB" if f'{k}: " a cat"' in asked(body))


def letter(choice: str) -> str:
    return json.dumps({"answer": choice})


def test_intervention_perfect_inverted_and_constant() -> None:
    swap = {"A": "B", "B": "A"}
    rules: dict[float, Rule] = {
        1.0: lambda b: letter(letter_with_cat(b)),
        0.0: lambda b: letter(swap[letter_with_cat(b)]),
        0.5: lambda b: letter("A"),  # whatever stands first
    }
    for value, rule in rules.items():
        found = play("intervention", rule, windows(), steers=steers)
        assert found.value.value == value and found.value.n == 40 and found.failed == 0
        assert found.value.n_documents == 20
        assert found.parts["log odds"].value is None  # no probabilities


def test_intervention_log_odds_are_free_of_preference_for_a_letter() -> None:
    """P(A) is 0.9 where A is steered and 0.6 where B is: odds of 9 and of 2 ÷ 3; mean of logs."""

    def rule(body: Body) -> Said:
        number = int(asked(body).split("Prompt ")[1].split('"')[0])
        p = (0.9 if letter_with_cat(body) == "A" else 0.6) - 0.001 * number
        return said([("A", {"A": math.log(p), "B": math.log(1 - p)})], letter("A"))

    found = play("intervention", rule, windows(), steers=steers)

    def odds(p: float) -> float:
        return math.log(p / (1 - p))

    each = [(odds(0.9 - 0.001 * i) - odds(0.6 - 0.001 * i)) / 2 for i in range(20)]
    assert found.parts["log odds"].value == pytest.approx(np.mean(each), rel=1e-6)
    assert found.parts["log odds"].n == 20


def test_intervention_leaves_out_what_missed_the_kl() -> None:
    async def some(feature: FeatureId, n: int) -> list[SteeredPair]:
        made = await steers(feature, n)
        return [replace(one, kl=0.4) if i < 5 else one for i, one in enumerate(made)]

    found = play("intervention", lambda b: letter(letter_with_cat(b)), windows(), steers=some)
    assert found.failed == 5 and found.value.n == 30 and found.value.value == 1.0
    assert {row.failed for row in found.judged if row.answer is None} == {"KL missed"}


# Without a language model ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("fires on “cat”", 1.0),
        ("makes “cat” likelier", 1.0),
        ("cats", 1.0),
        ("fires on “dog”", 0.0),
        ("Anything at all.", 0.5),
        ("fires on “fish”", 0.5),
    ],
)
def test_intervention_by_patterns(label: str, value: float) -> None:
    """The word or what is promoted stands in the steered text; without a difference, one half."""
    found = alone("intervention", windows(), label, steers=steers)
    assert found.value.value == value and found.value.n == 40 and not found.calls


def test_generation_by_patterns() -> None:
    """The pattern is put into silent windows; a label that says nothing writes nothing."""
    found = alone("generation", windows(), "fires on “cat” after “the”", activates=counts_cats)
    assert found.value.value == 1.0 and found.value.n == 25 and found.value.n_documents == 25
    assert all(" the cat" in text and "Text r" in text for text in found.detail["texts"])
    wrong = alone("generation", windows(), "fires on “fish”", activates=counts_cats)
    assert wrong.value.value == 0.0
    none = alone("generation", windows(), "Anything at all.", activates=counts_cats)
    assert none.value.value is None and not none.detail["texts"] and none.failed == 0


def test_texts_begin_without_the_token_that_begins_sequences() -> None:
    one = replace(window(200, "random"), tokens=("<s>", "Go", " on"))
    assert (
        drop_special_token(one)
        == ("Go", " on")
        == drop_special_token(replace(one, tokens=("<|endoftext|>", "Go", " on")))
    )
    assert drop_special_token(replace(one, start=4))[0] == "<s>"
    assert find_insertion_points(["Un", "happy", " cat", "s", "."]) == [
        2,
        4,
    ] and find_insertion_points(["x"]) == [1]
    texts = write_pattern_texts("fires on “cat”", [one], 3, np.random.default_rng(0))
    assert set(texts) <= {"Go cat on", "Go on cat"}


def test_what_patterns_look_like_in_a_text() -> None:
    dice, seen = np.random.default_rng(0), windows().random
    assert label_phrases("fires on “,” after “and”", seen, dice) == [" and,"]
    assert label_phrases("parked cars", seen, dice) == [" parked", " cars"]
    assert label_phrases("fires on words beginning with “do”", seen, dice) == [" dog"]
    assert label_phrases("fires on numbers", seen, dice) == []
    assert label_phrases("fires on “a”; sometimes on “b”", seen, dice) == [" a"]
    assert split_pieces("It's 12 cats,\n\nno  more_ ") == [
        "It",
        "'",
        "s",
        " 12",
        " cats",
        ",",
        "\n\n",
        "no",
        "  more",
        "_",
        " ",
    ]
