"""What a person wrote, as the model reads it: a plain text, or a chat by the model's template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.corpus.chat_template import chat_renderer, label_speakers
from backend.corpus.document_rows import ChatMessage
from backend.model.language_model import LanguageModel
from backend.model.vocabulary import check_token_ids
from feature_store.errors import InputError


@dataclass(frozen=True)
class PromptTokens:
    """A prompt's tokens."""

    tokens: tuple[int, ...]
    roles: tuple[str | None, ...] = ()
    """Of a chat: who speaks at each token; `chat.TEMPLATE` for what the template wrote itself."""


def tokenize_text(lm: LanguageModel, text: str, *, bos: bool) -> PromptTokens:
    """A text, special tokens in it read as ordinary characters; InputError for an empty one."""
    if not text:
        raise InputError("There is no prompt: type some text.")
    ids = lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    first = [lm.bos] if bos and lm.bos is not None else []
    return _check_prompt_length(lm, PromptTokens((*first, *ids)))


def tokenize_chat(lm: LanguageModel, messages: Sequence[ChatMessage]) -> PromptTokens:
    """A chat up to where the assistant begins to speak; each token knows whose it is.

    InputError without a template, for messages that it refuses, and for none.
    """
    if not messages:
        raise InputError("There is no message to answer: type one.")
    chat_renderer(lm.tokenizer)(messages)  # refuses forged turns
    tokenizer: Any = lm.tokenizer
    plain_messages = [dict(message) for message in messages]
    text = str(
        tokenizer.apply_chat_template(plain_messages, tokenize=False, add_generation_prompt=True)
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return _check_prompt_length(
        lm, PromptTokens(tuple(ids), tuple(label_speakers(tokenizer, messages, text)))
    )


def _check_prompt_length(lm: LanguageModel, start: PromptTokens) -> PromptTokens:
    check_token_ids(start.tokens, lm.d_vocab)
    if len(start.tokens) >= lm.n_ctx:
        raise InputError(
            f"The prompt has {len(start.tokens):,} tokens; {lm.name} reads at most {lm.n_ctx:,} at "
            "once, and needs room for what it writes. Cut it."
        )
    return start
