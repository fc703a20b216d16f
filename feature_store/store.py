"""Store: a folder with immutable harvest files, one small catalog, and the work of unfinished
harvests."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from feature_store.catalog import Catalog
from feature_store.errors import InputError, pick_by_name, suggest_near_miss
from feature_store.harvest_reader import HarvestFile
from feature_store.model_speeds import ModelSpeeds
from feature_store.records import FeatureId
from feature_store.weight_locations import WeightLocations


@dataclass(frozen=True)
class UnfinishedHarvest:
    """A harvest of the store that was started and is not finished."""

    id: str
    path: Path


class Store:
    """Store, a folder of harvests with its catalog, opened by its path. Each harvest file is opened
    once per process and shared between threads."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`. Raises InputError if `path` is not a store."""
        if not path.exists():
            raise InputError(f"There is no store at {path}. Make one: {harvest_command(path)}")
        if not (path / "harvests").is_dir():
            raise InputError(
                f"{path} is not a Saefari store: it has no folder harvests/. "
                f"Make one: {harvest_command(path / 'store' if path.is_dir() else path.parent)}"
            )
        self.path = path
        self.catalog = Catalog(path / "catalog.duckdb")
        self.places = WeightLocations(path / "places.json")
        self.speeds = ModelSpeeds(path / "speeds.json")
        catalog = self.catalog.path
        self.catalog.writable = os.access(catalog if catalog.exists() else path, os.W_OK)
        self._open: dict[tuple[str, int, int], HarvestFile] = {}
        self._lock = threading.Lock()  # guards _open: pages run in threads

    @classmethod
    def create(cls, path: Path) -> "Store":
        """Open the store at `path`; create an empty store if there is nothing."""
        if path.is_file():
            raise InputError(f"{path} is a file. Give --store a folder.")
        if path.is_dir() and not (path / "harvests").is_dir() and any(path.iterdir()):
            raise InputError(
                f"{path} holds other things and is not a Saefari store. "
                "Give --store an empty or a new folder."
            )
        try:
            (path / "harvests").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"No store can be made at {path}: {error.strerror}.") from error
        return cls(path)

    def harvests(self) -> list[HarvestFile]:
        """Return the store's readable harvests, newest first."""
        found, _ = self._scan()
        return sorted(found, key=lambda file: (file.record.finished, file.record.id), reverse=True)

    def problems(self) -> list[str]:
        """Return one sentence for each file in the store's harvests/ folder that cannot be read."""
        return self._scan()[1]

    def unfinished(self) -> list[UnfinishedHarvest]:
        """Return the store's harvests that have work on disk but no published file."""
        done = {file.stem for file in (self.path / "harvests").glob("*.duckdb")}
        plans = sorted((self.path / "work").glob("*/config.json"))
        return [
            UnfinishedHarvest(p.parent.name, p.parent) for p in plans if p.parent.name not in done
        ]

    def harvest(self, harvest_id: str | None = None, dictionary: str | None = None) -> HarvestFile:
        """Return the store's harvest of that id; without an id, the newest harvest that has
        `dictionary`."""
        harvests = self.harvests()
        if not harvests and (problems := self.problems()):
            raise InputError(f"No harvest in {self.path} can be read. {' '.join(problems)}")
        if harvest_id is not None:
            return pick_by_name("harvest", harvest_id, {file.record.id: file for file in harvests})
        if not harvests:
            raise InputError(
                f"The store at {self.path} holds no finished harvest. "
                f"Make one: {harvest_command(self.path)}"
            )
        if dictionary is None:
            return harvests[0]
        for file in harvests:
            if dictionary in file.dictionaries:
                return file
        names = sorted({name for file in harvests for name in file.dictionaries})
        raise InputError(
            f"No harvest in {self.path} has a dictionary called {dictionary!r}."
            f"{suggest_near_miss(dictionary, names)} There are: {', '.join(names)}."
        )

    def find_harvest(self, feature: FeatureId, harvest_id: str | None = None) -> HarvestFile:
        """Return the store's harvest that contains a feature; InputError if the feature does not
        exist."""
        file = self.harvest(harvest_id, feature.dictionary)
        file.check_feature(feature)
        return file

    def _scan(self) -> tuple[list[HarvestFile], list[str]]:
        """Open the store's new harvest files; return the readable ones and one sentence for each
        other."""
        with self._lock:
            current: dict[tuple[str, int, int], HarvestFile] = {}
            problems: list[str] = []
            for path in sorted((self.path / "harvests").glob("*.duckdb")):
                stat = path.stat()
                key = (path.name, stat.st_mtime_ns, stat.st_ino)
                try:
                    current[key] = self._open.get(key) or HarvestFile(path)
                except InputError as error:
                    problems.append(str(error))
            self._open = current  # files that went away close when their last reader lets go
            return list(current.values()), problems


def harvest_command(store: Path) -> str:
    """Return the command line that makes a harvest in a store, for error messages."""
    return f"saefari harvest --model MODEL --dictionary DICTIONARY --corpus TEXT --store {store}"
