"""Text, token by token, that joins to what the whole decodes to.

A token of a byte-level vocabulary may hold half a character, and a SentencePiece decoder drops the
first space of whatever it is given. So a token's text is what a few tokens before it decode to with
it, less what they decode to without it; an unfinished character waits for its other half.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

BROKEN = "\ufffd"
MOST_WAITING = 6
"""Tokens after which broken text is passed on as it is: no character has more bytes than four."""
CONTEXT_TOKENS = 5
MOST_REMEMBERED = 12
"""Tokens remembered at most: to forget some, the rest must be decoded again."""


class TokenTextDecoder:
    """A decoder that remembers a few tokens. `tokenizer` is one of transformers'."""

    def __init__(self, tokenizer: Any, before: Sequence[int] = ()) -> None:
        """`before`: tokens that stand in front, whose own text has been given already."""
        self._text = _find_decoder(tokenizer)
        self._ids = list(before[-CONTEXT_TOKENS:])
        self._known = self._decode(self._ids)
        self._waiting = 0

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._ids.append(token)
        self._waiting += 1
        text = self._decode(self._ids)
        if text.endswith(BROKEN) and self._waiting < MOST_WAITING:
            return ""
        return self._give(text)

    def rest(self) -> str:
        """What still waits, at the end."""
        return self._give(self._decode(self._ids)) if self._waiting else ""

    def _give(self, text: str) -> str:
        new = text[len(self._known) :]
        if len(self._ids) > MOST_REMEMBERED:
            self._ids = self._ids[-CONTEXT_TOKENS:]
            text = self._decode(self._ids)
        self._known = text
        self._waiting = 0
        return new

    def _decode(self, ids: list[int]) -> str:
        return self._text(ids) if ids else ""


_decoders: "WeakKeyDictionary[Any, Callable[..., str]]" = WeakKeyDictionary()
"""Of tokenizers seen before: to find out takes as long as to decode a prompt."""


def _find_decoder(tokenizer: Any) -> Callable[..., str]:
    """`tokenizer.decode`, special tokens and spaces as they are.

    Around the Rust decoder transformers puts ten times its cost, a twentieth of a small model's
    step; where a tokenizer adds nothing of its own, the Rust decoder is asked itself.
    """
    if (found := _decoders.get(tokenizer)) is not None:
        return found
    from transformers import PreTrainedTokenizerFast as Usual

    decode: Any = tokenizer.decode
    usual = isinstance(tokenizer, Usual) and all(
        getattr(type(tokenizer), name) is getattr(Usual, name) for name in ("decode", "_decode")
    )
    if not usual:
        return partial(decode, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    found = partial(tokenizer.backend_tokenizer.decode, skip_special_tokens=False)
    _decoders[tokenizer] = found
    return found


def decode_token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token's text; an unfinished character belongs to the token that finishes it.

    Most tokens read alone as they do in the text, which one look at the whole proves.
    """
    decode = _find_decoder(tokenizer)
    texts = [decode([token]) for token in ids]
    for broken, run in groupby(range(len(ids)), lambda at: BROKEN in texts[at]):
        if broken:
            at = list(run)
            texts[at[0] : at[-1] + 1] = _decode_one_by_one(tokenizer, ids[at[0] : at[-1] + 1])
    return texts if "".join(texts) == decode(list(ids)) else _decode_one_by_one(tokenizer, ids)


def _decode_one_by_one(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    decoder = TokenTextDecoder(tokenizer)
    texts = list(map(decoder.add, ids))
    if texts:
        texts[-1] += decoder.rest()
    return texts
