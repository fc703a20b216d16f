"""Corpus sources: open the corpus that a user names, which is a file, a folder, a built-in corpus
or a Hugging Face dataset."""

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
"""Built-in corpora by name; `./demo` is a folder with that name."""
MAX_CHECKED_CHARACTERS = 2**28
"""Characters that `check_corpus` reads at most: far more text than a harvest of several minutes
needs."""


def open_corpus(
    spec: str,
    *,
    text_column: str = "text",
    template_column: str = "template",
    render: RenderChat | None = None,
    decode: DecodeIds | None = None,
) -> Corpus:
    """Open the corpus that `spec` names, without reading it yet.

    `spec` is a .txt file (one document), a .jsonl, .csv, .tsv or .parquet file (one document per
    row; all but Parquet may be compressed), a folder of these, `stdlib`, `demo`, or a dataset
    (`hf:NAME[:CONFIG][@SPLIT]`, `org/name`). Rows with `messages` instead of the text column need
    `render`, see `chat_template.chat_renderer`; token ids need `decode`, see
    `pretokenised_ids.token_decoder`. Raises InputError where there is no such corpus.
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
    """Open several corpora one after the other as one corpus; equal names are distinguished by a
    number."""
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
    """Raise InputError for problems of a corpus that would stop a harvest, before the model and
    torch are loaded.

    Local text is read (up to `MAX_CHECKED_CHARACTERS`), a dataset up to its first document.
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
    """Open every corpus of a list of sources. Raises InputError where the list is empty."""
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
    """Return each corpus source with a unique name: `a.txt`, `a.txt (2)`."""
    seen: Counter[str] = Counter()
    named = []
    for part in parts:
        seen[part.name] += 1
        number = seen[part.name]
        named.append((part.name if number == 1 else f"{part.name} ({number})", part))
    return named


def _join_messages(messages: Sequence[ChatMessage]) -> str:
    """Join chat messages line by line, in place of a chat template, where only the form of a
    corpus's rows is checked."""
    return "\n".join(message["content"] for message in messages)
