"""Whatever a file or folder holds, as rows ready to be taken in."""

import io
from pathlib import Path

from feature_store.errors import InputError
from feature_store.exchange import delphi, files, neuronpedia
from feature_store.exchange.shapes import Offered
from feature_store.exchange.sources import Names
from feature_store.store import Store


def sizes(store: Store) -> dict[str, int]:
    """The dictionaries of a store with their number of features, as its newest harvests say."""
    found: dict[str, int] = {}
    for file in store.harvests():
        for name, info in file.dictionaries.items():
            found.setdefault(name, info.d_sae)
    return found


def read_path(path: Path, names: Names) -> Offered:
    """A file or folder of ours, Neuronpedia's or delphi's. Raises InputError for any other."""
    try:
        return _read_path(path, names)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _read_path(path: Path, names: Names) -> Offered:
    if not path.exists():
        raise InputError(f"There is nothing at {path}.")
    if not path.is_dir():
        if is_lines(path.name):
            return neuronpedia.explained(neuronpedia.pieces(path), names)
        return read_bytes(path.read_bytes(), path.name, names)
    if found := delphi.files(path):
        return delphi.explained(found, names)
    if dump := list(neuronpedia.pieces(path)):
        return neuronpedia.explained(dump, names)
    raise InputError(
        f"{path} holds neither explanations of delphi (HOOK_latentN.txt) nor a dump of "
        "Neuronpedia (explanations/batch-0.jsonl.gz)."
    )


def read_bytes(data: bytes, name: str, names: Names) -> Offered:
    """The same of one file's content."""
    ours = data[:4] == b"PAR1" or files.MARK.encode() in data[:64]
    if ours or not name.endswith(neuronpedia.SUFFIXES):
        return files.offered(data, name, names.sizes)
    return neuronpedia.explained([(name, lambda: io.BytesIO(data))], names)


def is_lines(name: str) -> bool:
    """Whether a file is read line by line, however large it is."""
    return name.removesuffix(".gz").endswith(".jsonl")
