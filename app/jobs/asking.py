"""Whom a job asks: a server, a model, what it may cost; and what it has cost so far."""

import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autointerp.asking import CallLog, Server, at, calls_of, servers
from autointerp.asking.prices import Price, price, prices
from autointerp.asking.rows import opened as opened_calls
from autointerp.jobs.estimate import Dry, Rates, learned
from autointerp.jobs.gate import Gate
from autointerp.quiet import pool_of
from feature_store.errors import InputError, near_miss
from feature_store.jobs import Job, Jobs, read_json, write_json
from feature_store.reader import HarvestFile
from feature_store.store import Store
from feature_store.work import Work

SO_FAR = "so_far.json"
"""In the job's folder: counts, cost and some results, replaced about once a second."""
EVERY_S = 1.0
MEGABYTES = 48
"""Of the harvest's file in a job's memory, however large it is."""
PURPOSES = """
    SELECT purpose, count(text), coalesce(sum(tokens_in), 0) + coalesce(sum(tokens_out), 0),
           coalesce(sum(cost), 0), count(*) FILTER (text IS NOT NULL AND cost IS NULL),
           count(*) FILTER (text IS NOT NULL AND tokens_in IS NULL)
    FROM attempt JOIN outcome USING (attempt) GROUP BY purpose
"""


@dataclass(frozen=True)
class Asking:
    """Whom to ask, and within which limits."""

    base_url: str = ""
    """Empty: nobody is asked."""
    model: str = ""
    budget: float | None = None
    """US dollars; None is no cap."""
    concurrency: int | None = None
    """Calls at once; None: the server's own setting."""
    again: bool = False
    """Whether recorded replies that could not be used are asked for once more."""

    @property
    def server(self) -> Server:
        """The server of the URL, with its key where one is configured for it."""
        found = at(self.base_url, servers())
        return found if self.concurrency is None else replace(found, concurrency=self.concurrency)

    @property
    def thinking(self) -> int:
        """Tokens that the model may think before each answer."""
        return self.server.thinking if self.base_url else 0


def settle(asking: Asking) -> Asking:
    """The same with the URL and the model that go without saying. InputError where none does."""
    known = servers()
    if asking.budget is not None and asking.budget < 0:
        raise InputError(f"--budget must be 0 or more dollars, not {asking.budget:g}.")
    if not asking.base_url:
        if len(known) != 1:
            names = ", ".join(sorted(known)) or "none"
            raise InputError(
                "Say which server to ask: --base-url http://localhost:8000/v1, for instance "
                f"(configured: {names})."
            )
        (only,) = known.values()
        asking = replace(asking, base_url=only.base_url)
    server = at(asking.base_url, known)
    if not asking.model:
        if len(server.models) != 1:
            there = f" It has {', '.join(server.models)}." if server.models else ""
            raise InputError(f"Say which model of {server.name} to ask: --model NAME.{there}")
        asking = replace(asking, model=server.models[0])
    return replace(asking, base_url=server.base_url)


def opened(store: Store, harvest: str, dictionary: str) -> HarvestFile:
    """The harvest's file, with little of it in memory once the pool of silent windows, which takes
    one large read, is there."""
    file = store.harvest(harvest)
    pool_of(file, dictionary)
    file.limit(MEGABYTES)
    return file


@asynccontextmanager
async def asked(
    store: Store, work: Work, asking: Asking | None
) -> AsyncIterator[tuple[Gate, CallLog] | tuple[None, None]]:
    """The gate to the server, with the job's record behind it, until the block ends; without
    `asking` neither, for a job that asks nobody."""
    if asking is None:
        yield None, None
        return
    from autointerp.asking import asking as connected

    server = asking.server
    with calls_of(work.job, Jobs(store.path), note=work.log) as calls:
        async with connected(
            server, asking.model, calls, calls.budget(asking.budget),
            retry_kept=asking.again, note=work.log,
        ) as asker:  # fmt: skip
            yield Gate(asker, server.concurrency), calls


class Teller:
    """Says how far a job is: its progress, and now and then what it has found and cost."""

    def __init__(self, work: Work, note: str, calls: CallLog | None) -> None:
        self._work, self._note, self._calls = work, note, calls
        self._told = 0.0
        self._over = False
        self._writing = threading.Lock()

    def tell(self, done: int, total: int, more: Mapping[str, Any] | None = None) -> None:
        """Waits while paused; raises Cancelled when asked to end."""
        self._work.progress(min(done, total), total, self._note)
        if more is not None:
            self.write(more)

    @property
    def due(self) -> bool:
        """Whether it is time for more."""
        return time.monotonic() - self._told >= EVERY_S

    def write(self, more: Mapping[str, Any], *, last: bool = False) -> None:
        """What was found and what it cost; nothing after the `last` one, not even by a thread that
        was slower."""
        with self._writing:
            if self._over:
                return
            self._over, self._told = last, time.monotonic()
            write_json(self._work.job.folder / SO_FAR, {**more, **self.cost()})

    def cost(self) -> dict[str, Any]:
        """Calls, tokens and dollars of all processes that worked on the job."""
        if self._calls is None:
            return {"calls": 0, "tokens": 0, "cost": 0.0}
        all_ = self._calls.totals()
        return {
            "calls": all_.calls, "refused": all_.failed, "lost": self._calls.lost.calls,
            "tokens": None if all_.uncounted else all_.tokens_in + all_.tokens_out,
            "cost": None if all_.unpriced else all_.cost,
        }  # fmt: skip


def known_of(store: Store, asking: Asking) -> tuple[Dry, Rates, Price | None]:
    """For an estimate: an asker that only looks, what was learnt of the model, its price."""
    dry = Dry(asking.model, asking.server.logprobs)
    files = [job.data for job in Jobs(store.path).all() if job.data.exists() and not job.alive]
    known = price(asking.model, asking.server, prices())
    return dry, learned(files, asking.model), known


def so_far(job: Job) -> dict[str, Any]:
    """What a job last said of its results and cost; empty before it did."""
    try:
        return read_json(job.folder / SO_FAR)
    except (OSError, ValueError):
        return {}


def ending(gate: Gate | None, calls: CallLog | None) -> dict[str, Any]:
    """A result's word on calls that an earlier end of the job lost, and on why asking ended early.
    InputError unless it was the budget: that is no mistake, and what was done within it stands."""
    lost = {"lost": calls.lost.calls if calls else 0}
    if gate is None or gate.stopped is None:
        return lost
    if gate.stopped.kind != "budget":
        raise InputError(gate.stopped.sentence)
    return lost | {"stopped": gate.stopped.sentence}


def by_purpose(path: Path) -> dict[str, dict[str, Any]]:
    """What each kind of question came to, over all processes: calls, tokens and cost, None where
    the server did not count or the price is not known.

    `path` is a file of calls that nobody writes any more.
    """
    if not path.exists():
        return {}
    with opened_calls(path, read_only=True) as db:
        rows = db.execute(PURPOSES).fetchall()
    return {
        purpose: {
            "calls": calls,
            "tokens": None if uncounted else int(tokens),
            "cost": None if unpriced else cost,
        }
        for purpose, calls, tokens, cost, unpriced, uncounted in rows
    }


def spent(purposes: Mapping[str, Mapping[str, Any]], names: list[str]) -> dict[str, Any]:
    """The sum over some purposes."""
    mine = [purposes[name] for name in names if name in purposes]
    tokens, costs = ([one[name] for one in mine] for name in ("tokens", "cost"))
    return {
        "calls": sum(one["calls"] for one in mine),
        "tokens": None if None in tokens else sum(tokens),
        "cost": None if None in costs else float(sum(costs)),
    }


def names_of(text: str, what: str, table: Mapping[str, object]) -> tuple[str, ...]:
    """`detection,fuzzing` as names of a table, each once. InputError for one that it has not."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in found:
        if name not in table:
            raise InputError(
                f"There is no {what} {name!r}.{near_miss(name, list(table))} There are: "
                f"{', '.join(table)}."
            )
    if not found:
        raise InputError(f"Name a {what}: {', '.join(table)}.")
    return tuple(found)
