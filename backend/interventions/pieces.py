"""Text, token by token, that joins to what the whole decodes to.

A token of a byte-level vocabulary may hold half a character, and a SentencePiece decoder drops the
first space of whatever it is given. So a token's text is what a few tokens before it decode to with
it, less what they decode to without it; an unfinished character waits for its other half.
"""

from collections.abc import Sequence
from typing import Any

BROKEN = "\ufffd"
PATIENCE = 6
"""Tokens after which broken text is passed on as it is: no character has more bytes than four."""
CONTEXT = 5


class Pieces:
    """A decoder that remembers a few tokens. `tokenizer` is one of transformers'."""

    def __init__(self, tokenizer: Any, before: Sequence[int] = ()) -> None:
        """`before`: tokens that stand in front, whose own text has been given already."""
        self._tokenizer = tokenizer
        self._ids = list(before[-CONTEXT:])
        self._known = self._decode(self._ids)
        self._waiting = 0

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._ids.append(token)
        self._waiting += 1
        text = self._decode(self._ids)
        if text.endswith(BROKEN) and self._waiting < PATIENCE:
            return ""
        return self._give(text)

    def rest(self) -> str:
        """What still waits, at the end."""
        return self._give(self._decode(self._ids)) if self._waiting else ""

    def _give(self, text: str) -> str:
        new = text[len(self._known) :]
        self._ids = self._ids[-CONTEXT:]
        self._known = self._decode(self._ids)
        self._waiting = 0
        return new

    def _decode(self, ids: list[int]) -> str:
        if not ids:
            return ""
        return self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token's text; an unfinished character belongs to the token that finishes it."""
    decoder = Pieces(tokenizer)
    texts = [decoder.add(token) for token in ids]
    if texts:
        texts[-1] += decoder.rest()
    return texts
