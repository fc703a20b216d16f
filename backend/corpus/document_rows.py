"""Document rows: turn one row of a table (JSON lines, CSV, Parquet, a dataset) into one document of
a corpus."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from backend.corpus.documents import Document
from backend.corpus.pretokenised_ids import DecodeIds, is_token_ids, show_ids
from feature_store.errors import InputError, list_names
from feature_store.storable_text import replace_lone_surrogates

ChatMessage = Mapping[str, str]
RenderChat = Callable[[Sequence[ChatMessage]], str]
"""Function that renders chat messages, each with `role` and `content`, to one text by a model's
chat template."""
CHAT_COLUMN = "messages"
"""Column that makes a row a chat transcript."""
ABSENT = object()
"""Placeholder for the value of a column that a row does not have."""


@dataclass(frozen=True)
class RowColumns:
    """Columns of a row that a document is made from, and the functions that turn chat transcripts
    and token ids into text.

    `text` may name a field inside a column: `doc.text`, or `docs.0.text` for the first element of a
    list.
    """

    text: str = "text"
    template: str = "template"
    render: RenderChat | None = None
    decode: DecodeIds | None = None

    def needed_columns(self, names: Sequence[str]) -> list[str]:
        """Return which of a corpus table's columns (`names`) must be read to make documents: those
        of the text, the chat messages and the template."""
        outer = self.text if self.text in names else self.text.split(".")[0]
        return [name for name in (outer, CHAT_COLUMN, self.template) if name in names]


def parse_document_row(row: object, id: str, where: str, columns: RowColumns) -> Document | None:
    """Return the document in a table's row, or None where its text is null.

    The text column holds text or a list of token ids; a row without that column but with `messages`
    is a chat transcript. Raises InputErrors that begin with `where` (file and line).
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is not a JSON object with a column {columns.text!r}.")
    template = row.get(columns.template)
    if not isinstance(template, str):
        template = None
    value = find_value(row, columns.text)
    if value is ABSENT and CHAT_COLUMN in row:
        text = _render_chat(row[CHAT_COLUMN], where, columns.render)
        return Document(id, replace_lone_surrogates(text), template, rendered=True)
    if value is ABSENT:
        raise missing_column_error(where, columns.text, list_columns(row))
    if value is None:
        return None
    if is_token_ids(value):
        return _document_of_ids(value, id, where, columns, template)
    return Document(id, replace_lone_surrogates(_parse_text(value, where, columns.text)), template)


def find_value(row: Mapping[str, object], column: str) -> object:
    """Return a row's value of a column, or of a field inside a column (`doc.text`); ABSENT where
    there is none.

    A column whose name is the whole string takes precedence. A field inside a null is null.
    """
    if column in row or "." not in column:
        return row.get(column, ABSENT)
    found: object = row
    for part in column.split("."):
        if found is None:
            return None
        if isinstance(found, Mapping):
            found = found.get(part, ABSENT)
        elif isinstance(found, list) and part.isdecimal():
            found = found[int(part)] if int(part) < len(found) else ABSENT
        else:
            return ABSENT
    return found


def list_columns(row: Mapping[str, object]) -> list[str]:
    """Return the column names of a corpus row by which its text can be requested, with fields
    inside columns as `doc.text`."""
    found: list[str] = []
    for name, value in row.items():
        inner = list_columns(value) if isinstance(value, Mapping) else []
        found += [f"{name}.{field}" for field in inner] if inner else [str(name)]
    return found


def missing_column_error(where: str, column: str, names: Sequence[str]) -> InputError:
    """Return the error for a table without the requested text column; it lists the columns that the
    table has."""
    return InputError(
        f"{where} has no column {column!r} to read text from. {list_names(list(names))}"
    )


def _parse_text(value: object, where: str, column: str) -> str:
    """Return the text in a corpus row's text column, decoding bytes as UTF-8. Raises InputError for
    a value of another type."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as bad:
            raise InputError(
                f"{where}: column {column!r} holds bytes that are not UTF-8 ({bad.reason} at byte "
                f"{bad.start})."
            ) from bad
    if isinstance(value, str):
        return value
    raise InputError(
        f"{where}: column {column!r} holds {type(value).__name__}, neither text nor a list of "
        "token ids."
    )


def _document_of_ids(
    ids: Sequence[int], id: str, where: str, columns: RowColumns, template: str | None
) -> Document:
    """Return a document made from a row of ready-made token ids, in which special tokens count as
    special tokens and not as spelt-out text."""
    try:
        text = (columns.decode or show_ids)(ids)
    except InputError as refused:
        raise InputError(f"{where}: {refused}") from refused
    return Document(id, replace_lone_surrogates(text), template, rendered=True, ids=tuple(ids))


def _render_chat(messages: object, where: str, render: RenderChat | None) -> str:
    """Return the text of a row that is a chat transcript. Raises InputError where the messages are
    malformed or the model has no chat template."""
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
    """Return whether a value is a chat message with a role and a content, both text."""
    return isinstance(message, Mapping) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )
