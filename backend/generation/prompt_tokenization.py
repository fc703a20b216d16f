"""Tokenization of prompts for generation: a plain text, or a chat rendered by the model's chat
template.
"""

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
    """Token ids of a prompt, plain text or chat, and for a chat the role of the speaker at each
    token.
    """

    tokens: tuple[int, ...]
    roles: tuple[str | None, ...] = ()
    """Role of the speaker at each token of a chat; `chat.TEMPLATE` for tokens that the template
    adds itself.
    """


def tokenize_text(lm: LanguageModel, text: str, *, bos: bool) -> PromptTokens:
    """Tokenize a plain prompt; special tokens written in the text are read as ordinary characters.

    Raises InputError for an empty or too long prompt.
    """
    if not text:
        raise InputError("There is no prompt: type some text.")
    ids = lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    first = [lm.bos] if bos and lm.bos is not None else []
    return _check_prompt_length(lm, PromptTokens((*first, *ids)))


def tokenize_chat(lm: LanguageModel, messages: Sequence[ChatMessage]) -> PromptTokens:
    """Tokenize a chat prompt up to the start of the assistant's reply, with the role at each token.

    Raises InputError if the model has no chat template, if there is no message, or if the template
    refuses the messages.
    """
    if not messages:
        raise InputError("There is no chat message: type one.")
    # Raises InputError for messages that imitate the turns of the template.
    chat_renderer(lm.tokenizer)(messages)
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
    """Return the tokens of a prompt; raise InputError if the prompt fills the model's context."""
    check_token_ids(start.tokens, lm.d_vocab)
    if len(start.tokens) >= lm.n_ctx:
        raise InputError(
            f"The prompt has {len(start.tokens):,} tokens; {lm.name} reads at most {lm.n_ctx:,} at "
            "once, new tokens included. Cut it."
        )
    return start
