"""Saefari files: our own files of labels, lists and explanations, JSON (for people to edit) or
Parquet (to compute with).

    {"saefari": "labels", "version": 1, "rows": [
    {"dictionary": "resid3", "feature": 7, "kind": "label", "value": "dogs"}
    ]}

A Parquet file has the same rows and names its kind in its metadata.
"""

import io
from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.annotations import Annotations
from feature_store.errors import InputError
from feature_store.exchange.import_rows import ROW_SCHEMAS, ImportRows, RowKind, check_rows
from feature_store.record_validation import show_value
from feature_store.strict_json import JsonError, dump_json, parse_json

VERSION = 1
KIND_KEY = "saefari"
"""Key of a Saefari file that names the kind of its rows."""
FORMATS = ("json", "parquet")


def collect_rows(kind: RowKind, annotations: Annotations, only: str | None = None) -> pa.Table:
    """Return all labels, lists or explanations in force as rows of a Saefari file; with `only`,
    a single list."""
    if kind == "labels":
        table = annotations.in_force.select(ROW_SCHEMAS[kind].names)
        table = table.sort_by([(name, "ascending") for name in ("dictionary", "feature", "kind")])
    elif kind == "explanations":
        table = annotations.explanations.table.select(ROW_SCHEMAS[kind].names)
    else:
        kept = [annotations.lists.get(only)] if only is not None else annotations.lists.current
        rows: list[dict[str, Any]] = []
        for one in kept:
            head = {"list": one.id, "name": one.name, "description": one.description}
            rows += [
                {
                    **head,
                    "dictionary": entry.feature.dictionary,
                    "feature": entry.feature.index,
                    "note": entry.note,
                }
                for entry in one.entries
            ] or [{**head, "dictionary": None, "feature": None, "note": ""}]
        table = pa.Table.from_pylist(rows, ROW_SCHEMAS[kind])
    return table.cast(ROW_SCHEMAS[kind])


def encode_rows(what: RowKind, table: pa.Table, kind: str) -> bytes:
    """Return the bytes of a Saefari file (JSON or Parquet, see FORMATS) with these rows of labels,
    lists or explanations."""
    if kind == "parquet":
        target = io.BytesIO()
        marks = {KIND_KEY: what, "version": str(VERSION)}
        pq.write_table(table.replace_schema_metadata(marks), target)
        return target.getvalue()
    head = f'{{"{KIND_KEY}": "{what}", "version": {VERSION}, "rows": [\n'
    rows = ",\n".join(dump_json(row) for row in table.to_pylist())
    return f"{head}{rows}\n]}}\n".encode()


def decode_rows(data: bytes, name: str, sizes: Mapping[str, int] | None = None) -> ImportRows:
    """Parse and check the bytes of a Saefari file of labels, lists or explanations. Raises
    InputError that names the file and the error."""
    what, rows = (
        read_parquet_rows(data, name) if data[:4] == b"PAR1" else read_json_rows(data, name)
    )
    return check_rows(what, rows, name, sizes)


def read_parquet_rows(data: bytes, name: str) -> tuple[RowKind, list[Any]]:
    """Return the kind and the rows of a Saefari file in Parquet."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} is a damaged Parquet file: {error}") from error
    marks = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return parse_row_kind(marks.get(KIND_KEY), marks.get("version"), name), table.to_pylist()


def read_json_rows(data: bytes, name: str) -> tuple[RowKind, list[Any]]:
    """Return the kind and the rows of a Saefari file in JSON."""
    try:
        found = parse_json(data)
    except JsonError as error:
        at = ", ".join(filter(None, [name, error.place]))
        raise InputError(
            f"{at}: {error.reason}. Nothing was imported; correct the file and import it again."
        ) from error
    if not isinstance(found, dict) or KIND_KEY not in found:
        raise InputError(describe_unknown_file(name))
    what = parse_row_kind(found[KIND_KEY], str(found.get("version")), name)
    if not isinstance(found.get("rows"), list):
        raise InputError(f'{name} has no "rows". Nothing was imported.')
    return what, found["rows"]


def parse_row_kind(what: object, version: str | None, name: str) -> RowKind:
    """Return the kind of rows (labels, lists or explanations) that a Saefari file declares;
    InputError for an unknown kind or version."""
    if what is None:
        raise InputError(describe_unknown_file(name))
    if not isinstance(what, str) or what not in ROW_SCHEMAS:
        raise InputError(f"{name} holds {show_value(what)}; there are: {', '.join(ROW_SCHEMAS)}.")
    if version != str(VERSION):
        raise InputError(
            f"{name} has version {version}, and this Saefari reads {VERSION}. Upgrade Saefari."
        )
    return cast(RowKind, what)


def describe_unknown_file(name: str) -> str:
    """Return the error message for a file to import that is not a Saefari file, nor in another
    known format."""
    return (
        f"{name} is not a file that Saefari can import: neither its own JSON or Parquet, nor "
        "explanations of Neuronpedia (.jsonl, .jsonl.gz, .json), nor a folder of Neuronpedia's or "
        "delphi's."
    )
