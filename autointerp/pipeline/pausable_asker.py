"""The asker of a job: it can be shut while the job pauses, and stops for good when asking is vain.

Questions wait before they are asked, not within the server's own queue, so that a pause or an end
has no more than `most` calls left under way.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from autointerp.llm.records import (
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
"""What another question may not meet."""
MAX_FAILED_IN_A_ROW, MIN_FAILING_S = 50, 300.0
"""After so many questions in a row that met such a fault, over so long, it is none that passes."""
CALL_PURPOSE: ContextVar[str] = ContextVar("role", default="")
"""What the present questions are for: the purpose under which their calls are recorded."""


class PausableAsker:
    """An Asker over another one. Used on one event loop."""

    def __init__(self, asker: Asker, most: int, trial: int | None = None) -> None:
        """`most`: questions under way at once. `trial`: after so many, Stopped is raised."""
        self._asker = asker
        self.server = getattr(asker, "server", None)
        """Of whoever answers: requests are known by it."""
        self._slots = asyncio.Semaphore(most)
        self._open = asyncio.Event()
        self._open.set()
        self.under_way = 0
        self.stopped: RequestFailure | None = None
        """Why nobody is asked any more: every further call would meet the same."""
        self._trial, self._sent, self._ended = trial, 0, 0
        self.questions = QuestionTally()
        """What the questions of this process came to so far."""
        self._in_vain = 0
        self._since = 0.0

    @property
    def model(self) -> str:
        """Who answers."""
        return self._asker.model

    @property
    def logprobs(self) -> bool:
        """Whether replies come with log probabilities."""
        return self._asker.logprobs

    async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
        """The answer, when the gate is open; what stopped it, once something did."""
        if role := CALL_PURPOSE.get():
            request = replace(request, purpose=role)
        async with self._slots:
            await self._open.wait()
            if self.stopped:
                return self.stopped
            await self._within_trial()
            self.under_way += 1
            try:
                answer = await self._asker.ask(request)
            finally:
                self.under_way -= 1
        vain = self._vain(answer)
        if isinstance(answer, RequestFailure) and (answer.hopeless or vain):
            self.stopped = self.stopped or answer
        self._ended += 1
        self._count(answer)
        return answer

    async def _within_trial(self) -> None:
        """Wait at the end of a trial until its questions are answered, then raise Stopped."""
        if self._trial is None:
            return
        if self._sent < self._trial:
            self._sent += 1
            return
        while self._ended < self._trial:
            await asyncio.sleep(LOOK_S)
        raise JobStopped

    def _count(self, answer: Reply | RequestFailure) -> None:
        if will_be_retried_shorter(answer):
            return
        self.questions.count(answer)
        if (feature := CURRENT_TALLY.get()) is not None:
            feature.count(answer)

    def _vain(self, answer: Reply | RequestFailure) -> bool:
        """Whether nothing was answered for so long that nothing will be."""
        if isinstance(answer, Reply) or answer.kind not in TRANSIENT_KINDS:
            self._in_vain = 0
            return False
        if not self._in_vain:
            self._since = time.monotonic()
        self._in_vain += 1
        return (
            self._in_vain >= MAX_FAILED_IN_A_ROW and time.monotonic() - self._since >= MIN_FAILING_S
        )

    def is_too_long(self, request: ChatRequest) -> bool:
        """Whether a request is known not to fit into the server's context."""
        return is_too_long(self._asker, request)

    def shut(self) -> None:
        """No new calls until it is opened."""
        self._open.clear()
        if pause := getattr(self._asker, "pause", None):  # a stand-in has none
            pause()

    def reopen(self) -> None:
        """Calls go on."""
        self._open.set()
        if resume := getattr(self._asker, "resume", None):
            resume()

    async def quiet(self, timeout_s: float) -> None:
        """Wait until no call is in flight, or until the time is up."""
        end = time.monotonic() + timeout_s
        while self.in_flight and time.monotonic() < end:
            await asyncio.sleep(LOOK_S)

    @property
    def activity(self) -> ServerActivity | None:
        """Calls in flight, latency and tokens per second; None for a stand-in that counts none."""
        return getattr(self._asker, "activity", None)

    @property
    def in_flight(self) -> int:
        """How many calls were sent and have not ended."""
        return self.activity.snapshot().in_flight if self.activity else self.under_way


@contextmanager
def set_call_purpose(name: str) -> Iterator[None]:
    """What questions of this block, and of the tasks that it begins, are for."""
    token = CALL_PURPOSE.set(name)
    try:
        yield
    finally:
        CALL_PURPOSE.reset(token)
