"""Corpus files: read documents from text, JSON lines, CSV, TSV and Parquet files and from folders
of these, compressed or not.

Ids count from 1 within a file, like the line numbers of errors: `stories.jsonl#17`.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from backend.corpus.compression import open_bytes, split_suffix
from backend.corpus.document_rows import RowColumns, missing_column_error, parse_document_row
from backend.corpus.documents import Corpus, Document
from feature_store.errors import InputError
from feature_store.storable_text import replace_lone_surrogates
from feature_store.strict_json import JsonError, parse_json

UTF8_BOM = b"\xef\xbb\xbf"
PARQUET_ROWS = 256
"""Parquet rows read at a time, which bounds memory because Parquet row groups may be large."""
MAX_FIELD_CHARACTERS = 2**31 - 1
"""Maximum number of characters in a CSV field. Python's own limit is 131,072, less than a long
document."""


def read_text(path: Path, id: str, columns: RowColumns) -> Iterator[Document]:
    """Read a .txt file of a corpus as one document; blank lines do not divide it."""
    with open_bytes(path) as file:
        data = file.read()
    yield Document(id, _decode_utf8(data.removeprefix(UTF8_BOM), path, 0))


def read_json_lines(path: Path, id: str, columns: RowColumns) -> Iterator[Document]:
    """Read a JSON Lines file of a corpus, one document per line. Blank lines are skipped; a line
    that is not valid JSON raises InputError."""
    for number, line in enumerate(_read_lines(path), start=1):
        where = f"{path}, line {number}"
        if row := line.removeprefix("\ufeff").strip():
            document = parse_document_row(
                _parse_json_row(row, where), f"{id}#{number}", where, columns
            )
            if document is not None:
                yield document


def read_json(path: Path, id: str, columns: RowColumns) -> Iterator[Document]:
    """Read a JSON file that holds a list of rows, one document per row; a file of another form is
    read as JSON lines."""
    with open_bytes(path) as file:
        start = file.read(64)
        is_list = start.removeprefix(UTF8_BOM).lstrip().startswith(b"[")
        data = start + file.read() if is_list else b""
    if not is_list:
        yield from read_json_lines(path, id, columns)
        return
    rows = _parse_json_row(_decode_utf8(data.removeprefix(UTF8_BOM), path, 0), str(path))
    for number, row in enumerate(rows if isinstance(rows, list) else [], start=1):
        document = parse_document_row(row, f"{id}#{number}", f"{path}, row {number}", columns)
        if document is not None:
            yield document


def read_comma_separated(path: Path, id: str, columns: RowColumns) -> Iterator[Document]:
    """Read a CSV or TSV file, one document per row after a header that names the columns.

    A row with more or fewer fields than the header, or a quote that is never closed, raises
    InputError, since later values would be in the wrong columns.
    """
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    divider = "\t" if split_suffix(path)[0] == ".tsv" else ","
    rows = csv.reader(_read_lines(path), delimiter=divider, strict=True)
    header: list[str] | None = None
    try:
        for number, fields in enumerate(rows):
            if header is None:
                header = [field.removeprefix("\ufeff") for field in fields]
                continue
            where = f"{path}, row {number}"
            if not fields:  # a blank line
                continue
            if len(fields) != len(header):
                raise InputError(
                    f"{where} (line {rows.line_num}) has {len(fields)} fields, and the header "
                    f"names {len(header)} columns."
                )
            row = dict(zip(header, fields, strict=True))
            document = parse_document_row(row, f"{id}#{number}", where, columns)
            if document is not None:
                yield document
    except csv.Error as bad:
        raise InputError(f"{path}, line {rows.line_num} is not valid CSV: {bad}.") from bad


def _read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a corpus file with their line ends. Raises InputError where they are not
    UTF-8."""
    offset = 0
    with open_bytes(path) as lines:
        for line in lines:
            yield _decode_utf8(line, path, offset)
            offset += len(line)


def read_parquet(path: Path, id: str, columns: RowColumns) -> Iterator[Document]:
    """Read a Parquet file, one document per row, with a few hundred rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = columns.needed_columns(file.schema_arrow.names)
            if not wanted or wanted == [columns.template]:
                raise missing_column_error(str(path), columns.text, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    where = f"{path}, row {number}"
                    document = parse_document_row(row, f"{id}#{number}", where, columns)
                    if document is not None:
                        yield document
    except UnicodeDecodeError as bad:
        raise InputError(f"{path} is not UTF-8 in its text column ({bad.reason}).") from bad
    except (pa.ArrowException, OSError) as broken:
        raise InputError(f"{path} is not a readable Parquet file: {broken}.") from broken


FileReader = Callable[[Path, str, RowColumns], Iterator[Document]]
FILE_READERS: dict[str, FileReader] = {
    ".txt": read_text,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_comma_separated,
    ".tsv": read_comma_separated,
    ".parquet": read_parquet,
}
"""Reader of each file format, by suffix. All but Parquet, which has its own compression, may be
compressed."""
CORPUS_KINDS = "a .txt, .jsonl, .csv, .tsv or .parquet file (text also as .gz, .zst, .bz2 or .xz)"


def find_reader(path: Path, *, named: bool = False) -> FileReader | None:
    """Return the reader for a corpus file by its name, or None where there is none. A `.json` file
    is read only where it was `named` by the user: in a folder, such files are mostly metadata."""
    kind, compression = split_suffix(path)
    if named and kind == ".json":
        return read_json
    return None if compression and kind == ".parquet" else FILE_READERS.get(kind)


def file_corpus(path: Path, columns: RowColumns) -> Corpus:
    """Return the corpus in one file. Raises InputError where no reader fits the file's name."""
    reader = find_reader(path, named=True)
    if reader is None:
        raise InputError(f"Corpus {str(path)!r} is not {CORPUS_KINDS}.")
    name = replace_lone_surrogates(path.name)
    return Corpus(name, lambda: reader(path, name, columns))


def folder_corpus(folder: Path, columns: RowColumns) -> Corpus:
    """Return the corpus of every readable file under `folder`, sorted by relative path, without
    hidden files. Raises InputError where there is none."""
    name = replace_lone_surrogates(folder.resolve().name)
    files = sorted(
        (path.relative_to(folder).as_posix(), path, reader)
        for path in folder.rglob("*")
        if (reader := find_reader(path)) and path.is_file()
    )
    shown = [found for found in files if not _is_hidden(found[0])]
    if not shown:
        raise InputError(
            f"Folder {str(folder)!r} contains no corpus: none of its files is {CORPUS_KINDS}."
        )

    def read() -> Iterator[Document]:
        for part, path, reader in shown:
            yield from reader(path, f"{name}/{replace_lone_surrogates(part)}", columns)

    return Corpus(name, read)


def _is_hidden(relative: str) -> bool:
    """Return whether a file of a corpus folder is hidden or inside a hidden folder."""
    return any(part.startswith(".") for part in relative.split("/"))


def _decode_utf8(data: bytes, path: Path, offset: int) -> str:
    """Decode UTF-8 bytes that begin at byte `offset` of a corpus file. Raises InputError that names
    the offending byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as bad:
        raise InputError(
            f"{path} is not UTF-8: byte {offset + bad.start} ({data[bad.start]:#04x}) cannot be "
            "read; save the file as UTF-8."
        ) from bad


def _parse_json_row(line: str, where: str) -> object:
    """Parse one JSON row of a corpus file. Raises InputError that names the file and line."""
    try:
        return parse_json(line, nonfinite="keep")  # in columns that are not read
    except JsonError as bad:
        parts = filter(None, [bad.reason, bad.place.removeprefix("line 1, ")])
        raise InputError(f"{where} is not JSON ({', '.join(parts)}).") from bad
