"""Import reader: detect the format of a file or folder (Saefari's, Neuronpedia's or delphi's)
and read its rows to import."""

import io
from pathlib import Path

from feature_store.errors import InputError
from feature_store.exchange import delphi_import, neuronpedia_import, saefari_files
from feature_store.exchange.dictionary_names import DictionaryNames
from feature_store.exchange.import_rows import ImportRows
from feature_store.store import Store


def read_dictionary_sizes(store: Store) -> dict[str, int]:
    """Return the dictionaries of a store with their number of features, from its newest
    harvests."""
    found: dict[str, int] = {}
    for file in store.harvests():
        for name, info in file.dictionaries.items():
            found.setdefault(name, info.d_sae)
    return found


def read_import_path(path: Path, names: DictionaryNames) -> ImportRows:
    """Read the rows to import (labels, lists or explanations) from a file or folder in the format
    of Saefari, Neuronpedia or delphi. Raises InputError for other formats."""
    try:
        return _read_existing_path(path, names)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _read_existing_path(path: Path, names: DictionaryNames) -> ImportRows:
    """Detect whether a file or folder is Saefari's, Neuronpedia's or delphi's, and read its rows to
    import."""
    if not path.exists():
        raise InputError(f"There is nothing at {path}.")
    if not path.is_dir():
        if is_json_lines(path.name):
            return neuronpedia_import.read_neuronpedia_explanations(
                neuronpedia_import.list_dump_files(path), names
            )
        return read_import_bytes(path.read_bytes(), path.name, names)
    if found := delphi_import.list_explanation_files(path):
        return delphi_import.read_delphi_explanations(found, names)
    if dump := list(neuronpedia_import.list_dump_files(path)):
        return neuronpedia_import.read_neuronpedia_explanations(dump, names)
    raise InputError(
        f"{path} holds neither explanations of delphi (HOOK_latentN.txt) nor a dump of "
        "Neuronpedia (explanations/batch-0.jsonl.gz)."
    )


def read_import_bytes(data: bytes, name: str, names: DictionaryNames) -> ImportRows:
    """Read the rows to import (labels, lists or explanations) from the content of one uploaded
    file, in the format of Saefari or Neuronpedia."""
    ours = data[:4] == b"PAR1" or saefari_files.KIND_KEY.encode() in data[:64]
    if ours or not name.endswith(neuronpedia_import.SUFFIXES):
        return saefari_files.decode_rows(data, name, names.sizes)
    return neuronpedia_import.read_neuronpedia_explanations(
        [(name, lambda: io.BytesIO(data))], names
    )


def is_json_lines(name: str) -> bool:
    """Return whether a file to import has a name of JSON lines (.jsonl, .jsonl.gz), and so is read
    line by line, however large it is."""
    return name.removesuffix(".gz").endswith(".jsonl")
