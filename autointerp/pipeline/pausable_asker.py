"""Asker of a job that can be paused, counts the job's questions, and stops asking when every
further question would fail.

Questions wait here and not in the server's queue, so that a pause or an end leaves at most `most`
calls in flight.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from autointerp.llm.requests_and_replies import (
    Asker,
    ChatRequest,
    FailureKindName,
    Reply,
    RequestFailure,
    is_too_long,
)
from autointerp.llm.server_activity import ServerActivity
from autointerp.llm.shorter_retry import will_be_retried_shorter
from autointerp.pipeline.question_tally import CURRENT_TALLY, QuestionTally
from feature_store.job_process import JobStopped

LOOK_S = 0.05
TRANSIENT_KINDS: frozenset[FailureKindName] = frozenset(
    ("timeout", "rate limited", "server error", "broken reply")
)
"""Kinds of failure that the next question may not meet."""
MAX_FAILED_IN_A_ROW, MIN_FAILING_S = 50, 300.0
"""Number of questions in a row with a transient failure, and the seconds over which they must
spread, before the job stops asking."""
CALL_PURPOSE: ContextVar[str] = ContextVar("role", default="")
"""Purpose under which the current questions of the pausable asker are recorded in the call log."""


class PausableAsker:
    """Asker that forwards a job's questions to another asker, such as that of a language-model
    server, and that the job can pause or stop. Used on one event loop."""

    def __init__(self, asker: Asker, max_in_flight: int, trial: int | None = None) -> None:
        """Wrap an asker. `max_in_flight` is the maximum number of questions in progress; after
        `trial` questions, JobStopped is raised, to measure the time of a job."""
        self._asker = asker
        self.server = getattr(asker, "server", None)
        """Server of the wrapped asker, which is part of every request's key."""
        self._slots = asyncio.Semaphore(max_in_flight)
        self._running = asyncio.Event()
        self._running.set()
        self.in_progress = 0
        self.stopped: RequestFailure | None = None
        """The failure for which the job stopped asking: every further question would meet the
        same."""
        self._trial, self._n_sent, self._n_answered = trial, 0, 0
        self.questions = QuestionTally()
        """Tally of all questions that this process asked."""
        self._failed_in_a_row = 0
        self._failing_since = 0.0

    @property
    def model(self) -> str:
        """Name of the language model that the wrapped asker uses."""
        return self._asker.model

    @property
    def logprobs(self) -> bool:
        """Whether replies of the wrapped asker have log probabilities."""
        return self._asker.logprobs

    async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
        """Forward a question to the wrapped asker, waiting while this one is paused; once there is
        a failure that stopped the job, return it instead."""
        if purpose := CALL_PURPOSE.get():
            request = replace(request, purpose=purpose)
        # wait here and not in the server, so that a pause leaves few calls in flight
        async with self._slots:
            await self._running.wait()
            if self.stopped:
                return self.stopped
            await self._within_trial()
            self.in_progress += 1
            try:
                answer = await self._asker.ask(request)
            finally:
                self.in_progress -= 1
        should_stop = self._should_stop_asking(answer)
        if isinstance(answer, RequestFailure) and (answer.stops_job or should_stop):
            self.stopped = self.stopped or answer
        self._n_answered += 1
        self._count(answer)
        return answer

    async def _within_trial(self) -> None:
        """Count a question of the asker's trial; after the last one, wait for their answers and
        raise JobStopped."""
        if self._trial is None:
            return
        if self._n_sent < self._trial:
            self._n_sent += 1
            return
        while self._n_answered < self._trial:
            await asyncio.sleep(LOOK_S)
        raise JobStopped

    def _count(self, answer: Reply | RequestFailure) -> None:
        if will_be_retried_shorter(answer):
            return
        self.questions.count(answer)
        if (feature := CURRENT_TALLY.get()) is not None:
            feature.count(answer)

    def _should_stop_asking(self, answer: Reply | RequestFailure) -> bool:
        """Return whether questions have failed for so long that the job should stop asking: at
        least MAX_FAILED_IN_A_ROW over MIN_FAILING_S seconds."""
        if isinstance(answer, Reply) or answer.kind not in TRANSIENT_KINDS:
            self._failed_in_a_row = 0
            return False
        if not self._failed_in_a_row:
            self._failing_since = time.monotonic()
        self._failed_in_a_row += 1
        return (
            self._failed_in_a_row >= MAX_FAILED_IN_A_ROW
            and time.monotonic() - self._failing_since >= MIN_FAILING_S
        )

    def is_too_long(self, request: ChatRequest) -> bool:
        """Return whether the wrapped asker knows a request to exceed the server's context."""
        return is_too_long(self._asker, request)

    def pause(self) -> None:
        """Pause this asker: no new calls until `resume`; calls in flight continue."""
        self._running.clear()
        if pause := getattr(self._asker, "pause", None):  # stand-ins have no pause
            pause()

    def resume(self) -> None:
        """End the pause of the asker, so that calls continue."""
        self._running.set()
        if resume := getattr(self._asker, "resume", None):
            resume()

    async def wait_until_idle(self, timeout_s: float) -> None:
        """Wait until the paused asker has no call in flight, at most `timeout_s` seconds."""
        end = time.monotonic() + timeout_s
        while self.in_flight and time.monotonic() < end:
            await asyncio.sleep(LOOK_S)

    @property
    def activity(self) -> ServerActivity | None:
        """Calls in flight, latency and tokens per second of the wrapped asker's server; None for a
        stand-in without these."""
        return getattr(self._asker, "activity", None)

    @property
    def in_flight(self) -> int:
        """Number of calls of the wrapped asker that were sent and have not ended."""
        return self.activity.snapshot().in_flight if self.activity else self.in_progress


@contextmanager
def set_call_purpose(name: str) -> Iterator[None]:
    """Ask the questions of this block, and of the tasks it starts, under a purpose that the call
    log records."""
    token = CALL_PURPOSE.set(name)
    try:
        yield
    finally:
        CALL_PURPOSE.reset(token)
