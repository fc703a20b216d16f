"""Whom a job asks: a server, a model, what it may cost; and what it has cost so far."""

import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from autointerp.llm import (
    FAILURE_KINDS,
    CallLog,
    LlmServer,
    find_server,
    load_servers,
    open_job_call_log,
)
from autointerp.llm.call_rows import open_call_file as opened_calls
from autointerp.llm.server_presets import SERVER_PRESETS
from autointerp.llm.token_prices import TokenPrice, find_price, load_prices
from autointerp.pipeline.cost_estimate import (
    CostEstimate,
    DryRunAsker,
    TokenRates,
    learn_token_rates,
)
from autointerp.pipeline.pausable_asker import PausableAsker
from autointerp.pipeline.question_tally import (
    QuestionCounts,
    QuestionTally,
    describe_failure_kind,
    describe_failures,
)
from autointerp.pipeline.time_estimate import ReplyPace, measure_pace
from autointerp.silent_negatives import get_silent_windows
from feature_store.errors import InputError, suggest_near_miss
from feature_store.harvest_reader import HarvestFile
from feature_store.job_process import JobProcess
from feature_store.jobs import Job, Jobs, read_json_object, write_json_file
from feature_store.store import Store

SO_FAR = "so_far.json"
"""In the job's folder: counts, cost and some results, replaced about once a second."""
ESTIMATE = "estimate.json"
"""In the job's folder: what the job was expected to ask before it began."""
TRIAL = "trial.json"
"""In the job's folder, as a wish: how many questions to ask before the job stops."""
TRIAL_QUESTIONS = 3
"""Questions of a trial: enough to tell seconds from minutes."""
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
    def server(self) -> LlmServer:
        """The server of the URL, with its key where one is configured for it."""
        found = find_server(self.base_url, load_servers())
        return found if self.concurrency is None else replace(found, concurrency=self.concurrency)

    @property
    def thinking(self) -> int:
        """Tokens that the model may think before each answer."""
        return self.server.thinking if self.base_url else 0


def settle(asking: Asking) -> Asking:
    """The same with the URL and the model that go without saying. InputError where none does."""
    known = load_servers()
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
    server = find_server(asking.base_url, known)
    if not asking.model:
        if len(server.models) != 1:
            there = f" It has {', '.join(server.models)}." if server.models else ""
            raise InputError(f"Say which model of {server.name} to ask: --model NAME.{there}")
        asking = replace(asking, model=server.models[0])
    if asking.base_url in SERVER_PRESETS and asking.base_url not in known:
        return asking  # by its name, which has its settings, too
    return replace(asking, base_url=server.base_url)


def opened(store: Store, harvest: str, dictionary: str) -> HarvestFile:
    """The harvest's file, with little of it in memory once the pool of silent windows, which takes
    one large read, is there."""
    file = store.harvest(harvest)
    get_silent_windows(file, dictionary)
    file.limit_memory(MEGABYTES)
    return file


def settle_or_none(asking: Asking, *, asks: bool, who: str) -> Asking:
    """Return the settled asking of a job that asks a language model; an empty one otherwise.

    InputError where limits or a server are given for a job that asks none: they would be ignored
    in silence. `who` names what asks none.
    """
    if asks:
        return settle(asking)
    if asking != Asking():
        raise InputError(
            "--model, --base-url, --budget, --concurrency and --retry are for jobs that ask a "
            f"language model, and {who} asks none: leave them out."
        )
    return Asking()


@asynccontextmanager
async def asked(
    store: Store, work: JobProcess, asking: Asking | None
) -> AsyncIterator[tuple[PausableAsker, CallLog] | tuple[None, None]]:
    """The gate to the server, with the job's record behind it, until the block ends; without
    `asking` neither, for a job that asks nobody."""
    if asking is None:
        yield None, None
        return
    from autointerp.llm import open_asker as connected

    server = asking.server
    with open_job_call_log(work.job, Jobs(store.path), note=work.log) as calls:
        async with connected(
            server,
            asking.model,
            calls,
            calls.budget(asking.budget),
            retry_recorded=asking.again,
            note=work.log,
        ) as asker:
            yield PausableAsker(asker, server.concurrency, take_trial(work.job)), calls


class Teller:
    """Says how far a job is: its progress, and now and then what it has found and cost."""

    def __init__(
        self, work: JobProcess, note: str, calls: CallLog | None, gate: PausableAsker | None = None
    ) -> None:
        self._work, self._note, self._calls, self._gate = work, note, calls, gate
        self._estimate = read_estimate(work.job)
        self._earlier: QuestionTally | None = None
        """What the questions of earlier processes came to, of features that are done."""
        self._more: Mapping[str, Any] = {}
        """What was found when it was last written."""
        self._kinds: set[str] = set()
        """Kinds of failure that stand in the log already."""
        self._told = 0.0
        self._over = False
        self._writing = threading.Lock()

    def tell(
        self, done: int, total: int, counts: QuestionCounts, more: Mapping[str, Any] | None = None
    ) -> None:
        """Say how far the job is; waits while paused, raises Cancelled when asked to end."""
        if self._earlier is None:
            self._earlier = counts.total(failed=False)
        self._work.progress(min(done, total), total, self._note, self._left_s())
        if more is not None:
            self.write(more, self.questions())

    def questions(self) -> QuestionTally:
        """Return what the questions of all processes came to so far."""
        found = QuestionTally()
        for one in (self._earlier, self._gate.questions if self._gate else None):
            if one is not None:
                found.merge(one)
        return found

    def _left_s(self) -> float | None:
        """Return the seconds that are left by the estimate and the present pace, where known."""
        if not self._estimate or not self._gate or not self._gate.activity:
            return None
        each = self._gate.activity.snapshot().seconds_per_reply
        left = self._estimate.get("calls", 0) - self.questions().asked
        return each * left if each is not None and left > 0 else None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Keep what is known at the moment where something ends the block before its time."""
        try:
            yield
        except BaseException:
            self.write(self._more, self.questions(), last=True)
            raise

    @property
    def due(self) -> bool:
        """Whether it is time for more."""
        return time.monotonic() - self._told >= EVERY_S

    def write(
        self, more: Mapping[str, Any], questions: QuestionTally, *, last: bool = False
    ) -> None:
        """What was found and what it cost; nothing after the `last` one, not even by a thread that
        was slower."""
        self._more = more
        self._log_failures(questions, last=last)
        asked = {"questions": questions.to_json(), "live": self._live()} if self._gate else {}
        with self._writing:
            if self._over:
                return
            self._over, self._told = last, time.monotonic()
            write_json_file(self._work.job.folder / SO_FAR, {**more, **asked, **self.cost()})

    def _log_failures(self, questions: QuestionTally, *, last: bool) -> None:
        """Write each kind of failure into the log when it first comes, and all at the end."""
        fresh = set(questions.failures) - self._kinds
        self._kinds |= fresh
        kinds = questions.failures if last else fresh
        for kind in sorted(kinds):
            line = describe_failure_kind(kind, questions.failures[kind], questions.asked)
            self._work.log(line if last else f"{line} (so far)")

    def _live(self) -> dict[str, Any] | None:
        """Return calls in flight, latency and speed at this moment."""
        activity = self._gate.activity if self._gate else None
        return asdict(activity.snapshot()) if activity else None

    def cost(self) -> dict[str, Any]:
        """Calls, tokens and dollars of all processes that worked on the job."""
        if self._calls is None:
            return {"calls": 0, "tokens": 0, "cost": 0.0}
        all_ = self._calls.totals()
        return {
            "calls": all_.calls,
            "attempts": all_.calls + all_.failed,
            "no_reply": no_reply(self._calls),
            "lost": self._calls.lost.calls,
            "tokens": None if all_.uncounted else all_.tokens_in + all_.tokens_out,
            "cost": None if all_.unpriced else all_.cost,
        }


@dataclass(frozen=True)
class Known:
    """What an estimate rests on."""

    dry: DryRunAsker
    """An asker that only looks."""
    rates: TokenRates
    """How the model's server has counted tokens."""
    pace: ReplyPace
    """How fast it has replied."""
    price: TokenPrice | None


def known_of(store: Store, asking: Asking) -> Known:
    """Return what the store's jobs have learnt of a model and its server, and its price."""
    server = asking.server
    files = [
        job.data_path
        for job in Jobs(store.path).list_jobs()
        if job.data_path.exists() and not job.is_active
    ]
    return Known(
        DryRunAsker(asking.model, server.logprobs),
        learn_token_rates(files, asking.model),
        measure_pace(files, asking.model, server.base_url),
        find_price(asking.model, server, load_prices()),
    )


def keep_estimate(job: Job, found: CostEstimate) -> None:
    """Put an estimate beside a job, so that it can say how much is left."""
    write_json_file(job.folder / ESTIMATE, asdict(found))


def read_estimate(job: Job) -> dict[str, Any]:
    """Return what a job was expected to ask; empty where nothing was worked out."""
    try:
        return read_json_object(job.folder / ESTIMATE)
    except (OSError, ValueError):
        return {}


def wish_trial(job: Job) -> None:
    """Have a queued job stop after a few questions, whose replies are kept."""
    write_json_file(job.folder / TRIAL, {"questions": TRIAL_QUESTIONS})


def take_trial(job: Job) -> int | None:
    """Return after how many questions a job shall stop, once; None for a whole job."""
    try:
        questions = int(read_json_object(job.folder / TRIAL)["questions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    (job.folder / TRIAL).unlink(missing_ok=True)
    return questions


def no_reply(calls: CallLog) -> dict[str, int]:
    """Return how many attempts ended without any reply, by kind: `timeout`, `rate limited`, …"""
    return {
        kind: one.attempts
        for kind, one in sorted(calls.kinds().items())
        if kind != "reply" and not (kind in FAILURE_KINDS and FAILURE_KINDS[kind].replied)
    }


def so_far(job: Job) -> dict[str, Any]:
    """What a job last said of its results and cost; empty before it did."""
    try:
        return read_json_object(job.folder / SO_FAR)
    except (OSError, ValueError):
        return {}


def ending(gate: PausableAsker | None, calls: CallLog | None) -> dict[str, Any]:
    """A result's word on calls that an earlier end of the job lost, and on why asking ended early.
    InputError unless it was the budget: that is no mistake, and what was done within it stands."""
    lost: dict[str, Any] = {"lost": calls.lost.calls if calls else 0}
    if calls is not None:
        all_ = calls.totals()
        lost |= {"attempts": all_.calls + all_.failed, "no_reply": no_reply(calls)}
    if gate is None or gate.stopped is None:
        return lost
    if gate.stopped.kind != "budget":
        raise InputError(gate.stopped.sentence)
    return lost | {"stopped": gate.stopped.sentence}


def refuse_unusable(questions: QuestionTally) -> None:
    """Raise InputError where a server was asked and not one of its answers was of use."""
    if questions.failed and not questions.answered:
        reasons = " ".join(describe_failures(questions))
        kept = any(
            kind in FAILURE_KINDS and FAILURE_KINDS[kind].replied for kind in questions.failures
        )
        again = (
            " Replies that came are kept: --retry asks these questions once more." if kept else ""
        )
        raise InputError(f"No question got a usable answer. {reasons}{again}")


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
                f"There is no {what} {name!r}.{suggest_near_miss(name, list(table))} There are: "
                f"{', '.join(table)}."
            )
    if not found:
        raise InputError(f"Name a {what}: {', '.join(table)}.")
    return tuple(found)
