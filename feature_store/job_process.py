"""Job process: the process that carries out a job, holds the job's lock and reports its
progress."""

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
"""Seconds for which a job's process waits for the job's lock: readers hold it for microseconds."""
WRITE_EVERY_S = 0.3
POLL_EVERY_S = 0.3
GRACE_S = 20.0
"""Seconds after a request to cancel for which a job's work may continue before its process is
ended."""


class JobCancelled(Exception):
    """Raised in a job's process at a step of its work when a person has cancelled the job; not a
    failure."""


class JobStopped(Exception):
    """Raised in a job's process when the work ends early and can be resumed, as after a trial of
    a few questions."""


class JobProcess:
    """A job within its own process: reports its progress, and obeys requests to pause and cancel.
    Used by one thread."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.arguments = job.arguments
        self._state: dict[str, Any] = {
            "state": "running",
            "started": format_timestamp(datetime.now(UTC)),
        }
        self._written = 0.0
        self._stage: tuple[str, int, float] = ("", 0, time.monotonic())
        """Note, steps done and time at the beginning of the current stage."""
        self._writing = threading.Lock()  # the watcher writes too
        self._write()

    def progress(self, done: int, total: int, note: str, eta_s: float | None = None) -> None:
        """Report the progress of the stage `note`; wait while the job is paused. Raises
        JobCancelled after a cancel.

        `eta_s`: seconds left, if the work knows better than an estimate from its pace. It can be
        called as often as convenient: the state is written a few times per second at most.
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
        self.check_requests()

    def check_requests(self) -> None:
        """Wait while the job is paused. Raises JobCancelled if a person has cancelled the job."""
        if self._is_requested("pause") and not self._is_requested("cancel"):
            self._pause()
        if self._is_requested("cancel"):
            raise JobCancelled

    def log(self, line: str) -> None:
        """Append a line to the job's log."""
        with (self.job.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line.rstrip()}\n")

    def finish(
        self, state: JobState, *, error: str = "", result: dict[str, Any] | None = None
    ) -> None:
        """Write the job's final state: done with a result, failed with an error message,
        cancelled or stopped."""
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
        self._set_state("paused")
        began = time.monotonic()
        while self._is_requested("pause") and not self._is_requested("cancel"):
            time.sleep(POLL_EVERY_S)
        note, first, since = self._stage
        self._stage = (note, first, since + time.monotonic() - began)  # a pause is no slowness
        self._set_state("running")

    def _set_state(self, state: JobState) -> None:
        self._state["state"] = state
        self.log(state)
        self._write()

    def _is_requested(self, name: str) -> bool:
        return (self.job.folder / name).exists()

    def _write(self) -> None:
        with self._writing:
            write_json_file(self.job.folder / "state.json", self._state)
        self._written = time.monotonic()

    def enforce_cancel(self, over: threading.Event) -> None:
        """End the job's process if it does not react to a cancel within GRACE_S, as during one long
        call; runs in a thread.

        Results of jobs are published by a rename, so ending at any moment leaves nothing half
        written.
        """
        asked_s = 0.0
        while not over.wait(POLL_EVERY_S):
            asked_s = asked_s + POLL_EVERY_S if self._is_requested("cancel") else 0.0
            if asked_s >= GRACE_S:
                self.finish("cancelled")
                os._exit(1)


@contextmanager
def hold_job(job: Job) -> Iterator[JobProcess]:
    """Hold a job's lock as its process until the block ends. InputError if another process holds
    it."""
    lock = FileLock(job.folder / "lock")
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S, poll_interval=0.02)
    except Timeout:
        raise InputError(f"Another process is running the job {job.id}.") from None
    over = threading.Event()
    try:
        work = JobProcess(job)
        threading.Thread(target=work.enforce_cancel, args=[over], daemon=True).start()
        yield work
    finally:
        over.set()
        lock.release()


def run_job(job: Job, work: Callable[[JobProcess], dict[str, Any]]) -> JobState:
    """Run a job's work in this process and write how it ended; the traceback of an unexpected
    error is logged."""
    with hold_job(job) as process:
        try:
            result = work(process)
        except JobCancelled:
            process.finish("cancelled")
            return "cancelled"
        except JobStopped:
            process.finish("stopped")
            return "stopped"
        except KeyboardInterrupt:
            process.finish("stopped")
            raise
        except Exception as error:  # the process ends here: the log has the traceback
            expected = isinstance(error, InputError)
            if not expected:
                process.log(traceback.format_exc())
            sentence = str(error) if expected else f"{type(error).__name__}: {error}"
            process.finish("failed", error=sentence)
            return "failed"
        process.finish("done", result=result)
        return "done"
