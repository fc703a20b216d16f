"""Neuronpedia import: read the explanations that Neuronpedia publishes as JSON lines (also .gz), as
a JSON file or as a dump's folder.

A line has modelId, layer (Neuronpedia's name of the dictionary, such as 6-res-jb), index,
description, typeName and explanationModelName; a feature from its API has a list of these under
`explanations`. Lines are read one by one, without the embeddings that make up most of a dump.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from feature_store.errors import InputError
from feature_store.exchange.dictionary_names import DictionaryNames
from feature_store.exchange.failed_explanations import FailureCounts
from feature_store.exchange.import_rows import (
    LARGEST_FEATURE,
    ROW_SCHEMAS,
    ImportRows,
    check_feature_index,
    check_text,
)
from feature_store.record_validation import show_value
from feature_store.storable_text import make_storable
from feature_store.strict_json import JsonError, dump_json, parse_json

SAEFARI_KEY = "saefari"
"""Key that Saefari's own exports add to Neuronpedia's keys."""
FEATURE_KEYS = ("modelId", "layer", "index")
"""Keys of a Neuronpedia row that identify the feature of an explanation."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
DumpFiles = Iterable[tuple[str, Callable[[], IO[bytes]]]]
"""(name, function that opens the file) of each file of a Neuronpedia dump."""
DumpStream = IO[bytes] | gzip.GzipFile


def list_dump_files(path: Path) -> DumpFiles:
    """Return the files of a Neuronpedia dump's folder that hold explanations or features, or the
    one file given."""
    if not path.is_dir():
        return [(path.name, lambda: path.open("rb"))]
    inside = [path / part for part in ("explanations", "features")]
    folders = [folder for folder in inside if folder.is_dir()] or [path]
    found = sorted(file for folder in folders for file in folder.iterdir())
    found = [file for file in found if file.name.endswith(SUFFIXES)]
    return [
        (file.relative_to(path).as_posix(), lambda file=file: file.open("rb")) for file in found
    ]


def read_neuronpedia_explanations(files: DumpFiles, names: DictionaryNames) -> ImportRows:
    """Read all explanations in Neuronpedia's files as rows to import; `names` gives each
    Neuronpedia source's dictionary in this store.

    Raises InputError that names the file and line of what is wrong.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ROW_SCHEMAS["explanations"].names}
    bare, failures = 0, FailureCounts()
    for where, row in read_dump_rows(files):
        try:
            said = flatten_explanations(row)
            bare += not said
            for one in said:
                if not failures.count_if_failed(read_description(one)):
                    append_explanation(one, names, columns)
        except InputError as error:
            raise InputError(f"{where}: {error}. Nothing was imported.") from error
    left_out = [
        *([f"{bare} features without an explanation"] if bare else []),
        *failures.describe_failures(),
    ]
    return ImportRows(
        "explanations", pa.table(columns, ROW_SCHEMAS["explanations"]), tuple(left_out)
    )


def read_dump_rows(files: DumpFiles) -> Iterator[tuple[str, Any]]:
    """Yield (file and line, row) for each line, or each element of a JSON file, of a Neuronpedia
    dump."""
    for name, opened in files:
        with opened() as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: DumpStream = gzip.GzipFile(fileobj=raw) if packed else raw
            try:
                whole = name.removesuffix(".gz").endswith(".json")
                yield from (
                    read_json_elements(name, stream) if whole else read_json_lines(name, stream)
                )
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(
                    f"{name} cannot be unpacked ({error}). Nothing was imported; fetch it again."
                ) from error


def read_json_lines(name: str, stream: DumpStream) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a Neuronpedia file of JSON lines; empty lines are skipped."""
    for number, line in enumerate(stream, 1):
        if line.strip():
            where = f"{name}, line {number}"
            yield where, parse_dump_row(line, where)


def read_json_elements(name: str, stream: DumpStream) -> Iterator[tuple[str, Any]]:
    """Yield the elements of a Neuronpedia JSON file, which holds a list or one object."""
    found = parse_dump_row(stream.read(), name)
    for number, row in enumerate(found if isinstance(found, list) else [found], 1):
        yield f"{name}, element {number}", row


def parse_dump_row(text: bytes, where: str) -> Any:
    """Parse the JSON of a Neuronpedia row; InputError that names the place if it is not JSON."""
    try:
        return parse_json(text)
    except JsonError as error:
        one_line = b"\n" not in text.rstrip(b"\n")
        place = error.place.removeprefix("line 1").removeprefix(", ") if one_line else error.place
        at = ", ".join(filter(None, [where, place]))
        raise InputError(f"{at}: {error.reason}. Nothing was imported.") from error


def flatten_explanations(row: Any) -> list[dict[str, Any]]:
    """Return the explanations in one Neuronpedia row: the row itself, or those listed in a
    feature."""
    if not isinstance(row, dict):
        raise InputError("it is not an object")
    if "description" in row and "explanations" not in row:
        return [row]
    about = {name: row[name] for name in FEATURE_KEYS if row.get(name) is not None}
    if "layer" not in about and row.get("saeId") is not None:  # exports of a whole dictionary
        about["layer"] = row["saeId"]
    if "explanations" not in row and len(about) < len(FEATURE_KEYS):
        raise InputError("it is not an explanation of Neuronpedia: it has no 'description'")
    inner = row.get("explanations") or []
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        raise InputError("'explanations' is not a list of objects")
    for one in inner:
        for name, value in about.items():
            if str(one.get(name, value)) != str(value):
                raise InputError(
                    f"{name!r} is {value!r} and {one[name]!r} in one of its explanations"
                )
    return [{**about, **one} for one in inner]


def read_saefari_fields(row: dict[str, Any]) -> dict[str, str]:
    """Return explainer, model and author that Saefari's export adds to a Neuronpedia row; empty
    if absent."""
    own = row.get(SAEFARI_KEY)
    if own is None:
        return {}
    if not isinstance(own, dict) or own.get("author") not in ("model", "person"):
        raise InputError(
            f"{SAEFARI_KEY} is {show_value(own)}: it must be as Saefari's export writes it"
        )
    return {
        "explainer": read_optional_text(own, "explainer"),
        "model": read_optional_text(own, "model"),
        "author": own["author"],
    }


def read_description(row: dict[str, Any]) -> str:
    """Return the text of an explanation in a Neuronpedia row; empty if it has none."""
    return read_optional_text(row, "description").strip()


def read_optional_text(row: dict[str, Any], name: str) -> str:
    """Return a text field of a Neuronpedia row, empty if absent. InputError if it is not text."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{name} is {show_value(value)}: it must be text")
    return make_storable(value)


def read_required_text(row: dict[str, Any], name: str) -> str:
    """Return a required name or number of a Neuronpedia row as text. InputError if it is absent
    or something else."""
    if name not in row:
        raise InputError(f"{name!r} is missing")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{name} is {show_value(value)}: it must be text")
    return make_storable(str(value))


def append_explanation(
    row: dict[str, Any], names: DictionaryNames, columns: dict[str, list[Any]]
) -> None:
    """Append one Neuronpedia explanation to the columns to import. Raises InputError for invalid
    values."""
    model, layer, index = (read_required_text(row, name) for name in FEATURE_KEYS)
    if not (index.isascii() and index.isdecimal() and int(index) <= LARGEST_FEATURE):
        raise InputError(f"index {row['index']!r} is not a whole number from 0 on")
    dictionary, text = names.find(f"{model}/{layer}", layer), read_description(row)
    check_feature_index(dictionary, int(index), names.sizes)
    check_text("text", text)
    said = {
        "source": "neuronpedia",
        "model": model,
        "layer": layer,
        "id": read_optional_text(row, "id"),
    }
    values = {
        "dictionary": dictionary,
        "feature": int(index),
        "text": text,
        "explainer": read_optional_text(row, "typeName"),
        "model": read_optional_text(row, "explanationModelName"),
        "author": "model" if row.get("explanationModelName") else "person",
        **read_saefari_fields(row),
        "provenance": dump_json({name: value for name, value in said.items() if value}),
    }
    for name in ("explainer", "model"):
        check_text(name, values[name])
    for name, value in values.items():
        columns[name].append(value)
