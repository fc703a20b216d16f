"""Where this machine keeps the weights behind a store's harvests.

A harvest file names weights by their hash and no path, so that it can go to another machine. The
paths are the machine's own affair: `places.json` beside the catalog, written by the harvest.
"""

from collections.abc import Mapping
from pathlib import Path

from feature_store.atomic_file import write_file
from feature_store.strict_json import JsonError, dump_json, parse_json


class Places:
    """A small table from hashes of weights to what loads them there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self) -> dict[str, str]:
        """Everything remembered; empty where nothing was, or the file is not readable."""
        try:
            found = parse_json(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, JsonError):
            return {}
        return {str(key): str(value) for key, value in found.items()}

    def find(self, weights_hash: str) -> str | None:
        """The folder, file or hub name of these weights, if this machine has harvested them."""
        return self.known().get(weights_hash)

    def remember(self, places: Mapping[str, str]) -> None:
        """Add places; the newest of a hash is kept."""
        write_file(self.path, dump_json({**self.known(), **places}, indent=1))
