"""Worker pool that processes many items concurrently with bounded memory: reads them from an
iterator, processes as many at once as there are workers, and writes results in batches.

Reading items and writing results may block: both run in threads, so that the event loop never waits
for a file. Batches are written once a second and at the end.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from autointerp.pipeline.pausable_asker import PausableAsker

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
FLUSH_S = 1.0
LOOK_S = 0.3
SLOW_TICK_S = 0.2
"""Seconds after which a progress step that has not returned is taken for a pause of the job."""
GRACE_S = 10.0
"""Seconds in which calls in flight may still be answered when a job is cancelled."""
MAX_UNWRITTEN = 2000
"""Number of results in memory from which workers wait for them to be written."""
MAX_ITEMS_AHEAD = 8
"""Maximum number of items read at once, and so waiting for a worker."""
END_OF_SOURCE = object()


@dataclass(frozen=True)
class WorkerPool(Generic[ItemT, ResultT]):
    """Worker pool that processes many items, such as a job's features, concurrently: where items
    come from, what is done with each, and where results go."""

    source: Iterator[ItemT]
    """Iterator of items; it is read in a thread, a few items at a time."""
    work: Callable[[ItemT], Awaitable[ResultT | None]]
    """Process one item; None means that it has to be processed by a later run."""
    sink: Callable[[Sequence[ResultT]], None]
    """Write a batch of results in a thread, one batch at a time, in the order in which they were
    finished."""
    tick: Callable[[int], None]
    """Report progress in a thread, with the number of results written. May block, as for a pause,
    and raise to end the run."""
    width: int = 1
    """Number of workers: items processed at once."""
    asker: PausableAsker | None = None

    async def run(self) -> None:
        """Process all items of the worker pool. An exception ends the run; results until then are
        written."""
        await WorkerPoolRun(self).run()


class WorkerPoolRun(Generic[ItemT, ResultT]):
    """One run of a worker pool, with its queues and tasks."""

    def __init__(self, pool: WorkerPool[ItemT, ResultT]) -> None:
        self.pool = pool
        self._results: list[ResultT] = []
        self._items_ahead: deque[ItemT] = deque()
        self._written = 0
        self._reading_lock = asyncio.Lock()
        self._writing_lock = asyncio.Lock()
        self._running = asyncio.Event()
        self._running.set()

    async def run(self) -> None:
        """Run the workers until the source is empty, the asker has stopped, or an exception is
        raised."""
        workers = asyncio.gather(*(self._worker() for _ in range(self.pool.width)))
        tasks = [
            workers,
            *(
                asyncio.ensure_future(c)
                for c in (self._flush_repeatedly(), self._report_repeatedly())
            ),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except BaseException:
            if self.pool.asker:
                self.pool.asker.pause()
                await self.pool.asker.wait_until_idle(GRACE_S)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._flush()
        await asyncio.to_thread(self.pool.tick, self._written)

    async def _worker(self) -> None:
        """Process items of the worker pool until there are no more or the asker has stopped."""
        while not (self.pool.asker and self.pool.asker.stopped):
            await self._running.wait()
            item = await self._next_item()
            if item is END_OF_SOURCE:
                return
            result = await self.pool.work(item)  # type: ignore[arg-type] - END_OF_SOURCE was returned above
            if result is not None:
                self._results.append(result)
            # a slow disk slows the workers down, so that memory stays bounded
            while len(self._results) > MAX_UNWRITTEN:
                await asyncio.sleep(LOOK_S)

    async def _next_item(self) -> ItemT | object:
        """Return the next item for a worker, END_OF_SOURCE after the last one; a few are read at a
        time, since a thread is expensive."""
        async with self._reading_lock:
            if not self._items_ahead:
                read_some = partial(
                    list, islice(self.pool.source, min(self.pool.width, MAX_ITEMS_AHEAD))
                )
                self._items_ahead.extend(await asyncio.to_thread(read_some))
            return self._items_ahead.popleft() if self._items_ahead else END_OF_SOURCE

    async def _flush_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        """Write all finished results of the workers to the sink."""
        async with self._writing_lock:
            batch, self._results = self._results, []
            if not batch:
                return
            try:
                await await_despite_cancel(asyncio.to_thread(self.pool.sink, batch))
            except Exception:
                self._results = [*batch, *self._results]  # the final flush tries once more
                raise
            self._written += len(batch)

    async def _report_repeatedly(self) -> None:
        while True:
            step = asyncio.create_task(asyncio.to_thread(self.pool.tick, self._written))
            done, _ = await asyncio.wait([step], timeout=SLOW_TICK_S)
            # a progress step that does not return waits for the end of a pause
            if not done:
                self._pause()
            await step
            self._resume()
            await asyncio.sleep(LOOK_S)

    def _pause(self) -> None:
        self._running.clear()
        if self.pool.asker:
            self.pool.asker.pause()

    def _resume(self) -> None:
        self._running.set()
        if self.pool.asker:
            self.pool.asker.resume()


async def await_despite_cancel(writing: Awaitable[None]) -> None:
    """Await the end of a thread's work, such as writing a batch of results, even when this task of
    the worker pool is cancelled; then raise the cancellation."""
    task = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
