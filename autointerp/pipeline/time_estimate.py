"""Time estimate of a job: how long its questions will take, from the latency of replies that the
same server has given before.

Replies of all jobs of the store are measured: their latency, and how many came at once. Without any
the time is unknown, and no guess is made; `saefari explain` and the Jobs page can first ask a few
of the job's own questions (a trial), whose replies are kept like all others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb

from autointerp.llm.call_rows import open_call_file
from autointerp.llm.server_activity import union_seconds

MIN_REPLIES_PER_KIND = 3
"""Number of replies to one kind of question from which its own mean latency is used."""
NEWEST_REPLIES = 200
"""Number of replies of one call log that are read, the newest."""
WRITE_TO_READ_RATIO = 10.0
"""Time of writing a token in units of reading one, for kinds of question that were never
measured."""
REPLIES_SQL = """
    SELECT split_part(purpose, ' of ', 1), coalesce(tokens_in, 0), coalesce(tokens_out, 0),
           latency_s, epoch(ended)
    FROM attempt JOIN outcome USING (attempt)
    WHERE model = ? AND base_url = ? AND latency_s IS NOT NULL AND text IS NOT NULL
    ORDER BY attempt DESC LIMIT ?
"""


class MeasuredReply(NamedTuple):
    """One reply in a job's call log with its latency and token counts, on which time estimates are
    based."""

    kind: str
    """Kind of question, such as `detection` or `explain: strata`."""
    tokens_in: int
    tokens_out: int
    latency_s: float
    ended: float
    """Time of the reply, in seconds since 1970."""


@dataclass
class QuestionLoad:
    """Estimated number and size of the questions of one kind that a job will ask, from which its
    time is estimated."""

    calls: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0


@dataclass(frozen=True)
class ReplyPace:
    """Measured pace of one model on one server: the latencies of its replies and the calls in
    flight at once, from which the time of a job is estimated."""

    replies: tuple[MeasuredReply, ...] = ()
    parallel: float = 1.0
    """Mean number of calls in flight, over the time in which there were any."""

    def seconds(self, asked: Mapping[str, QuestionLoad], concurrency: int) -> float | None:
        """Return the estimated seconds that all questions of a job take; None where nothing was
        measured."""
        if not self.replies:
            return None
        work = sum(self._latency(kind, load) * load.calls for kind, load in asked.items())
        return work / max(1.0, min(self.parallel, concurrency))

    def _latency(self, kind: str, load: QuestionLoad) -> float:
        """Return the estimated latency in seconds of a reply to one kind of question."""
        mine = [one.latency_s for one in self.replies if one.kind == kind]
        if len(mine) >= MIN_REPLIES_PER_KIND:
            return sum(mine) / len(mine)
        measured = sum(one.latency_s for one in self.replies)
        size = sum(one.tokens_in + WRITE_TO_READ_RATIO * one.tokens_out for one in self.replies)
        if not size or not load.calls:  # the server counts no tokens
            return measured / len(self.replies)
        # no reply of this kind yet: latency is taken to be proportional to the tokens
        return (
            measured / size * (load.tokens_in + WRITE_TO_READ_RATIO * load.tokens_out) / load.calls
        )


def measure_pace(files: Iterable[Path], model: str, base_url: str) -> ReplyPace:
    """Return the measured pace of a model on a server for time estimates, from the newest call log
    with any replies.

    `files` are sorted newest first. Files that are in use or contain no calls are skipped.
    """
    for path in files:
        try:
            with open_call_file(path, read_only=True) as db:
                rows = db.execute(REPLIES_SQL, [model, base_url, NEWEST_REPLIES]).fetchall()
        except (duckdb.IOException, duckdb.ConnectionException, duckdb.CatalogException):
            continue
        if rows:
            replies = tuple(MeasuredReply(*row) for row in rows)
            # time in which the job was paused does not count
            busy = union_seconds((one.ended - one.latency_s, one.ended) for one in replies)
            total = sum(one.latency_s for one in replies)
            return ReplyPace(replies, max(1.0, total / busy) if busy > 0 else 1.0)
    return ReplyPace()
