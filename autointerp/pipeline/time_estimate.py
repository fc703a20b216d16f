"""How long a job's questions will take, from the replies that the same server has given before.

Replies of every job of the store are measured: their latency, and how many came at a time. Without
any the time is not known, and nothing is put in its place; `saefari explain` and the Jobs page can
ask a few of the job's own questions first (a trial), whose replies are kept like all others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb

from autointerp.llm.call_rows import open_call_file
from autointerp.llm.server_activity import union_seconds

MIN_REPLIES_PER_KIND = 3
"""Replies to one kind of question from which on their own mean latency counts."""
NEWEST_REPLIES = 200
"""Replies of one file that are looked at, the newest."""
WRITE_TO_READ_RATIO = 10.0
"""Writing a token takes about as long as reading so many; for kinds of question never measured."""
REPLIES_SQL = """
    SELECT split_part(purpose, ' of ', 1), coalesce(tokens_in, 0), coalesce(tokens_out, 0),
           latency_s, epoch(ended)
    FROM attempt JOIN outcome USING (attempt)
    WHERE model = ? AND base_url = ? AND latency_s IS NOT NULL AND text IS NOT NULL
    ORDER BY attempt DESC LIMIT ?
"""


class MeasuredReply(NamedTuple):
    """One reply in a job's file of calls."""

    kind: str
    """Of question: `detection`, `explain: strata`."""
    tokens_in: int
    tokens_out: int
    latency_s: float
    ended: float
    """Seconds since 1970."""


@dataclass
class QuestionLoad:
    """The questions of one kind that a job will ask, as they are estimated."""

    calls: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0


@dataclass(frozen=True)
class ReplyPace:
    """What was measured of one model on one server."""

    replies: tuple[MeasuredReply, ...] = ()
    parallel: float = 1.0
    """Calls that were in flight at a time, on average while there were any."""

    def seconds(self, asked: Mapping[str, QuestionLoad], concurrency: int) -> float | None:
        """Return how long the questions will take in seconds; None where nothing was measured."""
        if not self.replies:
            return None
        work = sum(self._latency(kind, load) * load.calls for kind, load in asked.items())
        return work / max(1.0, min(self.parallel, concurrency))

    def _latency(self, kind: str, load: QuestionLoad) -> float:
        """Return the mean seconds of a reply to one kind of question."""
        mine = [one.latency_s for one in self.replies if one.kind == kind]
        if len(mine) >= MIN_REPLIES_PER_KIND:
            return sum(mine) / len(mine)
        measured = sum(one.latency_s for one in self.replies)
        size = sum(one.tokens_in + WRITE_TO_READ_RATIO * one.tokens_out for one in self.replies)
        if not size or not load.calls:  # a server that counts no tokens
            return measured / len(self.replies)
        return (
            measured / size * (load.tokens_in + WRITE_TO_READ_RATIO * load.tokens_out) / load.calls
        )


def measure_pace(files: Iterable[Path], model: str, base_url: str) -> ReplyPace:
    """Return the pace of a model on a server, from the newest file of calls that has any replies.

    `files` are the newest first. Files that are in use, or hold no calls, are left out.
    """
    for path in files:
        try:
            with open_call_file(path, read_only=True) as db:
                rows = db.execute(REPLIES_SQL, [model, base_url, NEWEST_REPLIES]).fetchall()
        except (duckdb.IOException, duckdb.ConnectionException, duckdb.CatalogException):
            continue
        if rows:
            replies = tuple(MeasuredReply(*row) for row in rows)
            busy = union_seconds((one.ended - one.latency_s, one.ended) for one in replies)
            total = sum(one.latency_s for one in replies)
            return ReplyPace(replies, max(1.0, total / busy) if busy > 0 else 1.0)
    return ReplyPace()
