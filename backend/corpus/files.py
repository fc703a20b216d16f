"""Corpora in files: text, JSON lines, Parquet, and folders of these.

Ids count from 1 within a file, like the line numbers of errors: `stories.jsonl#17`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from backend.corpus.documents import Corpus, Document
from backend.corpus.rows import Columns, document_of, missing_column
from feature_store.errors import InputError
from feature_store.storable_text import replace_lone_surrogates
from feature_store.strict_json import JsonError, parse_json

BOM = b"\xef\xbb\xbf"
PARQUET_ROWS = 256
"""Rows read at a time: bounds memory, since Parquet row groups may be large."""


def read_text(path: Path, id: str, columns: Columns) -> Iterator[Document]:
    """The whole file as one document (blank lines do not divide it)."""
    yield Document(id, _decoded(path.read_bytes().removeprefix(BOM), path, 0))


def read_json_lines(path: Path, id: str, columns: Columns) -> Iterator[Document]:
    """One document per line; blank lines are skipped, a broken one is an InputError."""
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            if row := _decoded(line, path, offset).removeprefix("\ufeff").strip():
                document = document_of(_parsed(row, where), f"{id}#{number}", where, columns)
                if document is not None:
                    yield document
            offset += len(line)


def read_parquet(path: Path, id: str, columns: Columns) -> Iterator[Document]:
    """One document per row, a few hundred rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = columns.wanted(file.schema_arrow.names)
            if not wanted or wanted == [columns.template]:
                raise missing_column(str(path), columns.text, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    where = f"{path}, row {number}"
                    document = document_of(row, f"{id}#{number}", where, columns)
                    if document is not None:
                        yield document
    except UnicodeDecodeError as bad:
        raise InputError(f"{path} is not UTF-8 in its text column ({bad.reason}).") from bad
    except (pa.ArrowException, OSError) as broken:
        raise InputError(f"{path} is not a Parquet file that can be read: {broken}.") from broken


Reader = Callable[[Path, str, Columns], Iterator[Document]]
READERS: dict[str, Reader] = {
    ".txt": read_text,
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
}


def file_corpus(path: Path, columns: Columns) -> Corpus:
    """The corpus in one file; InputError when its suffix is not one of `READERS`."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"Corpus {str(path)!r} is not a .txt, .jsonl or .parquet file.")
    name = replace_lone_surrogates(path.name)
    return Corpus(name, lambda: reader(path, name, columns))


def folder_corpus(folder: Path, columns: Columns) -> Corpus:
    """Every readable file below `folder`, sorted by relative path; hidden ones left out."""
    name = replace_lone_surrogates(folder.resolve().name)
    files = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.suffix.lower() in READERS and path.is_file()
    )
    shown = [(part, path) for part, path in files if not _hidden(part)]
    if not shown:
        raise InputError(f"Folder {str(folder)!r} holds no .txt, .jsonl or .parquet file.")

    def read() -> Iterator[Document]:
        for part, path in shown:
            yield from READERS[path.suffix.lower()](
                path, f"{name}/{replace_lone_surrogates(part)}", columns
            )

    return Corpus(name, read)


def _hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))


def _decoded(data: bytes, path: Path, offset: int) -> str:
    """UTF-8 text of `data`, which begins at byte `offset` of the file."""
    try:
        return data.decode()
    except UnicodeDecodeError as bad:
        raise InputError(
            f"{path} is not UTF-8: byte {offset + bad.start} ({data[bad.start]:#04x}) cannot be "
            "read; save the file as UTF-8."
        ) from bad


def _parsed(line: str, where: str) -> object:
    try:
        return parse_json(line, nonfinite="keep")  # in columns that are not read
    except JsonError as bad:
        parts = filter(None, [bad.reason, bad.place.removeprefix("line 1, ")])
        raise InputError(f"{where} is not JSON ({', '.join(parts)}).") from bad
