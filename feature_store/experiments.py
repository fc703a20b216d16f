"""Experiments in the catalog: each saved run is stored with its request, result and everything
needed to run it again.

A run is never changed. Its note and its deletion are separate rows, so that both have a history and
a deleted run can be restored.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import duckdb

from feature_store.catalog import Catalog, utc_now
from feature_store.errors import InputError, suggest_near_miss
from feature_store.strict_json import JsonError, dump_json, parse_json

ExperimentKind = Literal[
    "steer",
    "sweep",
    "examples",
    "contrast",
    "ablate",
    "effects",
    "splice",
    "circuit",
    "shift",
    "clusters",
]
MAX_CHARACTERS = 8_000_000
"""Maximum number of characters of an experiment's request and result together, so that the
catalog stays small."""
ID_LENGTH = 10


@dataclass(frozen=True)
class Experiment:
    """A saved experiment: one run of steering, ablation, a circuit or another intervention or
    analysis. Its `request`, with the weights that the hashes name, reproduces its `result`."""

    id: str
    kind: ExperimentKind
    harvest: str
    model: str
    model_hash: str
    dictionaries: Mapping[str, str]
    """Dictionary name -> hash of its weights."""
    request: Mapping[str, Any]
    """The experiment's input: features, mode, strength, positions, prompt, sampling settings,
    seeds."""
    result: Mapping[str, Any]
    versions: Mapping[str, str]
    created: datetime
    note: str = ""
    deleted: bool = False


@dataclass(frozen=True)
class ExperimentSummary:
    """An experiment as a row of the list of experiments: without its result."""

    id: str
    kind: ExperimentKind
    harvest: str
    request: Mapping[str, Any]
    created: datetime
    note: str


class Experiments:
    """The saved experiments of a store. Every method is one transaction of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def save(
        self,
        kind: ExperimentKind,
        *,
        harvest: str,
        model: str,
        model_hash: str,
        dictionaries: Mapping[str, str],
        request: Mapping[str, Any],
        result: Mapping[str, Any],
        versions: Mapping[str, str],
        created: datetime | None = None,
    ) -> str:
        """Save an experiment and return its id; the same request with the same result has the same
        id.

        `created` is the time of the run in UTC, by default now. Raises InputError if the experiment
        is too large, holds a number that is not finite, or the catalog may not be written.
        """
        asked, found = encode_json("request", request), encode_json("result", result)
        if len(asked) + len(found) > MAX_CHARACTERS:
            raise InputError(
                f"The run has {len(asked) + len(found):,} characters; at most {MAX_CHARACTERS:,} "
                f"are "
                "kept. Run fewer prompts, seeds or tokens, or export it as JSON."
            )
        weights = encode_json("dictionaries", dictionaries)
        content = "\n".join([kind, harvest, model_hash, weights, asked, found])
        name = hashlib.sha256(content.encode()).hexdigest()[:ID_LENGTH]
        row = [
            name,
            kind,
            harvest,
            model,
            model_hash,
            weights,
            asked,
            found,
            encode_json("versions", versions),
            created or utc_now(),
        ]
        with self.catalog.transaction() as db:
            known = db.execute("SELECT 1 FROM experiment WHERE experiment = ?", [name]).fetchone()
            if known is None:
                db.execute(f"INSERT INTO experiment VALUES ({', '.join('?' * len(row))})", row)
            elif read_latest_word(db, name, "deleted"):
                add_word(db, name, "deleted", "")
        return name

    def open(self, experiment: str) -> Experiment:
        """Read an experiment by its id, including deleted ones; InputError if there is none."""
        if not self.catalog.path.exists():
            raise InputError(f"There is no experiment {experiment!r} in this store: it has none.")
        with self.catalog.read_transaction() as db:
            row = db.execute(
                "SELECT * FROM experiment WHERE experiment = ?", [experiment]
            ).fetchone()
            if row is None:
                names = [n for (n,) in db.execute("SELECT experiment FROM experiment").fetchall()]
                raise InputError(
                    f"There is no experiment {experiment!r} in this store."
                    f"{suggest_near_miss(experiment, names)} The Experiments page lists them."
                )
            name, kind, harvest, model, model_hash, weights, asked, found, versions, created = row
            return Experiment(
                name,
                kind,
                harvest,
                model,
                model_hash,
                parse_json(weights),
                parse_json(asked),
                parse_json(found),
                parse_json(versions),
                created,
                note=read_latest_word(db, name, "note"),
                deleted=bool(read_latest_word(db, name, "deleted")),
            )

    def list_summaries(self, limit: int = 500, *, deleted: bool = False) -> list[ExperimentSummary]:
        """Return summaries of the newest experiments: those not deleted, or with `deleted` only
        those that were deleted."""
        if not self.catalog.path.exists():
            return []
        with self.catalog.read_transaction() as db:
            rows = db.execute(
                """
                WITH said AS (
                    SELECT experiment, kind, arg_max(value, word) AS value
                    FROM experiment_word GROUP BY ALL
                )
                SELECT e.experiment, e.kind, e.harvest, e.request, e.created,
                       coalesce(note.value, '')
                FROM experiment e
                LEFT JOIN said note ON note.experiment = e.experiment AND note.kind = 'note'
                LEFT JOIN said gone ON gone.experiment = e.experiment AND gone.kind = 'deleted'
                WHERE (coalesce(gone.value, '') <> '') = ?
                ORDER BY e.created DESC, e.experiment LIMIT ?
                """,
                [deleted, limit],
            ).fetchall()
        return [
            ExperimentSummary(n, k, h, parse_json(asked), at, note)
            for n, k, h, asked, at, note in rows
        ]

    def annotate(self, experiment: str, note: str) -> None:
        """Write the note of an experiment; an empty note removes the former one."""
        self._write_word(experiment, "note", note)

    def delete(self, experiment: str, *, restore: bool = False) -> None:
        """Delete an experiment from the list, or undelete it with `restore`. Its link works either
        way."""
        self._write_word(experiment, "deleted", "" if restore else "1")

    def _write_word(self, experiment: str, kind: str, value: str) -> None:
        with self.catalog.transaction() as db:
            if not db.execute(
                "SELECT 1 FROM experiment WHERE experiment = ?", [experiment]
            ).fetchone():
                raise InputError(f"There is no experiment {experiment!r} in this store.")
            if read_latest_word(db, experiment, kind) != value:
                add_word(db, experiment, kind, value)


def encode_json(what: str, value: Mapping[str, Any]) -> str:
    """Return canonical JSON of an experiment's request or result; InputError for a value that
    JSON cannot hold."""
    try:
        return dump_json(value, sort_keys=True)
    except JsonError as bad:
        raise InputError(f"The run's {what} cannot be kept as JSON: {bad.reason}.") from bad


def read_latest_word(db: duckdb.DuckDBPyConnection, experiment: str, kind: str) -> str:
    """Return the newest note or deletion mark of an experiment; empty if there is none."""
    row = db.execute(
        "SELECT arg_max(value, word) FROM experiment_word WHERE experiment = ? AND kind = ?",
        [experiment, kind],
    ).fetchone()
    return row[0] if row and row[0] else ""


def add_word(db: duckdb.DuckDBPyConnection, experiment: str, kind: str, value: str) -> None:
    """Add a note or deletion mark of an experiment to its history."""
    db.execute(
        "INSERT INTO experiment_word (experiment, kind, value, created) VALUES (?, ?, ?, ?)",
        [experiment, kind, value, utc_now()],
    )
