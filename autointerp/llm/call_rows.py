"""The rows of a file of calls: how they are written and found again."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from autointerp.llm.records import AttemptResult, ChatRequest, Reply
from feature_store.duckdb_errors import parse_lock_holder
from feature_store.storable_text import make_storable
from feature_store.strict_json import dump_json

MAX_SHOWN_CHARS = 300
DUCKDB_MEMORY = "96MB"
"""Of DuckDB, however long the job."""
LOCK_WAIT_S, LOCK_POLL_S = 5.0, 0.05
"""How long a job waits for readers of its own file, and how often it looks again."""


class Attempt(NamedTuple):
    """A call that is about to be made; columns as in calls.sql."""

    attempt: int
    hash: int
    key: str
    number: int
    base_url: str
    model: str
    purpose: str
    request: str | None
    reserved: float
    started: datetime


class CallOutcome(NamedTuple):
    """What came of it; columns as in calls.sql."""

    attempt: int
    hash: int
    key: str
    kind: str
    sentence: str
    text: str | None
    logprobs: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    charged: float
    latency_s: float | None
    ended: datetime


class RecordedReply(NamedTuple):
    """A recorded reply."""

    kind: str
    sentence: str
    text: str
    logprobs: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    latency_s: float | None


TEXT_TYPE, INTEGER_TYPE, FLOAT_TYPE, TIME_TYPE = (
    pa.string(),
    pa.int64(),
    pa.float64(),
    pa.timestamp("us"),
)
KEY_COLUMN_TYPES = [INTEGER_TYPE, pa.uint64(), TEXT_TYPE]
ROW_SCHEMAS = {
    "attempt": pa.schema(
        zip(
            Attempt._fields,
            [
                *KEY_COLUMN_TYPES,
                INTEGER_TYPE,
                TEXT_TYPE,
                TEXT_TYPE,
                TEXT_TYPE,
                TEXT_TYPE,
                FLOAT_TYPE,
                TIME_TYPE,
            ],
            strict=True,
        )
    ),
    "outcome": pa.schema(
        zip(
            CallOutcome._fields,
            [
                *KEY_COLUMN_TYPES,
                TEXT_TYPE,
                TEXT_TYPE,
                TEXT_TYPE,
                TEXT_TYPE,
                INTEGER_TYPE,
                INTEGER_TYPE,
                FLOAT_TYPE,
                FLOAT_TYPE,
                FLOAT_TYPE,
                TIME_TYPE,
            ],
            strict=True,
        )
    ),
}


def open_call_file(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A file of calls, with as little in memory however many it has."""
    config = {"threads": 1, "memory_limit": DUCKDB_MEMORY}
    return duckdb.connect(str(path), read_only=read_only, config=config)


def open_call_file_to_write(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a job's own file of calls, waiting up to PATIENCE_S for processes that read it.

    Other jobs and estimates look into the file for a moment, and nobody can write meanwhile.
    Raises duckdb.Error where it is still held after that, and for anything else at once.
    """
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return open_call_file(path)
        except duckdb.IOException as error:
            if not parse_lock_holder(error) or time.monotonic() > end:
                raise
            time.sleep(LOCK_POLL_S)


def insert_rows(db: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Append rows to a table of the same columns."""
    if rows:
        schema = ROW_SCHEMAS[table]
        columns = [
            pa.array(column, type=field.type)
            for column, field in zip(zip(*rows, strict=True), schema, strict=True)
        ]
        db.register("fresh", pa.Table.from_arrays(columns, schema=schema))
        db.execute(f"INSERT INTO {table} SELECT * FROM fresh")
        db.unregister("fresh")


def find_replies(db: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> dict[str, RecordedReply]:
    """The newest recorded replies to requests, by key."""
    if not keys:
        return {}
    hashes = ", ".join(str(key_hash(key)) for key in set(keys))
    rows = db.execute(
        f"SELECT key, {', '.join(RecordedReply._fields)} FROM outcome "
        f"WHERE hash IN ({hashes}) AND text IS NOT NULL AND list_contains(?, key) "
        "ORDER BY attempt",
        [list(set(keys))],
    ).fetchall()
    return {key: RecordedReply(*row) for key, *row in rows}


def key_hash(key: str) -> int:
    """A key's first 8 bytes: short enough to scan millions of them."""
    return int(key[:16], 16)


def make_attempt_row(number: int, nth: int, request: ChatRequest, reserved: float) -> Attempt:
    """The row of a call that is about to be made."""
    body = request_to_json(request) if nth == 1 else None
    return Attempt(
        number,
        key_hash(request.key),
        request.key,
        nth,
        make_storable(request.base_url),
        make_storable(request.model),
        make_storable(request.purpose),
        body,
        reserved,
        utc_now(),
    )


def make_outcome_row(row: Attempt, came: AttemptResult, charged: float) -> CallOutcome:
    """The row of what came of a call."""
    result = came.result
    kind, sentence = ("reply", "") if isinstance(result, Reply) else (result.kind, result.sentence)
    said = dump_json(came.logprobs) if came.logprobs is not None else None
    return CallOutcome(
        row.attempt,
        row.hash,
        row.key,
        kind,
        make_storable(sentence),
        came.text,
        said,
        came.tokens_in,
        came.tokens_out,
        came.cost,
        charged,
        came.latency_s,
        utc_now(),
    )


def request_to_json(request: ChatRequest) -> str:
    """A request as JSON, for people who look up what was asked."""
    asked = {
        "messages": [message._asdict() for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
        "logprobs": request.logprobs,
        "draw": request.draw,
        "penalty": request.penalty,
    }
    return make_storable(dump_json(asked))


def shorten_line(text: str) -> str:
    """One line of untrusted text, not long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN_CHARS else line[: MAX_SHOWN_CHARS - 1] + "…"


def utc_now() -> datetime:
    """The time in UTC, without a zone, as the files hold it."""
    return datetime.now(UTC).replace(tzinfo=None)
