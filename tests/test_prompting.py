"""What an explainer is shown: the explain split alone, strong tokens marked, nothing invented."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from autointerp.explanation_prompt import (
    list_strongest_tokens,
    make_explanation_prompt,
    mark_strong_tokens,
)
from feature_store.errors import InputError
from feature_store.records import Context, FeatureId, FeaturePayload
from tests.stores import DEAD, make_store

TOKENS = ["The", " cat", " sat", " on", " it"]


def context(**changes: object) -> Context:
    """The cat, 4 strong; `on`, 1; a window that begins at position 10."""
    one = Context("top", 0, None, "explain", 0, 0, 10, 5, 11, 4.0, [11, 13], [4.0, 1.0])
    return replace(one, **changes)


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> FeaturePayload:
    store = make_store(tmp_path_factory.mktemp("prompt") / "store")
    return store.harvest().payload(FeatureId("abs", 3))


def test_tokens_from_half_the_maximum_on_are_marked() -> None:
    assert mark_strong_tokens(context(), TOKENS, 4.0) == "The« cat» sat on it"
    assert mark_strong_tokens(context(), TOKENS, 2.0) == "The« cat» sat« on» it"
    assert mark_strong_tokens(context(), TOKENS, 9.0) == "The cat sat on it"


def test_the_magnitude_marks_a_negative_one() -> None:
    negative = context(value=-4.0, activations=[-4.0, -1.0])
    assert mark_strong_tokens(negative, TOKENS, 4.0) == "The« cat» sat on it"
    assert list_strongest_tokens(negative, TOKENS, 4.0) == "' cat' 10, ' on' 2"


def test_activations_are_listed_from_0_to_10_strongest_first() -> None:
    assert list_strongest_tokens(context(), TOKENS, 4.0) == "' cat' 10, ' on' 2"
    many = context(positions=list(range(10, 15)), activations=[0.1, 3.0, 4.0, 2.0, 1.0])
    assert (
        list_strongest_tokens(many, TOKENS, 4.0) == "' sat' 10, ' cat' 8, ' on' 5, ' it' 2, 'The' 0"
    )


def numbers(prompt: str) -> list[str]:
    """Those before its texts."""
    return re.findall(r"^(\d+)\. ", prompt, re.M)


def test_the_score_split_stays_unseen(payload: FeaturePayload) -> None:
    """What a scorer will ask, changed at will, changes nothing in the prompt."""
    prompt = make_explanation_prompt(payload, ["a"], 50)
    kept = [c for c in payload.contexts if c.split == "explain" and c.stratum == "top"]
    assert len(numbers(prompt)) == len(kept) == 10
    pairs_ = zip(payload.contexts, payload.tokens, strict=True)
    other = [t if c.split == "explain" else ["CHANGED"] * len(t) for c, t in pairs_]
    assert make_explanation_prompt(replace(payload, tokens=other), ["a"], 50) == prompt


def test_only_as_many_as_asked_for_and_the_strongest(payload: FeaturePayload) -> None:
    three, more = (
        make_explanation_prompt(payload, ["a"], 3),
        make_explanation_prompt(payload, ["a"], 50),
    )
    assert numbers(three) == ["1", "2", "3"]
    assert more.startswith(three.split("\n\nTokens that")[0])


def test_every_field_of_the_template_is_filled(payload: FeaturePayload) -> None:
    prompt = make_explanation_prompt(payload, [" he", "\n"], 2)
    assert "more likely to come next: ' he', '\\n'" in prompt
    assert "{texts}" not in prompt and "{promoted}" not in prompt
    assert "more likely to come next: not known" in make_explanation_prompt(payload, [], 2)


def test_braces_in_a_corpus_are_text(payload: FeaturePayload) -> None:
    braces = [["{x}"] * len(tokens) for tokens in payload.tokens]
    assert "{x}" in make_explanation_prompt(replace(payload, tokens=braces), ["{promoted}"], 2)


def test_a_feature_without_explain_contexts_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    with pytest.raises(InputError) as refused:
        make_explanation_prompt(store.harvest().payload(FeatureId("resid", DEAD)), [], 5)
    assert str(refused.value) == f"resid/{DEAD} has no context in the explain split to show."
