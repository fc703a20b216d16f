"""Patterns learnt from windows: what is planted is found, and only the explain split is read."""

from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from autointerp.patterns import learn_patterns, render_rule
from autointerp.patterns.pattern_learner import PatternTrainingSet
from autointerp.patterns.pattern_matcher import PatternMatcher
from autointerp.patterns.token_patterns import ADVERB_RATES, TokenPattern
from autointerp.patterns.token_shapes import ANYTHING
from tests.sampled import planted

WORDS = ["the", " cat", " dog", " ran", " to", " a", " park", " Anna", " 12", ".", " sp", "ark"]


def test_planted_tokens_are_found() -> None:
    """A feature of two tokens, one of them only after another, is described by just these."""
    one = planted(lambda t, i: t[i] == " dog" or (t[i] == " park" and t[i - 1] == " a"), WORDS)
    assert render_rule(learn_patterns(one).rule).startswith(
        "fires on “dog”, “park” after “a”; makes “when”"
    )


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        (lambda t, i: t[i] in (" 12", " 7", " 1999"), TokenPattern("shape", "numbers")),
        (lambda t, i: t[i] in (" unkind", " undo", " unlit"), TokenPattern("beginning", "un")),
        (lambda t, i: i > 0 and t[i - 1] == " to", TokenPattern("shape", ANYTHING, "to")),
    ],
)
def test_planted_kinds_are_found(rule: Any, pattern: TokenPattern) -> None:
    """What is common to several tokens is said once."""
    words = [*WORDS, " 7", " 1999", " unkind", " undo", " unlit"]
    assert pattern in learn_patterns(planted(rule, words)).rule.patterns


def test_counts_are_those_of_the_judge() -> None:
    """Every candidate occurs exactly where the judge would find it, and no key is left out."""
    one = planted(lambda t, i: t[i] == " dog", WORDS)
    texts = PatternTrainingSet(one.explain, one.explain_random)
    tokens = [w.tokens for w in texts.windows]
    for candidate in texts.candidates():
        found = [r for each in tokens for r in PatternMatcher([candidate.pattern]).rates(each)]
        assert np.flatnonzero(found).tolist() == candidate.positions.tolist(), candidate.pattern


def test_the_rate_says_how_often() -> None:
    """The adverb is the one nearest to the share of occurrences that fire in the windows."""
    count = iter(range(10**6))
    one = planted(lambda t, i: t[i] == " dog" and next(count) % 3 == 0, WORDS)
    learnt = learn_patterns(one)
    windows = [*one.explain, *one.explain_more, *one.explain_random]
    acts = [a for w in windows for t, a in zip(w.tokens, w.activations, strict=True) if t == " dog"]
    place = [(p.target, p.after) for p in learnt.rule.patterns].index(("dog", None))
    assert (learnt.seen[place], learnt.fired[place]) == (len(acts), np.count_nonzero(acts))
    often = learnt.rule.patterns[place].often
    assert often == min(
        ADVERB_RATES, key=lambda word: abs(ADVERB_RATES[word] - np.count_nonzero(acts) / len(acts))
    )
    assert often in ("sometimes", "often")


def test_the_score_split_is_not_read() -> None:
    """Nor the token that the whole harvest counted: other ones change nothing."""
    one = planted(lambda t, i: t[i] == " dog", WORDS)
    other = replace(one, positives=(), random=(), hard=(), top_token="x")
    assert learn_patterns(other) == learn_patterns(one)


def test_there_is_always_something_to_say() -> None:
    """Firings that nothing explains are named by where they were seen."""
    one = planted(lambda t, i: crc32(f"{t}{i}".encode()) % 50 == 0, WORDS)
    few = replace(one, explain=one.explain[:1], explain_more=(), explain_random=(), explain_hard=())
    assert learn_patterns(few).rule.patterns
