"""Pattern texts: how much a text that a model wrote shows a label's patterns, and texts written
from these patterns, without any language model.

These texts have no tokens, so they are cut where words and signs begin.
"""

import re
from collections.abc import Sequence

import numpy as np

from autointerp.patterns.label_reader import WORD_PATTERN, read_label, stem_word
from autointerp.patterns.pattern_judge import token_firing_probabilities
from autointerp.patterns.pattern_sentence import parse_rule
from autointerp.patterns.token_patterns import TokenPattern
from autointerp.patterns.token_shapes import TOKEN_SHAPES, strip_token
from autointerp.text_windows import TextWindow

PIECE_PATTERN = re.compile(r"[^\S\n]*(?:[^\W\d_]+|\d+|\n\s*|[^\w\s]|_+)|\s+")
SPECIAL_TOKEN = re.compile(r"<\|?\w+\|?>")
"""The token that begins a sequence, as vocabularies write it: in a text it would be read as
signs."""
MIN_WRITTEN_RATE = 0.5
"""Rate from which patterns are written into texts, if there are any."""


def split_pieces(text: str) -> list[str]:
    """Return a text's words, numbers and signs, each with the spaces before it; joined they are the
    text."""
    return PIECE_PATTERN.findall(text)


def label_share(label: str, text: str) -> float:
    """Return how much a text shows a label's patterns: the mean over its pieces of their firing
    rate, or 1 for a promoted token; 0 for an empty text."""
    pieces = split_pieces(text)
    if not pieces or read_label(label).is_empty and not promoted_tokens(label):
        return 0.0
    fired = (
        token_firing_probabilities(label, pieces)
        if not read_label(label).is_empty
        else [0.0] * len(pieces)
    )
    made = {strip_token(token) for token in promoted_tokens(label)}
    return sum(
        max(rate, float(strip_token(one) in made)) for rate, one in zip(fired, pieces, strict=True)
    ) / len(pieces)


def promoted_tokens(label: str) -> tuple[str, ...]:
    """Return the tokens that a pattern sentence says the feature promotes."""
    rule = parse_rule(label)
    return rule.promoted if rule else ()


def write_pattern_texts(
    label: str, silent: Sequence[TextWindow], n: int, generator: np.random.Generator
) -> list[str]:
    """Write `n` texts with a label's patterns, each inserted into a silent window at a random
    place; fewer where no pattern can be written, as for an empty label."""
    phrases = label_phrases(label, silent, generator)
    if not phrases or not silent:
        return []
    found = []
    for number in range(n):
        tokens = drop_special_token(silent[int(generator.integers(len(silent)))])
        points = find_insertion_points(tokens)
        at = points[int(generator.integers(len(points)))]
        found.append("".join((*tokens[:at], phrases[number % len(phrases)], *tokens[at:])))
    return found


def drop_special_token(example: TextWindow) -> tuple[str, ...]:
    """Return a window's tokens without the special token that begins a sequence, to insert a
    pattern's text."""
    special = example.start == 0 and SPECIAL_TOKEN.fullmatch(example.tokens[0])
    return example.tokens[1:] if special else example.tokens


def find_insertion_points(tokens: Sequence[str]) -> list[int]:
    """Return the indices of a window's tokens before which a pattern's phrase can be inserted:
    those that do not continue a word, or the end if there are none."""
    return [i for i in range(1, len(tokens)) if not tokens[i][:1].isalnum()] or [len(tokens)]


def label_phrases(
    label: str, windows: Sequence[TextWindow], generator: np.random.Generator
) -> list[str]:
    """Return the phrases to insert for a label's patterns, each with a leading space."""
    reading = read_label(label)
    if reading.stems:
        words = [word for word in WORD_PATTERN.findall(label) if stem_word(word) in reading.stems]
        return [f" {word}" for word in dict.fromkeys(words)]
    strong = [p for p in reading.patterns if p.rate >= MIN_WRITTEN_RATE] or list(reading.patterns)
    seen = [token for window in windows for token in window.tokens if token]
    found = [pattern_phrase(pattern, seen, generator) for pattern in strong]
    return [one for one in found if one]


def pattern_phrase(
    pattern: TokenPattern, seen: Sequence[str], generator: np.random.Generator
) -> str:
    """Return one pattern as a phrase of text; empty where no token of the windows matches its
    shape."""
    target = pattern.target
    if pattern.kind != "token":
        fits = (
            (lambda t: TOKEN_SHAPES[target]([t], 0))
            if pattern.kind == "shape"
            else (lambda t: strip_token(t).startswith(target) and strip_token(t) != target)
        )
        like = [strip_token(token) for token in seen if fits(token)]
        if not like:
            return ""
        target = like[int(generator.integers(len(like)))]
    return (
        add_leading_space(strip_token(pattern.after)) + add_leading_space(target)
        if pattern.after
        else add_leading_space(target)
    )


def add_leading_space(text: str) -> str:
    """Return a pattern's phrase with a space before a word or an opening sign; other signs follow
    directly."""
    return f" {text}" if text[:1].isalnum() or text[:1] in "“\"'([{<" else text
