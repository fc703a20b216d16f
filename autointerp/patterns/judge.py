"""Does a feature with this label fire here? Answered from the label's text and the tokens alone.

The judge never sees the feature: a borrowed label, one that says nothing, a person's words and a
pattern sentence are all read by the same rules. Patterns that match are taken for independent
chances to fire: 1 − (1 − FLOOR) · Π (1 − rate) over the tokens of the window.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from autointerp.patterns.matching import Matcher
from autointerp.patterns.reading import WORD, stem, understood
from autointerp.windows import Example

UNKNOWN = 0.5
"""For a label that says nothing that could be looked for: the same in every text."""
FLOOR = 0.3
"""That the feature fires in a window where nothing matches, if every second window fires: no label
says all."""
WORD_RATE = 0.7
"""That it fires on a word of a label in plain words."""


def fires(label: str, example: Example) -> float:
    """The probability, from 0 to 1, that a feature with this label fires in the window."""
    if understood(label).empty:
        return UNKNOWN
    silent = math.prod(1 - rate for rate in rates(label, example.tokens) if rate)
    return 1 - (1 - FLOOR) * silent


def where(label: str, tokens: Sequence[str]) -> list[float]:
    """For each token the probability that the feature fires on it; all alike if nothing is said."""
    if understood(label).empty:
        return [UNKNOWN] * len(tokens)
    return rates(label, tokens)


def rates(label: str, tokens: Sequence[str]) -> list[float]:
    """For each token the rate of what matches there, 0 for nothing."""
    if stems := understood(label).stems:
        return on_words(stems, tokens)
    return matcher(label).rates(tokens)


@lru_cache(maxsize=4096)
def matcher(label: str) -> Matcher:
    """The patterns of a label, ready to be looked for."""
    return Matcher(understood(label).patterns)


def on_words(stems: frozenset[str], tokens: Sequence[str]) -> list[float]:
    """WORD_RATE on the last token of each word of the text that has one of the stems."""
    found, ends, text = [0.0] * len(tokens), [], ""
    for token in tokens:
        text += token
        ends.append(len(text))
    at = 0
    for word in WORD.finditer(text):
        while ends[at] < word.end():
            at += 1
        if stem(word[0]) in stems:
            found[at] = WORD_RATE
    return found
