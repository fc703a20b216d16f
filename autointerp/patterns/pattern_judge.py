"""Pattern judge: predicts from a label's text and the tokens alone whether a feature with this
label fires.

The judge never sees the feature: a borrowed label, an empty one, a person's words and a pattern
sentence are all read by the same rules. Matching patterns are taken as independent chances to fire:
1 − (1 − UNMATCHED_PROBABILITY) · Π (1 − rate) over the tokens of the window.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from autointerp.patterns.label_reader import WORD_PATTERN, read_label, stem_word
from autointerp.patterns.pattern_matcher import PatternMatcher
from autointerp.text_windows import TextWindow

UNKNOWN_PROBABILITY = 0.5
"""Probability to fire under a label without any words or patterns to search for: the same in every
text."""
UNMATCHED_PROBABILITY = 0.3
"""Probability that the feature fires in a window where no pattern matches, if every second window
fires: no label is complete."""
WORD_RATE = 0.7
"""Probability that the feature fires on a word of a label in plain words."""


def firing_probability(label: str, window: TextWindow) -> float:
    """Return the probability, from 0 to 1, that a feature with this label fires in the window, as
    the pattern judge predicts."""
    if read_label(label).is_empty:
        return UNKNOWN_PROBABILITY
    silent = math.prod(1 - rate for rate in matched_rates(label, window.tokens) if rate)
    return 1 - (1 - UNMATCHED_PROBABILITY) * silent


def token_firing_probabilities(label: str, tokens: Sequence[str]) -> list[float]:
    """Return for each token the probability that a feature with this label fires on it, as the
    pattern judge predicts; all equal for an empty label."""
    if read_label(label).is_empty:
        return [UNKNOWN_PROBABILITY] * len(tokens)
    return matched_rates(label, tokens)


def matched_rates(label: str, tokens: Sequence[str]) -> list[float]:
    """Return for each token the rate of the label's pattern that matches there; 0 for none."""
    if stems := read_label(label).stems:
        return rate_words_by_stem(stems, tokens)
    return get_matcher(label).rates(tokens)


@lru_cache(maxsize=4096)
def get_matcher(label: str) -> PatternMatcher:
    """Return the pattern matcher of a label, cached."""
    return PatternMatcher(read_label(label).patterns)


def rate_words_by_stem(stems: frozenset[str], tokens: Sequence[str]) -> list[float]:
    """Return the pattern judge's rate for each token under a label in plain words: WORD_RATE on the
    last token of each word with one of the stems, 0 elsewhere."""
    rates, ends, text = [0.0] * len(tokens), [], ""
    for token in tokens:
        text += token
        ends.append(len(text))
    number = 0
    for word in WORD_PATTERN.finditer(text):
        # the token in which the word ends
        while ends[number] < word.end():
            number += 1
        if stem_word(word[0]) in stems:
            rates[number] = WORD_RATE
    return rates
