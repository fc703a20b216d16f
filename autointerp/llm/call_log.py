"""The call log of a job: a DuckDB file with every attempt to ask a language model and its outcome.
A row is safe as soon as it stands in the journal, which takes microseconds; a thread moves rows
from the journal into the database once a second and looks up recorded replies in batches, so that
the event loop never waits for the database."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from autointerp.llm.call_budget import CallBudget
from autointerp.llm.call_journal import CallJournal, delete_journal_files
from autointerp.llm.call_rows import (
    CallAttempt,
    CallOutcome,
    RecordedReply,
    find_replies,
    insert_rows,
    key_hash,
    open_call_file_to_write,
    shorten_line,
    utc_now,
)
from autointerp.llm.hash_set import HashSet
from autointerp.llm.other_job_replies import OtherJobReplies
from feature_store.duckdb_errors import parse_lock_holder
from feature_store.errors import InputError
from feature_store.jobs import Job, Jobs

SCHEMA_FILE = Path(__file__).with_name("calls.sql")
FLUSH_S = 1.0
LOOKUP_BATCH = 512


class LostCalls(NamedTuple):
    """Number and cost of the calls to a language model that are recorded as lost, because an
    earlier process of the same job ended while they were in flight."""

    calls: int
    charged: float
    """US dollars that the lost calls may have cost."""


@dataclass(frozen=True)
class CallTotals:
    """Totals of a job's call log: replies, failures, tokens and US dollars, over every process that
    worked on the job."""

    calls: int = 0
    """Number of attempts that a server replied to."""
    failed: int = 0
    """Number of attempts without a reply: refused, timed out, broken off, or lost."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    """US dollars, summed over the replies whose cost is known."""
    unpriced: int = 0
    """Number of replies whose cost is not known."""
    charged: float = 0.0
    """US dollars that a budget counts: known costs, and the reserves of calls that may have cost
    something."""
    uncounted: int = 0
    """Number of replies whose tokens the server did not count; above 0 the sums of tokens are not
    known."""

    def plus(self, row: CallOutcome) -> "CallTotals":
        """Return the totals of the call log with one more outcome."""
        has_reply = row.text is not None
        return CallTotals(
            self.calls + has_reply,
            self.failed + (not has_reply),
            self.tokens_in + (row.tokens_in or 0),
            self.tokens_out + (row.tokens_out or 0),
            self.cost + (row.cost or 0.0),
            self.unpriced + (has_reply and row.cost is None),
            self.charged + row.charged,
            self.uncounted + (has_reply and row.tokens_in is None),
        )


class AttemptCount(NamedTuple):
    """Number of attempts to ask a language model, in a call log, that ended in one way (a reply or
    one kind of failure), with an example."""

    attempts: int
    example: str
    """Description of the newest of these failures; empty for replies."""


class _ReplyLookup(NamedTuple):
    """Key of a request whose recorded reply is to be looked up in the call log, and the future that
    waits for it."""

    key: str
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[RecordedReply | None]"


class CallLog:
    """The call log of one job, open for writing: every attempt to ask a language model and its
    outcome. Close it, or use it as a context manager."""

    def __init__(
        self,
        path: Path,
        *,
        journal: Path | None = None,
        others: Sequence[Path] = (),
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Open or create the call log at `path`.

        `others` are call logs of other jobs, whose replies are reused. `journal` is the folder for
        the rows of the last second; it is best in the job's own folder. `note` takes a line for the
        job's log. Raises InputError when the file cannot be opened.
        """
        self.path = path
        self._note = note or (lambda line: None)
        self._lock = threading.Lock()  # the journal, the rows and the totals
        self._rows: list[CallAttempt | CallOutcome] = []
        self._recent: dict[str, CallOutcome] = {}
        """Replies by key that the database may not have yet."""
        self._lookups: queue.SimpleQueue[_ReplyLookup | None] = queue.SimpleQueue()
        self._broken: InputError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._journal = CallJournal(journal or path.with_suffix(".journal"))
            self._db = open_call_file_to_write(path)
            self._db.execute(SCHEMA_FILE.read_text(encoding="utf-8"))
            self._recover_journal()
            self.lost = self._settle_lost()
            self._next = self._one("SELECT coalesce(max(attempt), 0) FROM attempt")[0]
            self._totals = CallTotals(*self._one(TOTALS_SQL))
            counts = self._db.execute(KIND_COUNTS_SQL).fetchall()
            self._kinds = {kind: AttemptCount(n, example) for kind, n, example in counts}
            self._known = HashSet(
                self._db.execute(REPLY_HASHES_SQL).fetchnumpy()["hash"].astype(np.uint64)
            )
        except (OSError, duckdb.Error) as error:
            pid = parse_lock_holder(error)
            why = f"process {pid} is using it" if pid else shorten_line(str(error))
            raise InputError(f"The call log {path} cannot be opened: {why}.") from error
        self._other_jobs = OtherJobReplies([other for other in others if other != path], self._note)
        self._thread = threading.Thread(target=self._run_thread, name="calls", daemon=True)
        self._thread.start()

    def next_number(self) -> int:
        """Return the number, unique in the call log, of a new attempt to ask a language model."""
        with self._lock:
            self._next += 1
            return self._next

    def record(self, row: CallAttempt | CallOutcome) -> None:
        """Record an attempt or its outcome as a row of the call log: when this returns, the row
        survives the end of the process. Raises InputError when it cannot be written."""
        with self._lock:
            # no new call is made, but the outcome of an earlier one is still recorded if possible
            if self._broken and isinstance(row, CallAttempt):
                raise self._broken
            try:
                self._journal.write(row)
            except OSError as error:
                raise self._mark_broken(error) from error
            self._rows.append(row)
            if isinstance(row, CallOutcome):
                self._totals = self._totals.plus(row)
                before = self._kinds.get(row.kind, AttemptCount(0, ""))
                self._kinds[row.kind] = AttemptCount(before.attempts + 1, row.sentence)
                if row.text is not None:
                    self._recent[row.key] = row
                    self._known.add(row.hash)

    async def find_reply(self, key: str) -> RecordedReply | None:
        """Return the newest reply to a request in this call log or in that of another job; None
        where there is none."""
        # a reply of the last second may not be in the database yet
        if (row := self._recent.get(key)) and row.text is not None:
            return RecordedReply(
                row.kind,
                row.sentence,
                row.text,
                row.logprobs,
                row.tokens_in,
                row.tokens_out,
                row.cost,
                row.latency_s,
            )
        number = key_hash(key)
        # most keys are unknown: the hashes in memory answer without the database
        if number not in self._known and number not in self._other_jobs:
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RecordedReply | None] = loop.create_future()
        self._lookups.put(_ReplyLookup(key, loop, future))
        return await future

    def totals(self) -> CallTotals:
        """Return the totals over everything recorded in the call log so far."""
        with self._lock:
            return replace(self._totals)

    def kinds(self) -> dict[str, AttemptCount]:
        """Return how often the attempts in the call log ended in each way: `reply`, `lost`, or a
        kind of failure."""
        with self._lock:
            return dict(self._kinds)

    def budget(self, cap: float | None) -> CallBudget:
        """Return a budget for the rest of the job, in which all earlier calls of this call log
        count as spent."""
        return CallBudget(cap, self.totals().charged)

    def close(self) -> None:
        """Write the remaining rows into the call log, and close its file."""
        self._lookups.put(None)
        self._thread.join()
        self._db.close()

    def __enter__(self) -> "CallLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(self, query: str) -> tuple[Any, ...]:
        (row,) = self._db.execute(query).fetchall()
        return row

    def _recover_journal(self) -> None:
        """Move the rows that an earlier process left in the journal into the call log's
        database."""
        left = list(self._journal.read_rows())
        self._db.begin()
        for table, kind in ROW_TYPES.items():
            had = f"SELECT attempt FROM {table} WHERE attempt >= ?"
            first = min((row.attempt for row in left), default=0)
            moved = {number for (number,) in self._db.execute(had, [first]).fetchall()}
            # a process that was killed between commit and deletion left rows that the database has
            rows = [row for row in left if isinstance(row, kind) and row.attempt not in moved]
            insert_rows(self._db, table, rows)
        self._db.commit()
        delete_journal_files(self._journal.files())

    def _settle_lost(self) -> LostCalls:
        """Record as lost the calls without an outcome, which were in flight when the last process
        ended; return their number and what they may have cost."""
        where = "FROM attempt ANTI JOIN outcome USING (attempt)"
        lost = LostCalls(*self._one(f"SELECT count(*), coalesce(sum(reserved), 0) {where}"))
        if lost.calls:
            sentence = "The process ended before the answer came."
            self._db.execute(
                f"INSERT INTO outcome SELECT attempt, hash, key, 'lost', ?, NULL, NULL, NULL, NULL,"
                f" NULL, reserved, NULL, ? {where}",
                [sentence, utc_now()],
            )
            self._note(
                f"{lost.calls} calls were in flight when the job's process ended. They are made "
                f"again where they are still wanted, and ${lost.charged:.4f} counts as spent."
            )
        return lost

    def _mark_broken(self, error: Exception) -> InputError:
        """Mark the call log as broken, so that no further calls are recorded or made, and return
        the error to raise."""
        self._broken = InputError(
            f"The calls cannot be recorded in {self.path}, so no more are made: "
            f"{shorten_line(str(error))}. What was recorded before is kept."
        )
        return self._broken

    def _run_thread(self) -> None:
        """Run the call log's thread: look up replies as they are requested, and move rows into the
        database every FLUSH_S seconds."""
        due, over = time.monotonic() + FLUSH_S, False
        while not over:
            batch: list[_ReplyLookup] = []
            try:
                first = self._lookups.get(timeout=max(0.0, due - time.monotonic()))
                over = first is None
                batch = [first] if first else []
                while not over and len(batch) < LOOKUP_BATCH and not self._lookups.empty():
                    more = self._lookups.get()
                    over = more is None
                    batch += [more] if more else []
            except queue.Empty:
                pass
            if batch:
                deliver_replies(batch, self._find_replies([wanted.key for wanted in batch]))
            if over or time.monotonic() >= due:
                self._flush()
                due = time.monotonic() + FLUSH_S

    def _find_replies(self, keys: list[str]) -> dict[str, RecordedReply]:
        """Return recorded replies by key from this call log and those of other jobs; a file that
        fails counts as one without the reply."""
        try:
            found = find_replies(self._db, keys)
        except duckdb.Error as error:
            self._note(f"Replies could not be looked up: {shorten_line(str(error))}.")
            found = {}
        return found | self._other_jobs.find([key for key in keys if key not in found])

    def _flush(self) -> None:
        """Move all journal rows so far into the call log's database, in one transaction."""
        with self._lock:
            rows, self._rows = self._rows, []
            files = self._journal.begin_file() if rows else []
        if not rows or self._broken:
            return
        try:
            self._db.begin()
            for table, kind in ROW_TYPES.items():
                insert_rows(self._db, table, [row for row in rows if isinstance(row, kind)])
            self._db.commit()
        except (duckdb.Error, pa.ArrowException, ValueError) as error:
            # the journal keeps the rows for the next process
            with self._lock:
                self._mark_broken(error)
            return
        delete_journal_files(files)
        with self._lock:
            for row in rows:
                if self._recent.get(row.key) is row:
                    del self._recent[row.key]


def open_job_call_log(job: Job, jobs: Jobs, note: Callable[[str], None] | None = None) -> CallLog:
    """Open the call log of a job, with the recorded replies of all other jobs of its store
    available for reuse."""
    others = [
        other.data_path
        for other in jobs.list_jobs()
        if other.id != job.id and other.data_path.exists()
    ]
    return CallLog(job.data_path, journal=job.folder / "calls", others=others, note=note)


ROW_TYPES: dict[str, type[CallAttempt] | type[CallOutcome]] = {
    "attempt": CallAttempt,
    "outcome": CallOutcome,
}
REPLY_HASHES_SQL = "SELECT DISTINCT hash FROM outcome WHERE text IS NOT NULL"
KIND_COUNTS_SQL = "SELECT kind, count(*), arg_max(sentence, attempt) FROM outcome GROUP BY kind"
TOTALS_SQL = """
    SELECT count(text), count(*) - count(text), coalesce(sum(tokens_in), 0)::BIGINT,
           coalesce(sum(tokens_out), 0)::BIGINT, coalesce(sum(cost), 0.0),
           count(*) FILTER (text IS NOT NULL AND cost IS NULL), coalesce(sum(charged), 0.0),
           count(*) FILTER (text IS NOT NULL AND tokens_in IS NULL)
    FROM outcome
"""


def deliver_replies(batch: list[_ReplyLookup], found: dict[str, RecordedReply]) -> None:
    """Give replies found in the call log to all tasks that wait for them: one message to each event
    loop."""
    for loop in {wanted.loop for wanted in batch}:
        mine = [wanted for wanted in batch if wanted.loop is loop]
        try:
            loop.call_soon_threadsafe(resolve_lookups, mine, found)
        except RuntimeError:  # the event loop has ended, and its tasks with it
            continue


def resolve_lookups(batch: list[_ReplyLookup], found: dict[str, RecordedReply]) -> None:
    """Set the results of call log lookups on the event loop of the tasks that wait for them."""
    for wanted in batch:
        if not wanted.future.done():  # otherwise its task was cancelled
            wanted.future.set_result(found.get(wanted.key))
