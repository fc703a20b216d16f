"""What a person wrote, as the model reads it: a plain text, or a chat by the model's template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.corpus.chat import chat_renderer
from backend.corpus.rows import Message
from backend.lm import Lm
from backend.vocabulary import check_ids
from feature_store.errors import InputError


@dataclass(frozen=True)
class Start:
    """A prompt's tokens."""

    tokens: tuple[int, ...]
    roles: tuple[str | None, ...] = ()
    """Of a chat: who speaks at each token; None for what belongs to no message."""


def plain(lm: Lm, text: str, *, bos: bool) -> Start:
    """A text, special tokens in it read as ordinary characters; InputError for an empty one."""
    if not text:
        raise InputError("There is no prompt: type some text.")
    ids = lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    first = [lm.bos] if bos and lm.bos is not None else []
    return _checked(lm, Start((*first, *ids)))


def chat(lm: Lm, messages: Sequence[Message]) -> Start:
    """A chat up to where the assistant begins to speak; each token knows whose it is.

    InputError without a template, for messages that it refuses, and for none.
    """
    if not messages:
        raise InputError("There is no message to answer: type one.")
    chat_renderer(lm.tokenizer)(messages)  # refuses forged turns
    whole = _rendered(lm, messages, ask=True)
    roles: list[str | None] = [None] * len(whole)
    begin = 0
    for n, message in enumerate(messages, 1):
        end = _shared(whole, _rendered(lm, messages[:n], ask=False))
        roles[begin:end] = [message["role"]] * max(0, end - begin)
        begin = max(begin, end)
    return _checked(lm, Start(tuple(whole), tuple(roles)))


def _rendered(lm: Lm, messages: Sequence[Message], *, ask: bool) -> list[int]:
    tokenizer: Any = lm.tokenizer
    text = tokenizer.apply_chat_template(
        [dict(message) for message in messages], tokenize=False, add_generation_prompt=ask
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _shared(whole: Sequence[int], part: Sequence[int]) -> int:
    """How many tokens two renderings begin with in common: a template may close a turn that is the
    last one differently."""
    same = 0
    for a, b in zip(whole, part, strict=False):
        if a != b:
            break
        same += 1
    return same


def _checked(lm: Lm, start: Start) -> Start:
    check_ids(start.tokens, lm.d_vocab)
    if len(start.tokens) >= lm.n_ctx:
        raise InputError(
            f"The prompt has {len(start.tokens):,} tokens; {lm.name} reads at most {lm.n_ctx:,} at "
            "once, and needs room for what it writes. Cut it."
        )
    return start
