"""The side of a job that does it: a process that holds the job's lock and says how far it is."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from feature_store.errors import InputError
from feature_store.jobs import Job, JobState, format_timestamp, write_json_file
from feature_store.strict_json import record_nonfinite

LOCK_TIMEOUT_S = 5.0
"""How long to wait for the lock: readers hold it for microseconds."""
WRITE_EVERY_S = 0.3
POLL_EVERY_S = 0.3
GRACE_S = 20.0
"""How long after a cancel the work may go on before its process is ended."""


class JobCancelled(Exception):
    """Somebody asked the job to end; raised at a step of the work, and nobody's mistake."""


class JobStopped(Exception):
    """The work ends before it is done and can go on later, as after a trial of a few questions."""


class JobProcess:
    """How the process at a job reports and listens. Used by one thread."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.arguments = job.arguments
        self._state: dict[str, Any] = {
            "state": "running",
            "started": format_timestamp(datetime.now(UTC)),
        }
        self._written = 0.0
        self._stage: tuple[str, int, float] = ("", 0, time.monotonic())
        """Note, steps done and time at the stage's beginning."""
        self._writing = threading.Lock()  # the watcher writes too
        self._write()

    def progress(self, done: int, total: int, note: str, eta_s: float | None = None) -> None:
        """Say how far the stage `note` is; wait while paused. Raises Cancelled when asked to end.

        `eta_s`: seconds left, where the work knows better than its pace so far. Call it as often as
        convenient: it writes a few times a second at most.
        """
        if note != self._stage[0]:
            self._stage = (note, done, time.monotonic())
            self.log(note)
        _, first, began = self._stage
        took = time.monotonic() - began
        if eta_s is None and done > first:
            eta_s = took * (total - done) / (done - first)
        self._state |= {"done": done, "total": total, "note": note, "eta_s": eta_s}
        if done == first or done >= total or time.monotonic() - self._written > WRITE_EVERY_S:
            self._write()
        self.check()

    def check(self) -> None:
        """Wait while paused. Raises Cancelled when asked to end."""
        if self._asked("pause") and not self._asked("cancel"):
            self._pause()
        if self._asked("cancel"):
            raise JobCancelled

    def log(self, line: str) -> None:
        """Append a line to the log."""
        with (self.job.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line.rstrip()}\n")

    def end(
        self, state: JobState, *, error: str = "", result: dict[str, Any] | None = None
    ) -> None:
        """The last word: done with a result, failed with a sentence, cancelled or stopped."""
        self._state |= {
            "state": state,
            "ended": format_timestamp(datetime.now(UTC)),
            "eta_s": None,
            "error": error,
            "result": record_nonfinite(result or {}),
        }
        self._write()
        self.log(f"{state}: {error}" if error else state)

    def _pause(self) -> None:
        self._say("paused")
        began = time.monotonic()
        while self._asked("pause") and not self._asked("cancel"):
            time.sleep(POLL_EVERY_S)
        note, first, since = self._stage
        self._stage = (note, first, since + time.monotonic() - began)  # a pause is no slowness
        self._say("running")

    def _say(self, state: JobState) -> None:
        self._state["state"] = state
        self.log(state)
        self._write()

    def _asked(self, name: str) -> bool:
        return (self.job.folder / name).exists()

    def _write(self) -> None:
        with self._writing:
            write_json_file(self.job.folder / "state.json", self._state)
        self._written = time.monotonic()

    def watch(self, over: threading.Event) -> None:
        """In a thread: end the process when a cancel is not heeded, as within one long call.

        What jobs leave behind is published by a rename, so an end at any moment breaks nothing.
        """
        asked_s = 0.0
        while not over.wait(POLL_EVERY_S):
            asked_s = asked_s + POLL_EVERY_S if self._asked("cancel") else 0.0
            if asked_s >= GRACE_S:
                self.end("cancelled")
                os._exit(1)


@contextmanager
def hold_job(job: Job) -> Iterator[JobProcess]:
    """Be the process at a job until the block ends. InputError when another one is."""
    lock = FileLock(job.folder / "lock")
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S, poll_interval=0.02)
    except Timeout:
        raise InputError(f"Another process is at the job {job.id}.") from None
    over = threading.Event()
    try:
        work = JobProcess(job)
        threading.Thread(target=work.watch, args=[over], daemon=True).start()
        yield work
    finally:
        over.set()
        lock.release()


def run_job(job: Job, do: Callable[[JobProcess], dict[str, Any]]) -> JobState:
    """Do a job's work in this process, and put down how it ended; a bug's traceback is logged."""
    with hold_job(job) as work:
        try:
            result = do(work)
        except JobCancelled:
            work.end("cancelled")
            return "cancelled"
        except JobStopped:
            work.end("stopped")
            return "stopped"
        except KeyboardInterrupt:
            work.end("stopped")
            raise
        except Exception as error:  # a process's end: the log has the whole of it
            expected = isinstance(error, InputError)
            if not expected:
                work.log(traceback.format_exc())
            sentence = str(error) if expected else f"{type(error).__name__}: {error}"
            work.end("failed", error=sentence)
            return "failed"
        work.end("done", result=result)
        return "done"
