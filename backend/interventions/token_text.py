"""The text of single tokens, such that the texts of successive tokens join to the decoded whole.

A token of a byte-level vocabulary may hold half a character, and a SentencePiece decoder drops the
first space of its input. A token's text is therefore the decoded text of a few tokens including it,
minus the decoded text without it; an unfinished character waits for its other half.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

BROKEN = "\ufffd"
MOST_WAITING = 6
"""Tokens after which broken text is emitted as it is: no character has more than four bytes."""
CONTEXT_TOKENS = 5
MOST_REMEMBERED = 12
"""Maximum number of remembered tokens; to forget some, the others must be decoded again."""


class TokenTextDecoder:
    """Streaming decoder of token texts that remembers a few tokens; `tokenizer` is one of
    transformers'."""

    def __init__(self, tokenizer: Any, before: Sequence[int] = ()) -> None:
        """Start the decoder after the tokens `before`, whose own text has been emitted already."""
        self._text = _find_decoder(tokenizer)
        self._ids = list(before[-CONTEXT_TOKENS:])
        self._known = self._decode(self._ids)
        self._waiting = 0

    def add(self, token: int) -> str:
        """Return the text that this token completes; empty while a character is unfinished."""
        self._ids.append(token)
        self._waiting += 1
        text = self._decode(self._ids)
        if text.endswith(BROKEN) and self._waiting < MOST_WAITING:
            return ""
        return self._emit(text)

    def flush(self) -> str:
        """Return the text of tokens that still wait for the rest of a character, at the end of a
        text."""
        return self._emit(self._decode(self._ids)) if self._waiting else ""

    def _emit(self, text: str) -> str:
        """Return the text that the newest tokens add to what the decoder has emitted, and forget
        old tokens."""
        new = text[len(self._known) :]
        if len(self._ids) > MOST_REMEMBERED:
            self._ids = self._ids[-CONTEXT_TOKENS:]
            text = self._decode(self._ids)
        self._known = text
        self._waiting = 0
        return new

    def _decode(self, ids: list[int]) -> str:
        """Decode token ids to text; no ids give an empty text."""
        return self._text(ids) if ids else ""


_decoders: "WeakKeyDictionary[Any, Callable[..., str]]" = WeakKeyDictionary()
"""Fast decoders of tokenizers seen before: choosing one takes as long as decoding a prompt."""


def _find_decoder(tokenizer: Any) -> Callable[..., str]:
    """Return the fastest decoder of a tokenizer that keeps special tokens and spaces as they are.

    transformers adds ten times the cost of the Rust decoder, a twentieth of a small model's step;
    where a tokenizer adds nothing of its own, the Rust decoder is called directly.
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
    """Return the text of each token; an unfinished character belongs to the token that completes
    it.

    Most tokens decode alone as they do in the text, which one comparison with the whole text
    proves.
    """
    decode = _find_decoder(tokenizer)
    texts = [decode([token]) for token in ids]
    for broken, run in groupby(range(len(ids)), lambda at: BROKEN in texts[at]):
        if broken:
            at = list(run)
            texts[at[0] : at[-1] + 1] = _decode_one_by_one(tokenizer, ids[at[0] : at[-1] + 1])
    return texts if "".join(texts) == decode(list(ids)) else _decode_one_by_one(tokenizer, ids)


def _decode_one_by_one(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the text of each token with the streaming decoder."""
    decoder = TokenTextDecoder(tokenizer)
    texts = list(map(decoder.add, ids))
    if texts:
        texts[-1] += decoder.flush()
    return texts
