"""Explanations as Neuronpedia gives them away: JSON lines (also .gz), a JSON file, a dump's folder.

A line has modelId, layer (its name of the dictionary, such as 6-res-jb), index, description,
typeName and explanationModelName; what its interface gives of a feature has a list of these under
`explanations`. Lines are read one by one: embeddings, which make up most of a dump, are let go.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from feature_store.errors import InputError
from feature_store.exchange.placeholders import Failures
from feature_store.exchange.shapes import HIGHEST, SHAPES, Offered, in_range, proper
from feature_store.exchange.sources import Names
from feature_store.foreign_data import show_value
from feature_store.storable_text import make_storable
from feature_store.strict_json import JsonError, dump_json, parse_json

OWN = "saefari"
"""Beside Neuronpedia's keys, in exports of ours."""
ABOUT = ("modelId", "layer", "index")
"""What says of which feature an explanation is."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
Pieces = Iterable[tuple[str, Callable[[], IO[bytes]]]]
"""(name, how to open it) of each file."""
Stream = IO[bytes] | gzip.GzipFile


def pieces(path: Path) -> Pieces:
    """The files of a dump's folder that hold explanations or features, or the one file given."""
    if not path.is_dir():
        return [(path.name, lambda: path.open("rb"))]
    inside = [path / part for part in ("explanations", "features")]
    folders = [folder for folder in inside if folder.is_dir()] or [path]
    found = sorted(file for folder in folders for file in folder.iterdir())
    found = [file for file in found if file.name.endswith(SUFFIXES)]
    return [
        (file.relative_to(path).as_posix(), lambda file=file: file.open("rb")) for file in found
    ]


def explained(files: Pieces, names: Names) -> Offered:
    """All explanations in these files, by our names of the dictionaries.

    Raises InputError that names file and line of what is wrong.
    """
    columns: dict[str, list[Any]] = {name: [] for name in SHAPES["explanations"].names}
    bare, failures = 0, Failures()
    for where, row in lines(files):
        try:
            said = flat(row)
            bare += not said
            for one in said:
                if not failures.take(described(one)):
                    keep(one, names, columns)
        except InputError as error:
            raise InputError(f"{where}: {error}. Nothing was imported.") from error
    left_out = [
        *([f"{bare} features without an explanation"] if bare else []),
        *failures.sentences(),
    ]
    return Offered("explanations", pa.table(columns, SHAPES["explanations"]), tuple(left_out))


def lines(files: Pieces) -> Iterator[tuple[str, Any]]:
    """(file and line, what stands there) of each line, or of each element of a JSON file."""
    for name, opened in files:
        with opened() as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: Stream = gzip.GzipFile(fileobj=raw) if packed else raw
            try:
                whole = name.removesuffix(".gz").endswith(".json")
                yield from elements(name, stream) if whole else each_line(name, stream)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(
                    f"{name} cannot be unpacked ({error}). Nothing was imported; fetch it again."
                ) from error


def each_line(name: str, stream: Stream) -> Iterator[tuple[str, Any]]:
    """The lines of a file of JSON lines; empty ones are nothing."""
    for number, line in enumerate(stream, 1):
        if line.strip():
            where = f"{name}, line {number}"
            yield where, parsed(line, where)


def elements(name: str, stream: Stream) -> Iterator[tuple[str, Any]]:
    """The elements of a JSON file: a list, or one object."""
    found = parsed(stream.read(), name)
    for number, row in enumerate(found if isinstance(found, list) else [found], 1):
        yield f"{name}, element {number}", row


def parsed(text: bytes, where: str) -> Any:
    """JSON, or an InputError that says where it is none."""
    try:
        return parse_json(text)
    except JsonError as error:
        one_line = b"\n" not in text.rstrip(b"\n")
        place = error.place.removeprefix("line 1").removeprefix(", ") if one_line else error.place
        at = ", ".join(filter(None, [where, place]))
        raise InputError(f"{at}: {error.reason}. Nothing was imported.") from error


def flat(row: Any) -> list[dict[str, Any]]:
    """The explanations in one line: itself, or those of a feature."""
    if not isinstance(row, dict):
        raise InputError("it is not an object")
    if "description" in row and "explanations" not in row:
        return [row]
    about = {name: row[name] for name in ABOUT if row.get(name) is not None}
    if "layer" not in about and row.get("saeId") is not None:  # exports of a whole dictionary
        about["layer"] = row["saeId"]
    if "explanations" not in row and len(about) < len(ABOUT):
        raise InputError("it is no explanation of Neuronpedia's: it has no 'description'")
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


def own_of(row: dict[str, Any]) -> dict[str, str]:
    """What an export of Saefari's says of an explanation beside Neuronpedia's keys."""
    own = row.get(OWN)
    if own is None:
        return {}
    if not isinstance(own, dict) or own.get("author") not in ("model", "person"):
        raise InputError(f"{OWN} is {show_value(own)}: it must be as Saefari's export writes it")
    return {
        "explainer": text_of(own, "explainer"),
        "model": text_of(own, "model"),
        "author": own["author"],
    }


def described(row: dict[str, Any]) -> str:
    """The words of an explanation; empty for none."""
    return text_of(row, "description").strip()


def text_of(row: dict[str, Any], name: str) -> str:
    """A text of an explanation, empty where it has none. InputError for another thing."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{name} is {show_value(value)}: it must be text")
    return make_storable(value)


def named(row: dict[str, Any], name: str) -> str:
    """A name or number of an explanation as text. InputError for another thing, and for none."""
    if name not in row:
        raise InputError(f"{name!r} is missing")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{name} is {show_value(value)}: it must be text")
    return make_storable(str(value))


def keep(row: dict[str, Any], names: Names, columns: dict[str, list[Any]]) -> None:
    """Put one explanation into the columns. Raises InputError for what is wrong with it."""
    model, layer, index = (named(row, name) for name in ABOUT)
    if not (index.isascii() and index.isdecimal() and int(index) <= HIGHEST):
        raise InputError(f"index {row['index']!r} is not a whole number from 0 on")
    dictionary, text = names.find(f"{model}/{layer}", layer), described(row)
    in_range(dictionary, int(index), names.sizes)
    proper("text", text)
    said = {"source": "neuronpedia", "model": model, "layer": layer, "id": text_of(row, "id")}
    values = {
        "dictionary": dictionary,
        "feature": int(index),
        "text": text,
        "explainer": text_of(row, "typeName"),
        "model": text_of(row, "explanationModelName"),
        "author": "model" if row.get("explanationModelName") else "person",
        **own_of(row),
        "provenance": dump_json({name: value for name, value in said.items() if value}),
    }
    for name in ("explainer", "model"):
        proper(name, values[name])
    for name, value in values.items():
        columns[name].append(value)
