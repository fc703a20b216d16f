"""Chat transcripts become text through the chat template of the model's own tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from backend.corpus.document_rows import ChatMessage, RenderChat
from feature_store.errors import InputError

TEMPLATE_ROLE = "template"
"""In place of a role: what a chat template wrote itself, such as the header `assistant`, the line
breaks around a message, or a system message that nobody typed."""


def chat_renderer(tokenizer: Any) -> RenderChat:
    """What turns the messages of one transcript into the text that the model was trained on.

    The rendered text holds special tokens, and they are read as such. A message that writes one
    itself could forge a turn, so it is refused. `tokenizer` is one of transformers'.
    """
    specials = [str(token) for token in tokenizer.all_special_tokens]

    def render(messages: Sequence[ChatMessage]) -> str:
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("this model's tokenizer has no chat template to render messages with.")
        for message in messages:
            _refuse_special_tokens(message, specials)
        return _apply_template(tokenizer, messages)

    return render


def _refuse_special_tokens(message: Mapping[str, str], specials: Sequence[str]) -> None:
    for special in specials:
        if special in message["content"]:
            raise InputError(
                f"a message holds {special!r}, a special token of this model; take it out."
            )


def _apply_template(tokenizer: Any, messages: Sequence[ChatMessage]) -> str:
    from jinja2 import TemplateError  # transformers renders templates with it

    try:
        plain = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(plain, tokenize=False))
    except TemplateError as refused:  # such as "roles must alternate"
        raise InputError(f"the model's chat template refuses these messages: {refused}.") from None


def label_speakers(tokenizer: Any, messages: Sequence[ChatMessage], rendered: str) -> list[str]:
    """Who speaks at each token of a rendered chat: a message's role, or `TEMPLATE`.

    `rendered` is the template's text of all `messages`, with or without the header of an answer.
    Where a template rewrites a message, all that it adds for the message counts as the message.
    """
    spans, begin = [], 0
    for n, message in enumerate(messages, 1):
        part = str(tokenizer.apply_chat_template([dict(m) for m in messages[:n]], tokenize=False))
        end = max(begin, _common_prefix_length(rendered, part))
        low, high = _locate_content(tokenizer, message["content"], rendered, begin, end)
        spans.append((low, high, message["role"]))
        begin = end
    encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    return [
        next((role for a, b, role in spans if low < b and high > a), TEMPLATE_ROLE)
        for low, high in encoded["offset_mapping"]
    ]


def _common_prefix_length(whole: str, part: str) -> int:
    """How many characters two renderings begin with in common: a template may close a turn that is
    the last one differently."""
    same = 0
    for a, b in zip(whole, part, strict=False):
        if a != b:
            break
        same += 1
    return same


def _locate_content(
    tokenizer: Any, content: str, text: str, begin: int, end: int
) -> tuple[int, int]:
    """Where a message's words stand in its part of the text; the whole part if they are not there.

    Words come last in a part, behind their header; special tokens are no place for them.
    """
    region, words = text[begin:end], content.strip()
    for special in tokenizer.all_special_tokens:
        region = region.replace(str(special), "\0" * len(str(special)))
    at = region.rfind(words) if words else len(region)
    if at < 0:
        return begin, end
    return begin + at, begin + at + len(words)
