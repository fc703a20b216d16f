"""Harvest reader: read features, contexts, tokens and statistics from a published harvest file
(DuckDB); one feature is one short read."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from feature_store.duckdb_errors import is_file_damage, parse_lock_holder
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_schema_1 import CHANGES_TO_SCHEMA_1, parse_sites, select_list
from feature_store.harvest_writer import SCHEMA_FILE, SCHEMA_VERSION
from feature_store.records import (
    Context,
    DictionaryInfo,
    FeatureFacts,
    FeatureId,
    FeaturePayload,
    HarvestRecord,
    SignStatistics,
    SilentWindow,
    Split,
)
from feature_store.schema_check import columns_of_statements, find_schema_difference, read_columns
from feature_store.token_sequences import TokenSequences
from feature_store.vocabulary import Vocabulary

R = TypeVar("R")
BLOCK_SIZE = 1024
"""Number of features that the harvest reader loads at once: one read serves a person who steps
through features."""
MAX_BLOCKS = 32
"""Number of blocks of features cached per harvest file: some 30 MB."""
CONTEXT_COLUMNS = ", ".join(field.name for field in fields(Context))
SCALAR_COLUMNS = [
    "feature",
    "n_active",
    "density",
    "window_density",
    "max_act",
    "mean_act",
    "mean_all",
    "std_act",
    "skew",
    "kurtosis",
    "bos_act",
    "mean_position",
    "top_token",
    "top_token_share",
    "top_token_n",
    "logit_kurtosis",
    "decoder_norm",
    "encoder_decoder_cosine",
    "n_contexts",
]
"""Columns of a harvest's `feature` table that hold one number: what a table can be sorted and
filtered by."""


class HarvestFile:
    """A harvest file, open for reading and safe to share between threads: every call uses its
    own cursor."""

    def __init__(self, path: Path) -> None:
        """Open a harvest file. Raises InputError if it is damaged, locked, or of another schema
        version."""
        self.path = path
        self._db = connect_read_only(path)
        self._check_schema()
        self.record = self._read_single_record(HarvestRecord, "harvest")
        self.dictionaries: dict[str, DictionaryInfo] = {
            info.dictionary: info for info in self._read_dictionaries()
        }
        self._blocks: dict[tuple[str, int], pa.Table] = {}
        self._lock = threading.Lock()  # guards _blocks and the cached token tables

    def close(self) -> None:
        """Close the harvest file and release its memory."""
        self._db.close()

    def limit_memory(self, megabytes: int) -> None:
        """Limit DuckDB's memory for the harvest file: for a process that reads all of it once."""
        with self._cursor() as cur:
            cur.execute(f"SET memory_limit = '{int(megabytes)}MB'")

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a cursor on the harvest file for one call; InputError if the file turns out to be
        damaged."""
        try:
            with self._db.cursor() as cur:
                yield cur
        except duckdb.Error as error:
            if is_file_damage(error):
                raise InputError(describe_damage(self.path)) from error
            raise

    def has_weights(self, model_hash: str, dictionaries: Mapping[str, str]) -> bool:
        """Return whether the harvest was made with these weights: the model's hash, and each
        dictionary's."""
        have = {name: info.weights_hash for name, info in self.dictionaries.items()}
        return self.record.model_hash == model_hash and dictionaries.items() <= have.items()

    def dictionary(self, name: str) -> DictionaryInfo:
        """Return the record of a harvest's dictionary; InputError with the names of all
        dictionaries if there is none."""
        return pick_by_name(f"dictionary in harvest {self.record.id}", name, self.dictionaries)

    def check_feature(self, feature: FeatureId) -> FeatureId:
        """Return `feature` if the harvest has it; otherwise raise InputError with the range of
        features."""
        info = self.dictionary(feature.dictionary)
        if not 0 <= feature.index < info.d_sae:
            raise InputError(
                f"There is no feature {feature}: {feature.dictionary} has features "
                f"0 to {info.d_sae - 1}."
            )
        return feature

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the harvested model: the bytes of every token."""
        with self._cursor() as cur:
            rows = cur.execute("SELECT bytes FROM token ORDER BY token_id").fetchall()
        return Vocabulary([piece for (piece,) in rows])

    @cached_property
    def sequences(self) -> TokenSequences:
        """Token sequences of the harvest, read at first use and kept."""
        with self._cursor() as cur:
            query = "SELECT sequence, document, start, token_ids FROM sequence"
            return TokenSequences(cur.sql(query).to_arrow_table())

    @cached_property
    def documents(self) -> list[str]:
        """Names of the harvested corpus's documents, by number."""
        with self._cursor() as cur:
            rows = cur.execute("SELECT name FROM document ORDER BY document").fetchall()
        return [name for (name,) in rows]

    def facts(self, feature: FeatureId) -> FeatureFacts:
        """Read a feature's statistics, promoted tokens and nearest features from the harvest
        file."""
        self.check_feature(feature)
        block = self._block(feature.dictionary, feature.index // BLOCK_SIZE)
        if feature.index % BLOCK_SIZE >= block.num_rows:
            raise InputError(describe_damage(self.path))
        row: dict[str, Any] = block.slice(feature.index % BLOCK_SIZE, 1).to_pylist()[0]
        for side in ("positive", "negative"):
            row[side] = SignStatistics(**row[side]) if row[side] else None
        return FeatureFacts(**row)

    def contexts(self, feature: FeatureId) -> list[Context]:
        """Read all stored contexts of a feature: top, then bottom, then range. Empty if it never
        fired."""
        return self._contexts(self.facts(feature))

    def payload(self, feature: FeatureId) -> FeaturePayload:
        """Read a feature's facts and contexts with the display text of each context."""
        facts = self.facts(feature)
        contexts = self._contexts(facts)
        window, display = self.sequences.window, self.vocabulary.display
        texts = [display(window(c.sequence, c.start, c.length)) for c in contexts]
        return FeaturePayload(facts, contexts, texts)

    def _contexts(self, facts: FeatureFacts) -> list[Context]:
        first = facts.first_context
        with self._cursor() as cur:
            rows = cur.execute(
                f"SELECT {CONTEXT_COLUMNS} FROM context WHERE rowid BETWEEN ? AND ?",
                [first, first + facts.n_contexts - 1],
            ).fetchall()
        return [Context(*row) for row in rows]

    def tokens_around(self, context: Context, before: int, after: int) -> tuple[int, np.ndarray]:
        """Return the token ids from `before` tokens left of a context's peak to `after` right of
        it, and the position of the first of them."""
        begin = max(context.peak - before, 0)
        return begin, self.sequences.window(
            context.sequence, begin, context.peak + after - begin + 1
        )

    def feature_table(
        self,
        dictionary: str,
        *,
        between: Mapping[str, tuple[float, float]] | None = None,
        order: str = "feature",
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> pa.Table:
        """Read the scalar facts of a dictionary's features, filtered and sorted by DuckDB.

        `between` keeps rows whose column lies in [low, high]; rows without a value in a filtered
        column are dropped. Missing values sort last. Ties keep the order of features.
        """
        self.dictionary(dictionary)
        columns = dict.fromkeys(SCALAR_COLUMNS)
        conditions, values = ["dictionary = ?"], [dictionary]
        for column, (low, high) in (between or {}).items():
            pick_by_name("column", column, columns)
            conditions.append(f"{column} BETWEEN ? AND ?")
            values += [low, high]
        pick_by_name("column", order, columns)
        query = (
            f"SELECT {', '.join(SCALAR_COLUMNS)}, promoted_tokens[:5] AS promoted FROM feature "
            f"WHERE {' AND '.join(conditions)} "
            f"ORDER BY {order} {'DESC' if descending else 'ASC'} NULLS LAST, feature "
            f"LIMIT {int(limit) if limit is not None else 'ALL'} OFFSET {int(offset)}"
        )
        with self._cursor() as cur:
            return cur.sql(query, params=values).to_arrow_table()

    def rows(
        self,
        query: str,
        params: Sequence[object] | Mapping[str, object] = (),
        tables: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """Run one of our own SQL queries on the harvest file and return Arrow rows; `tables` are
        visible by name."""
        with self._cursor() as cur:
            for name, table in (tables or {}).items():
                cur.register(name, table)
            return cur.sql(query, params=params).to_arrow_table()

    def silent_windows(self, dictionary: str, split: Split | None = None) -> list[SilentWindow]:
        """Read the harvest's pool of random windows with all their activations under one
        dictionary; with `split`, only the windows of that split."""
        self.dictionary(dictionary)
        names = ", ".join(f'"{field.name}"' for field in fields(SilentWindow))
        with self._cursor() as cur:
            rows = cur.execute(
                f"SELECT {names} FROM silent_window WHERE dictionary = ? "
                'AND (? IS NULL OR split = ?) ORDER BY "window"',
                [dictionary, split, split],
            ).fetchall()
        return [SilentWindow(*row) for row in rows]

    def _block(self, dictionary: str, number: int) -> pa.Table:
        """Return a cached block of BLOCK_SIZE features of a dictionary, read from the harvest
        file if needed."""
        key = (dictionary, number)
        with self._lock:
            block = self._blocks.pop(key, None)
        if block is None:
            names = ", ".join(field.name for field in fields(FeatureFacts))
            with self._cursor() as cur:
                block = cur.sql(
                    f"SELECT {names} FROM feature WHERE dictionary = ? AND feature BETWEEN ? AND ? "
                    "ORDER BY feature",
                    params=[dictionary, number * BLOCK_SIZE, (number + 1) * BLOCK_SIZE - 1],
                ).to_arrow_table()
        with self._lock:
            self._blocks[key] = block  # the newest stands last
            while len(self._blocks) > MAX_BLOCKS:
                self._blocks.pop(next(iter(self._blocks)))
        return block

    def _check_schema(self) -> None:
        """Raise InputError for a harvest file of another schema version or with other tables."""
        try:
            with self._cursor() as cur:
                found = read_columns(cur)
                schemas = cur.execute("SELECT schema FROM harvest").fetchall()
        except duckdb.Error as error:
            self._refuse(str(error).splitlines()[0])
        (schema,) = schemas[0] if schemas else (SCHEMA_VERSION,)
        if schema not in (1, SCHEMA_VERSION):
            self.close()
            newer = isinstance(schema, int) and schema > SCHEMA_VERSION
            whose = (
                "a newer Saefari" if newer else "an older Saefari, whose files this one cannot read"
            )
            remedy = "Upgrade Saefari, or harvest" if newer else "Harvest"
            raise InputError(
                f"{self.path.name} was written by {whose} (schema {schema}; this one reads "
                f"1 and {SCHEMA_VERSION}). {remedy} again with --again."
            )
        made = [SCHEMA_FILE.read_text("utf-8"), *(CHANGES_TO_SCHEMA_1 if schema == 1 else ())]
        if wrong := find_schema_difference(found, columns_of_statements(*made)):
            self._refuse(wrong)

    def _refuse(self, why: str) -> NoReturn:
        """Close the harvest file and raise InputError: it is not a harvest that this Saefari can
        read, because `why`."""
        self.close()
        raise InputError(
            f"{self.path.name} is a DuckDB file but not a harvest that this Saefari reads ({why}). "
            "Move it out of harvests/."
        )

    def _read_dictionaries(self) -> list[DictionaryInfo]:
        """Read the records of the harvest's dictionaries, with read and write sites also from a
        file of schema 1."""
        columns = select_list([field.name for field in fields(DictionaryInfo)], self.record.schema)
        rows = self.rows(f"SELECT {columns} FROM dictionary").to_pylist()
        return [DictionaryInfo(**parse_sites(row)) for row in rows]

    def _read_single_record(self, record: type[R], table: str) -> R:
        """Return the only row of a harvest file's table as a record; InputError if there is not
        exactly one."""
        rows = self._read_records(record, table)
        if len(rows) != 1:
            self.close()
            raise InputError(
                f"{self.path.name} is not a complete harvest: it has {len(rows)} rows "
                f"in {table!r}. Delete the file and harvest again."
            )
        return rows[0]

    def _read_records(self, record: type[R], table: str) -> list[R]:
        """Return all rows of a harvest file's table as records."""
        names = ", ".join(field.name for field in fields(record))  # type: ignore[arg-type]  # R is a dataclass
        with self._cursor() as cur:
            rows = cur.execute(f"SELECT {names} FROM {table}").fetchall()
        return [record(*row) for row in rows]


def connect_read_only(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a harvest file read-only in DuckDB; InputError if it is being written or is damaged."""
    try:
        return duckdb.connect(str(path), read_only=True, config={"threads": 1})
    except duckdb.Error as error:
        if pid := parse_lock_holder(error):
            raise InputError(
                f"{path.name} is being written by process {pid}. Wait until it ends."
            ) from error
        if is_file_damage(error):
            raise InputError(describe_damage(path)) from error
        raise


def describe_damage(path: Path) -> str:
    """Return the error message for a damaged harvest file."""
    return f"{path.name} is not a harvest file, or it is damaged. Delete it and harvest again."
