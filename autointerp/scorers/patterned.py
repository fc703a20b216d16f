"""What a label's patterns say of a text that a model wrote, and texts written from them.

No language model is asked. Texts have no tokens here, so they are cut where words and signs begin.
"""

import re
from collections.abc import Sequence

import numpy as np

from autointerp.patterns.judge import where
from autointerp.patterns.reading import WORD, stem, understood
from autointerp.patterns.records import Pattern
from autointerp.patterns.sentence import parse
from autointerp.patterns.shapes import SHAPES, core
from autointerp.windows import Example

PIECE = re.compile(r"[^\S\n]*(?:[^\W\d_]+|\d+|\n\s*|[^\w\s]|_+)|\s+")
SPECIAL = re.compile(r"<\|?\w+\|?>")
"""What begins a sequence as vocabularies write it: in a text it would be read as signs."""
OFTEN = 0.5
"""Patterns of this rate or above are written, if there are any."""


def pieces(text: str) -> list[str]:
    """Words, numbers and signs, each with the blanks before it; joined they are the text."""
    return PIECE.findall(text)


def shows(label: str, text: str) -> float:
    """The mean over a text's pieces of how far each is what the label fires on (its rate) or
    promotes (1); 0 for an empty text."""
    cut = pieces(text)
    if not cut or understood(label).empty and not promoted(label):
        return 0.0
    fired = where(label, cut) if not understood(label).empty else [0.0] * len(cut)
    made = {core(token) for token in promoted(label)}
    return sum(
        max(rate, float(core(one) in made)) for rate, one in zip(fired, cut, strict=True)
    ) / len(cut)


def promoted(label: str) -> tuple[str, ...]:
    """What a pattern sentence says to be likelier."""
    rule = parse(label)
    return rule.promoted if rule else ()


def written(label: str, silent: Sequence[Example], n: int, dice: np.random.Generator) -> list[str]:
    """`n` texts in which the label's patterns stand: each put into a silent window, at a random
    place. Fewer where no pattern can be written, as from a label that says nothing."""
    said = phrases(label, silent, dice)
    if not said or not silent:
        return []
    found = []
    for number in range(n):
        tokens = plain(silent[int(dice.integers(len(silent)))])
        cut = cuts(tokens)
        at = cut[int(dice.integers(len(cut)))]
        found.append("".join((*tokens[:at], said[number % len(said)], *tokens[at:])))
    return found


def plain(example: Example) -> tuple[str, ...]:
    """A window's tokens without the one that begins its sequence."""
    special = example.start == 0 and SPECIAL.fullmatch(example.tokens[0])
    return example.tokens[1:] if special else example.tokens


def cuts(tokens: Sequence[str]) -> list[int]:
    """Where a word or sign begins: nothing is put into the middle of a word."""
    return [i for i in range(1, len(tokens)) if not tokens[i][:1].isalnum()] or [len(tokens)]


def phrases(label: str, windows: Sequence[Example], dice: np.random.Generator) -> list[str]:
    """What the label's patterns look like in a text, with the blank before it."""
    reading = understood(label)
    if reading.stems:
        words = [word for word in WORD.findall(label) if stem(word) in reading.stems]
        return [f" {word}" for word in dict.fromkeys(words)]
    strong = [p for p in reading.patterns if p.rate >= OFTEN] or list(reading.patterns)
    seen = [token for window in windows for token in window.tokens if token]
    found = [phrase(pattern, seen, dice) for pattern in strong]
    return [one for one in found if one]


def phrase(pattern: Pattern, seen: Sequence[str], dice: np.random.Generator) -> str:
    """One pattern as text; empty where no token of the windows is of its kind."""
    target = pattern.target
    if pattern.kind != "token":
        fits = (
            (lambda t: SHAPES[target]([t], 0))
            if pattern.kind == "shape"
            else (lambda t: core(t).startswith(target) and core(t) != target)
        )
        like = [core(token) for token in seen if fits(token)]
        if not like:
            return ""
        target = like[int(dice.integers(len(like)))]
    return spaced(core(pattern.after)) + spaced(target) if pattern.after else spaced(target)


def spaced(text: str) -> str:
    """With a blank before a word or an opening sign; other signs follow at once."""
    return f" {text}" if text[:1].isalnum() or text[:1] in "“\"'([{<" else text
