"""Import rows: the columns of labels, lists and explanations in import files, and the checks
that name the first invalid row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from feature_store.errors import InputError
from feature_store.strict_json import JsonError, parse_json

RowKind = Literal["labels", "lists", "explanations"]
ROW_SCHEMAS: dict[RowKind, pa.Schema] = {
    "labels": pa.schema(
        [
            ("dictionary", pa.string()),
            ("feature", pa.int32()),
            ("kind", pa.string()),
            ("value", pa.string()),
        ]
    ),
    "lists": pa.schema(
        [
            ("list", pa.string()),
            ("name", pa.string()),
            ("description", pa.string()),
            ("dictionary", pa.string()),
            ("feature", pa.int32()),
            ("note", pa.string()),
        ]
    ),
    "explanations": pa.schema(
        [
            ("dictionary", pa.string()),
            ("feature", pa.int32()),
            ("text", pa.string()),
            ("explainer", pa.string()),
            ("model", pa.string()),
            ("author", pa.string()),
            ("provenance", pa.string()),
        ]
    ),
}
"""Columns of each kind of import file. A list without features is one row without a feature."""
MAX_LENGTHS = {"label": 200, "name": 120, "list": 64}
MAX_TEXT_LENGTH = 20_000
"""Maximum number of characters of texts without an entry in MAX_LENGTHS."""
OPTIONAL_COLUMNS = {"dictionary", "feature"}
"""Columns that the row of an empty list has no value for."""
LARGEST_FEATURE = 2**31 - 1


@dataclass(frozen=True)
class ImportRows:
    """Rows of one kind (labels, lists or explanations) from an import file, checked and ready to be
    saved."""

    kind: RowKind
    table: pa.Table
    """The rows to import, with the columns of their kind in ROW_SCHEMAS."""
    left_out: tuple[str, ...] = ()
    """Sentences about the parts of the source that are not imported."""


def check_rows(
    kind: RowKind, rows: Sequence[Any], origin: str, sizes: Mapping[str, int] | None = None
) -> ImportRows:
    """Check the rows of an import file and return them as a table. `sizes` are the known
    dictionaries with their d_sae.

    Raises InputError that names `origin` and the first invalid row.
    """
    check = ROW_CHECKS[kind]
    seen: dict[tuple, tuple[int, Any]] = {}
    for number, row in enumerate(rows, 1):
        try:
            check_columns(row, ROW_SCHEMAS[kind])
            claims = check(row)
            if row["feature"] is not None:
                check_feature_index(row["dictionary"], row["feature"], sizes or {})
            for key, value in claims:
                former = seen.setdefault(key, (number, value))
                if former[1] != value:
                    raise InputError(f"it contradicts row {former[0]}")
        except InputError as error:
            raise InputError(
                f"{origin}, row {number}: {error}. Nothing was imported; correct that row."
            ) from error
    return ImportRows(kind, pa.Table.from_pylist(list(rows), ROW_SCHEMAS[kind]))


def check_columns(row: Any, shape: pa.Schema) -> None:
    """Check that an import row has exactly the columns of its kind, each of its type."""
    if not isinstance(row, dict):
        raise InputError("it is not an object with named values")
    if missing := [name for name in shape.names if name not in row]:
        raise InputError(f"{missing[0]!r} is missing")
    if unknown := [name for name in row if name not in shape.names]:
        raise InputError(f"{unknown[0]!r} is not known; there are {', '.join(shape.names)}")
    for name, value in row.items():
        if value is None and name in OPTIONAL_COLUMNS and "list" in row:
            continue
        if name == "feature":
            if (
                not isinstance(value, int)
                or isinstance(value, bool)
                or not 0 <= value <= LARGEST_FEATURE
            ):
                raise InputError(f"feature {value!r} is not an index, a whole number from 0 on")
        else:
            check_text(name, value)


def check_text(name: str, value: Any) -> None:
    """Check that a value of an import row is a text and not too long."""
    if not isinstance(value, str):
        raise InputError(f"{name} {value!r} is not a text")
    most = MAX_LENGTHS.get(name, MAX_TEXT_LENGTH)
    if len(value) > most:
        raise InputError(f"{name} has {len(value)} characters; at most {most} are allowed")


def check_feature_index(dictionary: str, feature: int, sizes: Mapping[str, int]) -> None:
    """Check that an import row's feature exists, if its dictionary is known."""
    if not dictionary:
        raise InputError("dictionary is empty")
    if dictionary in sizes and feature >= sizes[dictionary]:
        raise InputError(f"{dictionary} has features 0 to {sizes[dictionary] - 1}, not {feature}")


def check_label_row(row: dict[str, Any]) -> list[tuple[tuple, Any]]:
    """Check an import row of a label, note or star; return (key, value) pairs: two rows of a file
    may not give one key different values."""
    kind, value = row["kind"], row["value"]
    if kind not in ("label", "note", "star"):
        raise InputError(f"kind {kind!r} must be label, note or star")
    if not value or (kind == "star" and value != "1"):
        raise InputError("a star's value is 1" if kind == "star" else "value is empty")
    if kind == "label":
        check_text("label", value)
        if value.split() != value.strip().split(" "):
            raise InputError("a label must be on one line, with single spaces")
    return [((row["dictionary"], row["feature"], kind), value)]


def check_list_row(row: dict[str, Any]) -> list[tuple[tuple, Any]]:
    """Check an import row of lists, a feature in a list or an empty list; return (key, value)
    pairs: two rows of a file may not give one key different values."""
    if not row["list"] or not row["list"].isascii() or not row["list"].isalnum():
        raise InputError(f"list {row['list']!r} is not an id of letters and digits")
    if not row["name"].strip():
        raise InputError("name is empty")
    feature = (row["dictionary"], row["feature"])
    if (feature[0] is None) != (feature[1] is None):
        raise InputError("dictionary and feature must be given together")
    named = ((row["list"],), (row["name"], row["description"]))
    return [named, ((row["list"], *feature), row["note"])]


def check_explanation_row(row: dict[str, Any]) -> list[tuple[tuple, Any]]:
    """Check an import row of explanations: its text, author and provenance."""
    if not row["text"].strip():
        raise InputError("text is empty")
    if row["author"] not in ("model", "person"):
        raise InputError(f"author {row['author']!r} is neither model nor person")
    try:
        said = parse_json(row["provenance"])
    except JsonError as error:
        raise InputError(f"provenance is not JSON ({error.reason})") from error
    if not isinstance(said, dict):
        raise InputError("provenance is not a JSON object")
    return []


ROW_CHECKS: dict[RowKind, Callable[[dict[str, Any]], list[tuple[tuple, Any]]]] = {
    "labels": check_label_row,
    "lists": check_list_row,
    "explanations": check_explanation_row,
}
