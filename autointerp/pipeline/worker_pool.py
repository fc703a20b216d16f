"""Many things worked on at once, as many as there are workers and no more in memory.

What they are drawn from and where results go may block: both have threads, so that the event loop
never waits for a file. Results are handed over in batches, once a second and at the end.
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
"""A step that takes longer waits for a pause to end."""
GRACE_S = 10.0
"""How long calls under way may still be answered when a job is cancelled."""
MAX_UNWRITTEN = 2000
"""Results in memory, before workers wait for them to be written."""
MAX_ITEMS_AHEAD = 8
"""Things read at once at most, and so waiting for a worker."""
END_OF_SOURCE = object()


@dataclass(frozen=True)
class WorkerPool(Generic[ItemT, ResultT]):
    """Where things come from, what is done with each, and where it goes."""

    source: Iterator[ItemT]
    """Read in a thread, a few at a time."""
    work: Callable[[ItemT], Awaitable[ResultT | None]]
    """None: it was in vain, and is to be done by another run."""
    sink: Callable[[Sequence[ResultT]], None]
    """In a thread, one batch at a time, in the order in which they were done."""
    tick: Callable[[int], None]
    """In a thread, with how many are written. May wait, as for a pause, and raise to end it."""
    width: int = 1
    """Things worked on at once."""
    gate: PausableAsker | None = None

    async def run(self) -> None:
        """All of it. What a part raises ends it; what was done by then is written."""
        await WorkerPoolRun(self).run()


class WorkerPoolRun(Generic[ItemT, ResultT]):
    """One run of a flow."""

    def __init__(self, flow: WorkerPool[ItemT, ResultT]) -> None:
        self.flow = flow
        self._ready: list[ResultT] = []
        self._drawn: deque[ItemT] = deque()
        self._written = 0
        self._drawing = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._going = asyncio.Event()
        self._going.set()

    async def run(self) -> None:
        """Until the source is empty, the gate stops, or something is raised."""
        works = asyncio.gather(*(self._worker() for _ in range(self.flow.width)))
        tasks = [works, *(asyncio.ensure_future(c) for c in (self._flushing(), self._ticking()))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except BaseException:
            if self.flow.gate:
                self.flow.gate.shut()
                await self.flow.gate.quiet(GRACE_S)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._flush()
        await asyncio.to_thread(self.flow.tick, self._written)

    async def _worker(self) -> None:
        while not (self.flow.gate and self.flow.gate.stopped):
            await self._going.wait()
            one = await self._draw()
            if one is END_OF_SOURCE:
                return
            found = await self.flow.work(one)  # type: ignore[arg-type] - END is gone
            if found is not None:
                self._ready.append(found)
            while len(self._ready) > MAX_UNWRITTEN:
                await asyncio.sleep(LOOK_S)

    async def _draw(self) -> ItemT | object:
        """The next thing, END after the last; a few are read at a time, as a thread is dear."""
        async with self._drawing:
            if not self._drawn:
                few = partial(list, islice(self.flow.source, min(self.flow.width, MAX_ITEMS_AHEAD)))
                self._drawn.extend(await asyncio.to_thread(few))
            return self._drawn.popleft() if self._drawn else END_OF_SOURCE

    async def _flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            batch, self._ready = self._ready, []
            if not batch:
                return
            try:
                await await_despite_cancel(asyncio.to_thread(self.flow.sink, batch))
            except Exception:
                self._ready = [*batch, *self._ready]  # the end tries once more
                raise
            self._written += len(batch)

    async def _ticking(self) -> None:
        while True:
            step = asyncio.create_task(asyncio.to_thread(self.flow.tick, self._written))
            done, _ = await asyncio.wait([step], timeout=SLOW_TICK_S)
            if not done:
                self._pause()
            await step
            self._proceed()
            await asyncio.sleep(LOOK_S)

    def _pause(self) -> None:
        self._going.clear()
        if self.flow.gate:
            self.flow.gate.shut()

    def _proceed(self) -> None:
        self._going.set()
        if self.flow.gate:
            self.flow.gate.reopen()


async def await_despite_cancel(writing: Awaitable[None]) -> None:
    """Await something that a thread does, to its end even when this task is cancelled."""
    task = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
