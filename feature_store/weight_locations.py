"""Weight locations: where this machine keeps the weights of the models and dictionaries of a
store's harvests.

A harvest file names weights by their hash and not by a path, so that it can be moved to another
machine. Each machine's paths are in `places.json` next to the catalog, written by the harvest.
"""

from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from feature_store.atomic_file import write_file
from feature_store.errors import InputError
from feature_store.strict_json import dump_json, parse_json

ADVICE = "Correct the file, or delete it and harvest again with the same arguments."


class WeightLocations:
    """Table of weight locations: hash of the weights -> folder, file or hub name to load them
    from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_all(self) -> dict[str, str]:
        """Return all weight locations, hash -> location; empty if there is no file.

        Raises InputError that names the file, and the entry, if it is not a table of texts.
        """
        try:
            found = parse_json(self.path.read_bytes(), f"{self.path} cannot be read as JSON")
        except FileNotFoundError:
            return {}
        except OSError as bad:
            raise InputError(f"{self.path} cannot be read: {bad.strerror}. {ADVICE}") from bad
        except InputError as bad:
            raise InputError(f"{bad} {ADVICE}") from bad
        if not isinstance(found, dict):
            raise InputError(f"{self.path} is not a JSON object. {ADVICE}")
        for key, value in found.items():
            if not isinstance(value, str) or not value:
                raise InputError(
                    f"{self.path}: the location of {key!r} is not a text but "
                    f"{type(value).__name__}. {ADVICE}"
                )
        return found

    def find(self, weights_hash: str) -> str | None:
        """Return the folder, file or hub name of the weights with this hash; None if this
        machine has not harvested them."""
        return self.read_all().get(weights_hash)

    def remember(self, places: Mapping[str, str]) -> None:
        """Add weight locations, replacing older ones of the same hash. An unreadable file is
        renamed to `.damaged` first."""
        with FileLock(self.path.with_suffix(".lock"), timeout=60):
            try:
                known = self.read_all()
            except InputError:
                self.path.replace(self.path.with_suffix(".damaged"))
                known = {}
            write_file(self.path, dump_json({**known, **places}, indent=1))
