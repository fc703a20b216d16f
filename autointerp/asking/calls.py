"""A job's calls in its own DuckDB file, written in batches by one thread.

Whoever waits for a record to be kept waits without blocking the event loop. While one batch is
being committed the next gathers, so that many callers cost few commits. A reply counts as recorded
once its batch is committed: from then on no end of the process loses it.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from autointerp.asking.former import Former
from autointerp.asking.rows import Attempt, Kept, Outcome, find, insert, now, short
from feature_store.errors import InputError
from feature_store.locks import holder

SCHEMA = Path(__file__).with_name("calls.sql")
BATCH = 512
MEMORY = "256MB"
"""Of DuckDB, however long the job."""


class Lost(NamedTuple):
    """Calls under way when an earlier process at the same file ended."""

    calls: int
    charged: float
    """US dollars that they may have cost."""


@dataclass(frozen=True)
class Totals:
    """What a file's calls come to, over all processes that worked on it."""

    calls: int = 0
    """Attempts that a server replied to."""
    failed: int = 0
    """Attempts without a reply: refused, timed out, broken off, lost."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    """US dollars, of the replies whose cost is known."""
    unpriced: int = 0
    """Replies whose cost is not known."""
    charged: float = 0.0
    """US dollars that a budget counts: known costs, and reserves of calls that may have cost."""


class _Ask(NamedTuple):
    """Something for the thread to do, and who waits for it."""

    what: Attempt | Outcome | str
    """A string is a key to look up."""
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


class CallLog:
    """The calls of one job. Close it, or use it as a context manager."""

    def __init__(
        self, path: Path, *, others: Sequence[Path] = (), note: Callable[[str], None] | None = None
    ) -> None:
        """Open or make a file. `others` are files of other jobs, whose replies are used, too.

        `note` takes a line for the job's log. Raises InputError when the file cannot be opened.
        """
        self.path = path
        self._note = note or (lambda line: None)
        self._db = self._open()
        self._next = self._count("SELECT coalesce(max(attempt), 0) FROM attempt") + 1
        self.lost = self._settle_lost()
        self._former = Former([other for other in others if other != path], self._note)
        self._todo: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._broken: InputError | None = None
        self._thread = threading.Thread(target=self._work, name="calls", daemon=True)
        self._thread.start()

    def number(self) -> int:
        """A new attempt's number."""
        self._next += 1
        return self._next - 1

    async def keep(self, row: Attempt | Outcome) -> None:
        """Record a row; done when it is on disk. Raises InputError when it cannot be written."""
        await self._hand_over(row)

    async def kept(self, key: str) -> Kept | None:
        """The newest reply to a request, of this job or another; None where there is none."""
        return await self._hand_over(key)

    def totals(self) -> Totals:
        """Of everything recorded so far."""
        said = "text IS NOT NULL"
        with self._db.cursor() as db:
            (row,) = db.execute(
                f"SELECT count(*) FILTER ({said}), count(*) FILTER (NOT ({said})), "
                "coalesce(sum(tokens_in), 0)::BIGINT, coalesce(sum(tokens_out), 0)::BIGINT, "
                f"coalesce(sum(cost), 0), count(*) FILTER ({said} AND cost IS NULL), "
                "coalesce(sum(charged), 0) FROM outcome"
            ).fetchall()
        return Totals(*row)

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        self._todo.put(None)
        self._thread.join()
        self._db.close()

    def __enter__(self) -> "CallLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        config = {"threads": 1, "memory_limit": MEMORY}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = duckdb.connect(str(self.path), config=config)
            db.execute(SCHEMA.read_text(encoding="utf-8"))
        except (OSError, duckdb.Error) as error:
            pid = holder(error)
            held = f" The process {pid} has it." if pid else ""
            raise InputError(f"The calls of {self.path} cannot be opened.{held} {error}") from error
        return db

    def _count(self, query: str) -> int:
        (row,) = self._db.execute(query).fetchall()
        return row[0]

    def _settle_lost(self) -> Lost:
        """Put down as lost what was under way when the last process ended, and say how many."""
        where = "FROM attempt ANTI JOIN outcome USING (attempt)"
        query = f"SELECT count(*), coalesce(sum(reserved), 0) {where}"
        (row,) = self._db.execute(query).fetchall()
        lost = Lost(*row)
        if lost.calls:
            sentence = "The process ended before the answer came."
            self._db.execute(
                f"INSERT INTO outcome SELECT attempt, hash, key, 'lost', ?, NULL, NULL, NULL, NULL,"
                f" NULL, reserved, NULL, ? {where}",
                [sentence, now()],
            )
            self._note(
                f"{lost.calls} calls were under way when the job's process ended. They are made "
                f"again where they are still wanted, and ${lost.charged:.4f} counts as spent."
            )
        return lost

    async def _hand_over(self, what: Attempt | Outcome | str) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._todo.put(_Ask(what, loop, future))
        return await future

    def _work(self) -> None:
        """The thread: batch after batch, until None comes."""
        while (first := self._todo.get()) is not None:
            batch, over = [first], False
            while len(batch) < BATCH and not over and not self._todo.empty():
                ask = self._todo.get()
                if ask is None:
                    over = True
                else:
                    batch.append(ask)
            answer(batch, self._do(batch))
            if over:
                break

    def _do(self, batch: list[_Ask]) -> dict[str, Kept] | InputError:
        """One transaction; what was found by key, or why nothing could be written."""
        if self._broken:
            return self._broken
        keys = [ask.what for ask in batch if isinstance(ask.what, str)]
        try:
            self._db.begin()
            insert(self._db, "attempt", [a.what for a in batch if isinstance(a.what, Attempt)])
            insert(self._db, "outcome", [a.what for a in batch if isinstance(a.what, Outcome)])
            found = find(self._db, keys)
            self._db.commit()
        except duckdb.Error as error:
            self._broken = InputError(
                f"The calls cannot be recorded in {self.path}, so no more are made: "
                f"{short(str(error))} What was recorded before is kept."
            )
            return self._broken
        return found | self._former.find([key for key in keys if key not in found])


def answer(batch: list[_Ask], result: dict[str, Kept] | InputError) -> None:
    """Wake all who wait for a batch: one message to each event loop."""
    loops = {ask.loop for ask in batch}
    for loop in loops:
        mine = [ask for ask in batch if ask.loop is loop]
        try:
            loop.call_soon_threadsafe(wake, mine, result)
        except RuntimeError:  # the loop has ended: nobody waits any more
            continue


def wake(batch: list[_Ask], result: dict[str, Kept] | InputError) -> None:
    """On the loop itself: hand out the results."""
    for ask in batch:
        if ask.future.done():  # its task was cancelled
            continue
        if isinstance(result, InputError):
            ask.future.set_exception(result)
        else:
            ask.future.set_result(result.get(ask.what) if isinstance(ask.what, str) else None)
