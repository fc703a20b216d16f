"""Does a feature with this label fire here? Answered from the label's text and the tokens alone.

The judge never sees the feature: a borrowed label, one that says nothing, a person's words and a
pattern sentence are all read by the same rules. Patterns that match are taken for independent
chances to fire: 1 − (1 − FLOOR) · Π (1 − rate) over the tokens of the window.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from autointerp.patterns.label_reader import WORD_PATTERN, read_label, stem_word
from autointerp.patterns.pattern_matcher import PatternMatcher
from autointerp.text_windows import TextWindow

UNKNOWN_PROBABILITY = 0.5
"""For a label that says nothing that could be looked for: the same in every text."""
UNMATCHED_PROBABILITY = 0.3
"""That the feature fires in a window where nothing matches, if every second window fires: no label
says all."""
WORD_RATE = 0.7
"""That it fires on a word of a label in plain words."""


def firing_probability(label: str, example: TextWindow) -> float:
    """The probability, from 0 to 1, that a feature with this label fires in the window."""
    if read_label(label).empty:
        return UNKNOWN_PROBABILITY
    silent = math.prod(1 - rate for rate in matched_rates(label, example.tokens) if rate)
    return 1 - (1 - UNMATCHED_PROBABILITY) * silent


def token_firing_probabilities(label: str, tokens: Sequence[str]) -> list[float]:
    """For each token the probability that the feature fires on it; all alike if nothing is said."""
    if read_label(label).empty:
        return [UNKNOWN_PROBABILITY] * len(tokens)
    return matched_rates(label, tokens)


def matched_rates(label: str, tokens: Sequence[str]) -> list[float]:
    """For each token the rate of what matches there, 0 for nothing."""
    if stems := read_label(label).stems:
        return rate_words_by_stem(stems, tokens)
    return get_matcher(label).rates(tokens)


@lru_cache(maxsize=4096)
def get_matcher(label: str) -> PatternMatcher:
    """The patterns of a label, ready to be looked for."""
    return PatternMatcher(read_label(label).patterns)


def rate_words_by_stem(stems: frozenset[str], tokens: Sequence[str]) -> list[float]:
    """WORD_RATE on the last token of each word of the text that has one of the stems."""
    found, ends, text = [0.0] * len(tokens), [], ""
    for token in tokens:
        text += token
        ends.append(len(text))
    at = 0
    for word in WORD_PATTERN.finditer(text):
        while ends[at] < word.end():
            at += 1
        if stem_word(word[0]) in stems:
            found[at] = WORD_RATE
    return found
