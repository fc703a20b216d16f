"""Tally of a job's questions: how many were answered, and how many failed in which way.

Questions are counted, not attempts: a question that timed out twice and was then answered counts as
one answer. Attempts are in the job's call log.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from autointerp.llm.failure_kinds import FAILURE_KINDS
from autointerp.llm.requests_and_replies import Reply, RequestFailure


class FailureCount(NamedTuple):
    """Number of a job's questions to a language model that failed in one way, with an example."""

    questions: int
    example: str
    """Description of the newest failure: a sentence for the user, partly the server's own words."""


@dataclass
class QuestionTally:
    """Tally of questions to a language model: number answered, and number of failures by kind."""

    answered: int = 0
    failures: dict[str, FailureCount] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of questions in the tally without a usable answer."""
        return sum(one.questions for one in self.failures.values())

    @property
    def asked(self) -> int:
        """Number of questions in the tally that were answered or failed."""
        return self.answered + self.failed

    def count(self, answer: Reply | RequestFailure) -> None:
        """Count one question in the tally, as answered or by its kind of failure."""
        if isinstance(answer, RequestFailure):
            self._add(answer.kind, 1, answer.sentence)
        else:
            self.answered += 1

    def reject(self, answer: RequestFailure) -> None:
        """Count a question of the tally as failed that was counted as answered, because its reply
        turned out to be unusable later."""
        self.answered = max(0, self.answered - 1)
        self.count(answer)

    def merge(self, other: "QuestionTally") -> None:
        """Add the counts of another tally of questions."""
        self.answered += other.answered
        for kind, (n, example) in other.failures.items():
            self._add(kind, n, example)

    def to_json(self) -> dict[str, Any]:
        """Return the tally of questions as plain data."""
        failures = {
            kind: {"questions": n, "example": example}
            for kind, (n, example) in self.failures.items()
        }
        return {"answered": self.answered, "failures": failures}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "QuestionTally":
        """Return a tally of questions from plain data; an empty mapping gives an empty tally."""
        failures = {
            kind: FailureCount(one["questions"], one["example"])
            for kind, one in given.get("failures", {}).items()
        }
        return cls(given.get("answered", 0), failures)

    def _add(self, kind: str, n: int, example: str) -> None:
        before = self.failures.get(kind, FailureCount(0, "")).questions
        self.failures[kind] = FailureCount(before + n, example)


class QuestionCounts:
    """Tally of a job's questions by feature, so that a feature processed twice counts by its later
    outcome."""

    def __init__(self) -> None:
        self._of: dict[int, QuestionTally] = {}
        """Feature → its tally, for features with failures; there are few of these, or the job
        stops."""
        self._answered: dict[int, int] = {}
        """Feature → number of answered questions, for all other features."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count the questions in a feature's progress log entry."""
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
        """Return the tally of a job's questions over all features, or without `failed` over the
        features that have no failed question."""
        total = QuestionTally(sum(list(self._answered.values())))
        for tally in list(self._of.values()) if failed else ():
            total.merge(tally)
        return total


CURRENT_TALLY: ContextVar[QuestionTally | None] = ContextVar("counting", default=None)
"""Tally in which the questions about the current feature are counted."""


@contextmanager
def count_questions() -> Iterator[QuestionTally]:
    """Count the questions of this block, and of the tasks it starts, in a new tally."""
    tally = QuestionTally()
    token = CURRENT_TALLY.set(tally)
    try:
        yield tally
    finally:
        CURRENT_TALLY.reset(token)


def describe_failures(tally: QuestionTally) -> list[str]:
    """Return a sentence for each kind of failed question, the most frequent first, with the count,
    an example, and what would help."""
    return [
        describe_failure_kind(kind, one, tally.asked)
        for kind, one in sorted(tally.failures.items(), key=lambda pair: -pair[1].questions)
    ]


def describe_failure_kind(kind: str, one: FailureCount, asked: int) -> str:
    """Return a sentence that describes the failed questions of one kind."""
    known = FAILURE_KINDS.get(kind)
    title = known.title if known else f"failed ({kind})"
    advice = f" {known.help}" if known else ""
    example = one.example.rstrip(".")
    quoted = f" For example: {example}." if example else ""
    return f"{one.questions} of {asked} questions {title}.{quoted}{advice}"
