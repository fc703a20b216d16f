"""From one row of a table (JSON lines, Parquet, a dataset) to one document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from backend.corpus.documents import Document
from feature_store.errors import InputError, listing
from feature_store.storable_text import replace_lone_surrogates

Message = Mapping[str, str]
Render = Callable[[Sequence[Message]], str]
"""A model's chat template: messages with `role` and `content` in, one text out."""
CHAT = "messages"
"""The column that makes a row a chat transcript."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a row matter, and how a chat transcript becomes text."""

    text: str = "text"
    template: str = "template"
    render: Render | None = None

    def wanted(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that a document needs."""
        return [name for name in (self.text, CHAT, self.template) if name in names]


def document_of(row: object, id: str, where: str, columns: Columns) -> Document | None:
    """The document that a row holds, or None when its text is null.

    A row with the text column is text; otherwise one with `messages` is a chat transcript.
    `where` (file and line) begins every InputError.
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is not a JSON object with a column {columns.text!r}.")
    template = row.get(columns.template)
    if not isinstance(template, str):
        template = None
    if columns.text not in row and CHAT in row:
        text = _chat(row[CHAT], where, columns.render)
        return Document(id, replace_lone_surrogates(text), template, rendered=True)
    text = _text(row, where, columns.text)
    return None if text is None else Document(id, replace_lone_surrogates(text), template)


def missing_column(where: str, column: str, names: Sequence[str]) -> InputError:
    """The error for a table without the text column; says which columns it has."""
    return InputError(f"{where} has no column {column!r} to read text from. {listing(list(names))}")


def _text(row: Mapping[str, object], where: str, column: str) -> str | None:
    if column not in row:
        raise missing_column(where, column, [str(name) for name in row])
    text = row[column]
    if text is None or isinstance(text, str):
        return text
    raise InputError(f"{where}: column {column!r} holds {type(text).__name__}, not text.")


def _chat(messages: object, where: str, render: Render | None) -> str:
    if not isinstance(messages, Sequence) or not all(_is_message(m) for m in messages):
        raise InputError(
            f"{where}: 'messages' is not a list of objects with a role and a content, both text."
        )
    if render is None:
        raise InputError(f"{where} is a chat transcript, which needs a model with a chat template.")
    try:
        return render(messages)
    except InputError as refused:
        raise InputError(f"{where}: {refused}") from refused


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )
