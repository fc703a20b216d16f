"""Rows of the call log's tables `attempt` and `outcome`: how they are built, written to DuckDB, and
looked up."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from autointerp.llm.requests_and_replies import AttemptResult, ChatRequest, Reply
from feature_store.duckdb_errors import parse_lock_holder
from feature_store.storable_text import make_storable
from feature_store.strict_json import dump_json

MAX_SHOWN_CHARS = 300
DUCKDB_MEMORY = "96MB"
"""Memory limit of DuckDB for a call log, however long the job is."""
LOCK_WAIT_S, LOCK_POLL_S = 5.0, 0.05
"""How long a job waits for processes that read its own call log, and how often it checks again, in
seconds."""


class CallAttempt(NamedTuple):
    """Row of the call log's table `attempt`: a call to a language model that is about to be made,
    with columns as in calls.sql."""

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
    """Row of the call log's table `outcome`: the reply or failure of a call to a language model,
    with columns as in calls.sql."""

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
    """A reply as it is recorded in the table `outcome` of a call log."""

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
            CallAttempt._fields,
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
    """Open a call log's DuckDB file with one thread and little memory, whatever its size."""
    config = {"threads": 1, "memory_limit": DUCKDB_MEMORY}
    return duckdb.connect(str(path), read_only=read_only, config=config)


def open_call_file_to_write(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a job's own call log for writing, waiting up to LOCK_WAIT_S seconds for processes that
    read it.

    Other jobs and cost estimates read the file for a moment, during which it cannot be opened for
    writing. Raises duckdb.Error where it is still locked after that, and for any other problem at
    once.
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
    """Append rows (CallAttempt or CallOutcome) to a table of the call log's DuckDB file."""
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
    """Return the newest recorded replies to requests from the rows of a call log, by request
    key."""
    if not keys:
        return {}
    hashes = ", ".join(str(key_hash(key)) for key in set(keys))
    # the integer hash is scanned, as there is no index; the key decides between equal hashes
    rows = db.execute(
        f"SELECT key, {', '.join(RecordedReply._fields)} FROM outcome "
        f"WHERE hash IN ({hashes}) AND text IS NOT NULL AND list_contains(?, key) "
        "ORDER BY attempt",
        [list(set(keys))],
    ).fetchall()
    return {key: RecordedReply(*row) for key, *row in rows}


def key_hash(key: str) -> int:
    """Return the first 8 bytes of a request key (a sha256 in hex) as the integer by which rows of a
    call log are found: short enough to scan millions of rows."""
    return int(key[:16], 16)


def make_attempt_row(number: int, nth: int, request: ChatRequest, reserved: float) -> CallAttempt:
    """Return the row of the call log's table `attempt` for a call that is about to be made."""
    # the prompt is stored with the first attempt only
    body = request_to_json(request) if nth == 1 else None
    return CallAttempt(
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


def make_outcome_row(row: CallAttempt, result: AttemptResult, charged: float) -> CallOutcome:
    """Return the row of the call log's table `outcome` for the result of a call."""
    outcome = result.result
    kind, sentence = (
        ("reply", "") if isinstance(outcome, Reply) else (outcome.kind, outcome.sentence)
    )
    logprobs = dump_json(result.logprobs) if result.logprobs is not None else None
    return CallOutcome(
        row.attempt,
        row.hash,
        row.key,
        kind,
        make_storable(sentence),
        result.text,
        logprobs,
        result.tokens_in,
        result.tokens_out,
        result.cost,
        charged,
        result.latency_s,
        utc_now(),
    )


def request_to_json(request: ChatRequest) -> str:
    """Return a request as JSON for the call log, so that people can look up what was asked."""
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
    """Return an untrusted text for a row of the call log on one line, cut to MAX_SHOWN_CHARS
    characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN_CHARS else line[: MAX_SHOWN_CHARS - 1] + "…"


def utc_now() -> datetime:
    """Return the current time in UTC without a time zone, as call logs store it."""
    return datetime.now(UTC).replace(tzinfo=None)
