"""Which corpus a user's words mean: a file, a folder, a name of ours, or a dataset's name."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from backend.corpus.builtin_corpora import demo_corpus, stdlib_corpus
from backend.corpus.corpus_files import CORPUS_KINDS, file_corpus, folder_corpus
from backend.corpus.document_rows import ChatMessage, RenderChat, RowColumns
from backend.corpus.documents import Corpus, Document
from backend.corpus.hub_datasets import HUB_PREFIX, hub_corpus, looks_like_dataset
from backend.corpus.pretokenised_ids import DecodeIds, show_ids
from feature_store.errors import InputError

NAMED_CORPORA: dict[str, Callable[[], Corpus]] = {"demo": demo_corpus, "stdlib": stdlib_corpus}
"""Corpora that go by a name; `./demo` is a folder of that name."""
MAX_CHECKED_CHARACTERS = 2**28
"""How far `check_corpus` reads: far more text than minutes of harvest need."""


def open_corpus(
    spec: str,
    *,
    text_column: str = "text",
    template_column: str = "template",
    render: RenderChat | None = None,
    decode: DecodeIds | None = None,
) -> Corpus:
    """The corpus that `spec` names; nothing but its existence is looked at yet.

    `spec` is a .txt file (one document), a .jsonl, .csv, .tsv or .parquet file (one per row; all
    but Parquet may be compressed), a folder of these, `stdlib`, `demo`, or a dataset
    (`hf:NAME[:CONFIG][@SPLIT]`, `org/name`). Rows with `messages` instead of the text column need
    `render`, see `chat.chat_renderer`; token ids need `decode`, see `token_ids.token_decoder`.
    """
    columns = RowColumns(text_column, template_column, render, decode)
    if spec in NAMED_CORPORA:
        return NAMED_CORPORA[spec]()
    path = Path(spec)
    if spec and not spec.startswith(HUB_PREFIX):
        if path.is_dir():
            return folder_corpus(path, columns)
        if path.is_file():
            return file_corpus(path, columns)
    if looks_like_dataset(spec):
        return hub_corpus(spec, columns)
    raise InputError(
        f"There is no corpus {spec!r}; give {CORPUS_KINDS}, a folder of these, stdlib, demo, or "
        "a Hugging Face dataset as hf:NAME."
    )


def open_corpora(
    specs: Sequence[str],
    *,
    text_column: str = "text",
    template_column: str = "template",
    render: RenderChat | None = None,
    decode: DecodeIds | None = None,
) -> Corpus:
    """Several corpora one after the other as one; same-named ones are told apart by a number."""
    parts = _open_each(specs, text_column, template_column, render, decode)
    if len(parts) == 1:
        return parts[0]

    def read() -> Iterator[Document]:
        for name, part in parts_by_name:
            for document in part:
                own = name == part.name
                yield document if own else replace(document, id=f"{name}:{document.id}")

    parts_by_name = _number_names(parts)
    return Corpus(" + ".join(name for name, _ in parts_by_name), read)


def check_corpus(
    specs: str | Sequence[str], *, text_column: str = "text", template_column: str = "template"
) -> None:
    """InputError for what would stop a harvest: read before the model, and torch, are loaded.

    Local text is read through (up to `CHECKED_CHARACTERS`), a dataset up to its first document.
    """
    wanted = [specs] if isinstance(specs, str) else specs
    for part in _open_each(wanted, text_column, template_column, _join_messages, show_ids):
        seen = 0
        for document in part:
            seen += len(document.text)
            if seen > MAX_CHECKED_CHARACTERS or not part.scan:
                break


def _open_each(
    specs: Sequence[str],
    text_column: str,
    template_column: str,
    render: RenderChat | None,
    decode: DecodeIds | None,
) -> list[Corpus]:
    if not specs:
        raise InputError("No corpus was given; name at least one.")
    return [
        open_corpus(
            spec,
            text_column=text_column,
            template_column=template_column,
            render=render,
            decode=decode,
        )
        for spec in specs
    ]


def _number_names(parts: Sequence[Corpus]) -> list[tuple[str, Corpus]]:
    """Each corpus with a name of its own: `a.txt`, `a.txt (2)`."""
    seen: Counter[str] = Counter()
    named = []
    for part in parts:
        seen[part.name] += 1
        number = seen[part.name]
        named.append((part.name if number == 1 else f"{part.name} ({number})", part))
    return named


def _join_messages(messages: Sequence[ChatMessage]) -> str:
    """Stands for a chat template while only the shape of the rows is checked."""
    return "\n".join(message["content"] for message in messages)
