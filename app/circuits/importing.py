"""Keeping a graph that another tool made: a circuit of the store, with its pins and groups."""

import gzip
import re
from pathlib import Path
from typing import IO, cast

from backend.circuits.graph_file_import import ImportedGraph
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store

BEGINNING = re.compile(rb'\s*(?:\xef\xbb\xbf)?\s*\{\s*"(?:metadata|qParams|nodes|links)"\s*:')
"""How a graph file begins."""


def is_graph_file(path: Path) -> bool:
    """Return whether a file, packed or not, begins as graph files do."""
    if not path.is_file():
        return False
    try:
        with open_file(path) as source:
            return BEGINNING.match(source.read(4096)) is not None
    except (OSError, EOFError):
        return False


def open_file(path: Path) -> IO[bytes]:
    """Open a file to read; one that gzip packed gives what is in it."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def keep_graph(store: Store, harvest: str, file: str, found: ImportedGraph) -> str:
    """Keep an imported graph with its marks; its id. `file` is the file's name."""
    circuits = SavedCircuits(store.catalog)
    id = circuits.save(
        found.circuit.to_json(),
        harvest=harvest,
        model=found.circuit.model,
        model_hash="",
        dictionaries={},
        request={"file": file, "slug": found.slug},
        versions={},
    )
    circuits.write_mark(id, "pins", list(found.marks.pins))
    circuits.write_mark(id, "groups", {name: list(ids) for name, ids in found.marks.groups.items()})
    return id
