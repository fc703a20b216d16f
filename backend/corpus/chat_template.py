"""Chat templates: render chat transcripts to text with the chat template of the model's own
tokenizer, and label each token with its speaker."""

from collections.abc import Mapping, Sequence
from typing import Any

from backend.corpus.document_rows import ChatMessage, RenderChat
from feature_store.errors import InputError

TEMPLATE_ROLE = "template"
"""Speaker label of tokens that the chat template itself adds, such as the header `assistant`, the
line breaks around a message, or a default system message."""


def chat_renderer(tokenizer: Any) -> RenderChat:
    """Return a function that renders the messages of a transcript to the text format that the model
    was trained on.

    The rendered text contains special tokens, which are tokenised as such. A message that contains
    one itself could forge a turn, so it is refused with an InputError. `tokenizer` is a tokenizer
    of transformers.
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
    """Raise InputError where a chat message contains one of the tokenizer's special tokens."""
    for special in specials:
        if special in message["content"]:
            raise InputError(
                f"a message contains {special!r}, a special token of this model; remove it."
            )


def _apply_template(tokenizer: Any, messages: Sequence[ChatMessage]) -> str:
    """Render chat messages with the tokenizer's chat template. Raises InputError where the template
    refuses them."""
    from jinja2 import TemplateError  # transformers renders templates with it

    try:
        plain = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(plain, tokenize=False))
    except TemplateError as refused:  # such as "roles must alternate"
        raise InputError(f"the model's chat template refuses these messages: {refused}.") from None


def label_speakers(tokenizer: Any, messages: Sequence[ChatMessage], rendered: str) -> list[str]:
    """Return the speaker of each token of a rendered chat: a message's role, or `TEMPLATE_ROLE`.

    `rendered` is the chat template's text of all `messages`, with or without the header of an
    answer. Where a template rewrites a message, everything that it adds for the message counts as
    the message.
    """
    spans, begin = [], 0
    for n, message in enumerate(messages, 1):
        prefix = str(tokenizer.apply_chat_template([dict(m) for m in messages[:n]], tokenize=False))
        end = max(begin, _common_prefix_length(rendered, prefix))
        low, high = _locate_content(tokenizer, message["content"], rendered, begin, end)
        spans.append((low, high, message["role"]))
        begin = end
    encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    return [
        next((role for a, b, role in spans if low < b and high > a), TEMPLATE_ROLE)
        for low, high in encoded["offset_mapping"]
    ]


def _common_prefix_length(left: str, right: str) -> int:
    """Return how many characters two renderings have in common at the beginning: a template may
    close the last turn differently."""
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length


def _locate_content(
    tokenizer: Any, content: str, text: str, begin: int, end: int
) -> tuple[int, int]:
    """Return where a chat message's content stands in its part of the rendered text, or the whole
    part where the content is not found.

    The content is searched from the end, after the header, and never inside special tokens.
    """
    region, words = text[begin:end], content.strip()
    for special in tokenizer.all_special_tokens:
        region = region.replace(str(special), "\0" * len(str(special)))
    found_at = region.rfind(words) if words else len(region)
    if found_at < 0:
        return begin, end
    return begin + found_at, begin + found_at + len(words)
