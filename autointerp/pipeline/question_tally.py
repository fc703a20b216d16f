"""What a job's questions came to: how many were answered, and why the others were not.

Counted by question, not by attempt: a question that timed out twice and was answered then is one
answer. Attempts are in the job's call log.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from autointerp.llm.failure_kinds import FAILURE_KINDS
from autointerp.llm.records import Reply, RequestFailure


class FailureCount(NamedTuple):
    """How often questions failed in one way."""

    questions: int
    example: str
    """What was said of the newest one: a sentence for the user, from outside in part."""


@dataclass
class QuestionTally:
    """Questions that were answered, and failures by kind."""

    answered: int = 0
    failures: dict[str, FailureCount] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Questions without a usable answer."""
        return sum(one.questions for one in self.failures.values())

    @property
    def asked(self) -> int:
        """Questions that have ended, one way or the other."""
        return self.answered + self.failed

    def count(self, answer: Reply | RequestFailure) -> None:
        """Count one question by what came of it."""
        if isinstance(answer, RequestFailure):
            self._add(answer.kind, 1, answer.sentence)
        else:
            self.answered += 1

    def reject(self, answer: RequestFailure) -> None:
        """Count a question as failed whose reply came, and was found to be of no use later."""
        self.answered = max(0, self.answered - 1)
        self.count(answer)

    def merge(self, other: "QuestionTally") -> None:
        """Add another tally's counts."""
        self.answered += other.answered
        for kind, (n, example) in other.failures.items():
            self._add(kind, n, example)

    def to_json(self) -> dict[str, Any]:
        """The counts as plain data."""
        failures = {
            kind: {"questions": n, "example": example}
            for kind, (n, example) in self.failures.items()
        }
        return {"answered": self.answered, "failures": failures}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "QuestionTally":
        """Counts from plain data; an empty mapping is none."""
        failures = {
            kind: FailureCount(one["questions"], one["example"])
            for kind, one in given.get("failures", {}).items()
        }
        return cls(given.get("answered", 0), failures)

    def _add(self, kind: str, n: int, example: str) -> None:
        before = self.failures.get(kind, FailureCount(0, "")).questions
        self.failures[kind] = FailureCount(before + n, example)


class QuestionCounts:
    """A job's tally, feature by feature: one that is done again counts by its later outcome."""

    def __init__(self) -> None:
        self._of: dict[int, QuestionTally] = {}
        """Feature → its tally, of those with failures; there are few, or a job is no use."""
        self._answered: dict[int, int] = {}
        """Feature → questions answered, of the others."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count a feature's line of the ledger."""
        feature = entry["feature"]
        self._of.pop(feature, None)
        self._answered.pop(feature, None)
        if found := entry.get("questions"):
            tally = QuestionTally.from_json(found)
            if tally.failures:
                self._of[feature] = tally
            else:
                self._answered[feature] = tally.answered

    def total(self, *, failed: bool = True) -> QuestionTally:
        """Return the counts of all features, or without `failed` of those with no failure."""
        total = QuestionTally(sum(list(self._answered.values())))
        for tally in list(self._of.values()) if failed else ():
            total.merge(tally)
        return total


CURRENT_TALLY: ContextVar[QuestionTally | None] = ContextVar("counting", default=None)
"""Where the questions of the present feature are counted."""


@contextmanager
def count_questions() -> Iterator[QuestionTally]:
    """Count the questions of this block, and of the tasks that it begins, into a new tally."""
    tally = QuestionTally()
    token = CURRENT_TALLY.set(tally)
    try:
        yield tally
    finally:
        CURRENT_TALLY.reset(token)


def describe_failures(tally: QuestionTally) -> list[str]:
    """Return a sentence for each kind of failure, the most frequent first.

    Each has the count, an example, and what would help.
    """
    return [
        describe_failure_kind(kind, one, tally.asked)
        for kind, one in sorted(tally.failures.items(), key=lambda pair: -pair[1].questions)
    ]


def describe_failure_kind(kind: str, one: FailureCount, asked: int) -> str:
    """Return one kind of failure in words."""
    known = FAILURE_KINDS.get(kind)
    title = known.title if known else f"failed ({kind})"
    advice = f" {known.help}" if known else ""
    example = one.example.rstrip(".")
    quoted = f" For example: {example}." if example else ""
    return f"{one.questions} of {asked} questions {title}.{quoted}{advice}"
