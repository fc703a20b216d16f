"""Chat transcripts become text through the chat template of the model's own tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from backend.corpus.rows import Message, Render
from feature_store.errors import InputError


def chat_renderer(tokenizer: Any) -> Render:
    """What turns the messages of one transcript into the text that the model was trained on.

    The rendered text holds special tokens, and they are read as such. A message that writes one
    itself could forge a turn, so it is refused. `tokenizer` is one of transformers'.
    """
    specials = [str(token) for token in tokenizer.all_special_tokens]

    def render(messages: Sequence[Message]) -> str:
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("this model's tokenizer has no chat template to render messages with.")
        for message in messages:
            _refuse_specials(message, specials)
        return _apply(tokenizer, messages)

    return render


def _refuse_specials(message: Mapping[str, str], specials: Sequence[str]) -> None:
    for special in specials:
        if special in message["content"]:
            raise InputError(
                f"a message holds {special!r}, a special token of this model; take it out."
            )


def _apply(tokenizer: Any, messages: Sequence[Message]) -> str:
    from jinja2 import TemplateError  # transformers renders templates with it

    try:
        plain = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(plain, tokenize=False))
    except TemplateError as refused:  # such as "roles must alternate"
        raise InputError(f"the model's chat template refuses these messages: {refused}.") from None
