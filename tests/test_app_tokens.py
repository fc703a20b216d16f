"""Contexts as lines: what is drawn for each token, and which activation belongs where."""

from dataclasses import asdict

import numpy as np
import pytest

from app.tokens import PIECE, alike, line, visible
from feature_store.records import Context
from feature_store.vocabulary import Vocabulary

PIECES = [b"<s>", b" the", b"\n", b"\xe2\x82", b"\xac", b" <b>&amp;</b>", b"\xff"]


def context(peak: int, positions: list[int], acts: list[float]) -> Context:
    return Context("top", 0, None, "explain", 3, 3, 2, 4, peak, max(acts, key=abs), positions, acts)


def made(ids: list[int], positions: list[int], acts: list[float], begin: int = 1):
    texts = Vocabulary(PIECES).display(np.array(ids))
    return line(context(positions[0], positions, acts), begin, np.array(ids), texts, "doc")


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        (" the", " the"),
        (" ", "·"),
        ("   ", "···"),
        ("a ", "a·"),
        ("a  b", "a··b"),
        ("\n", "↵"),
        ("\n\n", "↵↵"),
        ("\t", "⇥"),
        ("\u202eabc", "<U+202E>abc"),
        ("\u0301", PIECE + "\u0301"),
        ("\u200d", "<U+200D>"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("\x00", "<U+0000>"),
        ("", ""),
        ("<script>", "<script>"),
    ],
)
def test_whitespace_and_controls_are_drawn(text: str, drawn: str) -> None:
    assert visible(text) == drawn


def test_markup_leaves_as_the_text_that_it_is() -> None:
    """Escaping is the page's work, by text nodes: escaped here it would be escaped twice."""
    assert made([5], [1], [1.0]).texts == [" <b>&amp;</b>"]


def test_a_split_character_stands_on_its_first_piece() -> None:
    """The second piece draws nothing, unless the feature is active there."""
    assert made([1, 3, 4, 1], [1], [2.0]).texts == [" the", "€", "", " the"]
    assert made([1, 3, 4, 1], [3], [2.0]).texts == [" the", "€", PIECE, " the"]
    assert made([6], [1], [2.0]).texts == ["<0xFF>"]


def test_positions_become_indices_and_signs_stay() -> None:
    shown = made([1, 2, 1, 1, 1, 1], [3, 2], [-2.0, 1.5])
    assert (shown.peak, shown.value) == (2, -2.0)
    assert shown.acts == [(2, -2.0), (1, 1.5)]
    assert shown.breaks == [1]


def test_tokens_outside_the_stored_window_are_known_as_such() -> None:
    """The window is positions 2 to 5; shown are positions 1 to 6."""
    assert made([1] * 6, [3], [1.0]).stored == (1, 5)
    assert asdict(made([1] * 6, [3], [1.0]))["position"] == 1


def test_a_token_that_is_drawn_differently_keeps_its_own_text() -> None:
    shown = made([1, 2, 1], [1], [1.0])
    assert shown.texts == [" the", "↵", " the"] and shown.plain == {1: "\n"}


def test_contexts_are_alike_by_their_words_near_the_peak() -> None:
    """Case, spaces, digits, and what stands far away make no difference; a word near does."""
    words = ["Room", " 12", " of", "\n", "the", " inn"]
    far = ["x"] * 5

    def written(texts: list[str], peak: int = 2):
        there = Context("top", 0, None, "explain", 0, 0, 0, len(texts), peak, 1.0, [peak], [1.0])
        return line(there, 0, np.arange(len(texts)), texts, "doc")

    first = written(words + far)
    same = written(["room", "   47", " OF", " ", "the", " inn", "x", "x", "y", "y"])
    other = written([*words[:-1], " house", *far])
    assert alike([first, same, other, first]) == [0, 0, 2, 0]
