"""Contexts as lines of visible tokens: pure data for the page's one token component.

Text leaves here as data and enters the page as text nodes, never as markup.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from feature_store import feature_summaries
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context

REACH = 16
"""Tokens shown on either side of the peak."""
NEAR = 4
"""Tokens on either side of the peak that decide whether two contexts are alike."""
DIGIT = re.compile(r"\d")
SPACE, PIECE = "·", "◌"
"""Stand-ins for a space that would not be seen, and for a token inside a character."""
MARKS = {"\n": "↵", "\t": "⇥", "\r": "␍"}
JOINERS = "\u200c\u200d"
"""Invisible, but part of how emoji and some scripts are drawn."""
HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Co", "Cn"}
"""Unicode categories that draw nothing, or that turn the text around them."""


@dataclass(frozen=True)
class ContextLine:
    """One context, from REACH tokens before its peak to REACH after it."""

    value: float
    """Activation at the peak, with its sign."""
    peak: int
    """Index into `texts`, like `stored` and the first of each pair of `acts`."""
    position: int
    """Of the first token, counted from the sequence's start."""
    stored: tuple[int, int]
    """Where the stored window begins and ends (half open): outside, activations are unknown."""
    ids: list[int]
    texts: list[str]
    breaks: list[int]
    """Tokens after which a new line begins."""
    acts: list[tuple[int, float]]
    """(index, activation) of the active tokens."""
    split: str
    document: str
    plain: dict[int, str]
    """Index → the token's own text, where `texts` shows something else for it."""
    marked: bool = True
    """False where `peak` is only the middle of a window in which nothing fires."""


@lru_cache(maxsize=1 << 16)
def visible(text: str) -> str:
    """A token with its whitespace and control characters drawn; a leading space stays a space."""
    if text and not text.strip(" "):
        return SPACE * len(text)
    shown = "".join(drawn(char, text) for char in text)
    body = shown.rstrip(" ")
    shown = body + SPACE * (len(shown) - len(body))
    shown = shown.replace("  ", SPACE * 2)
    if shown and unicodedata.category(shown[0]) == "Mn":
        return PIECE + shown  # an accent without a letter
    return shown


def drawn(char: str, text: str) -> str:
    """One character, or what stands for it."""
    if char in MARKS:
        return MARKS[char]
    if char in JOINERS and text.strip(JOINERS):
        return char
    return f"<U+{ord(char):04X}>" if unicodedata.category(char) in HIDDEN else char


def line(
    context: Context,
    begin: int,
    ids: np.ndarray,
    texts: Sequence[str],
    document: str,
    *,
    marked: bool = True,
) -> ContextLine:
    """What the page shows of a context.

    `ids` and `texts` are the tokens from position `begin` on; `texts` as Vocabulary.display gives
    them, so a token inside a character is empty: it is drawn only where the feature is active.
    """
    end = begin + len(texts)
    acts = [
        (position - begin, round(value, 5))
        for position, value in zip(context.positions, context.activations, strict=True)
        if begin <= position < end
    ]
    active = {index for index, _ in acts}
    low, high = context.start - begin, context.start + context.length - begin
    shown = [visible(t) or (PIECE if i in active else "") for i, t in enumerate(texts)]
    return ContextLine(
        value=context.value,
        peak=context.peak - begin,
        position=begin,
        stored=(max(low, 0), min(high, len(texts))),
        ids=ids.tolist(),
        texts=shown,
        breaks=[i for i, text in enumerate(texts) if text.endswith("\n")],
        acts=acts,
        split=context.split,
        document=document,
        plain={i: t for i, (t, s) in enumerate(zip(texts, shown, strict=True)) if t != s},
        marked=marked,
    )


def alike(lines: Sequence[ContextLine]) -> list[int]:
    """For each line the index of the first one that reads the same around its peak."""
    first: dict[str, int] = {}
    return [first.setdefault(gist(found), i) for i, found in enumerate(lines)]


def gist(found: ContextLine) -> str:
    """The words within NEAR tokens of the peak: case, spaces and which digit left out."""
    near = range(max(found.peak - NEAR, 0), min(found.peak + NEAR + 1, len(found.texts)))
    text = "".join(found.plain.get(i, found.texts[i]) for i in near)
    return DIGIT.sub("0", " ".join(text.casefold().split()))


def promotes(
    file: HarvestFile, features: Sequence[tuple[str, int]], n: int = 3
) -> dict[tuple[str, int], str]:
    """(dictionary, index) → the tokens that the feature promotes most, in one line."""
    text = file.vocabulary.text
    found = feature_summaries.read_promoted_tokens(file, features, n)
    return {one: " ".join(visible(text(token)) for token in ids) for one, ids in found.items()}
