"""Shared by `saefari explain` and `saefari score`: estimate the cost, run the job, print its
results."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.commands.terminal import console, print_json
from app.jobs.asking import TRIAL_QUESTIONS, Asking, so_far, wish_trial
from app.jobs.estimate_words import LONG_S, describe_estimate
from app.jobs.starting import spawn
from app.scores import telling
from app.scores.words import says_yes, skipped
from app.wording import duration, plural
from autointerp.pipeline.cost_estimate import CostEstimate
from feature_store.errors import InputError
from feature_store.explanations import PERSON
from feature_store.job_process import JobProcess, run_job
from feature_store.jobs import PATIENCE_S, RESUMABLE, Job, Jobs
from feature_store.store import Store

POLL_S = 0.5
LOCK_READER_S = 2.0
"""Seconds after which a held lock is that of the job's process, not of a reader."""
LINE_EVERY_S = 10.0


def launch(
    store: Store,
    kind: str,
    arguments: Mapping[str, Any],
    what: str,
    do: Callable[[Store, JobProcess], dict[str, Any]],
    *,
    background: bool,
    before: Callable[[Job], None] = lambda job: None,
) -> Job:
    """Run a job, resuming an unfinished one with the same arguments; in the background, only start
    it. Raises InputError if the job failed.

    `before` may write to the job's folder before the job starts.
    """
    jobs = Jobs(store.path)
    job = begin(jobs, kind, arguments, what)
    before(job)
    if background:
        spawn(store.path, job)
        return job
    try:
        with watched(jobs, job):
            state = run_job(job, lambda work: do(store, work))
    except KeyboardInterrupt:
        click.echo(
            "\nStopped. The results so far are saved; the same command resumes the job.", err=True
        )
        raise
    job = jobs.get(job.id)
    if state == "failed":
        way_on = (
            ""
            if "--retry" in job.error
            else " The results so far are saved; the same command resumes the job."
        )
        raise InputError(f"{job.error}{way_on}")
    return job


def begin(jobs: Jobs, kind: str, arguments: Mapping[str, Any], what: str) -> Job:
    """Create a job, or renew the newest one with the same arguments if it is unfinished."""
    for job in jobs.list_jobs():
        if (job.kind, job.arguments) != (kind, dict(arguments)):
            continue
        job = wait_until_settled(jobs, job)
        if job.is_active:
            raise InputError(
                f"The job {job.id} is running already. See its progress on the Jobs page."
            )
        if job.state in RESUMABLE:
            return jobs.requeue(job)
        break
    return jobs.create(kind, arguments, what)


def wait_until_settled(jobs: Jobs, job: Job) -> Job:
    """Return a job once it is certain whether a process runs it.

    A process that was killed before it took the job's lock leaves the job queued for PATIENCE_S,
    and a reader that looks at the lock holds it for a moment, longer on a busy machine.
    """
    started = time.monotonic()
    if job.state == "queued":
        click.echo(f"The job {job.id} is queued. Waiting to see whether it starts.", err=True)
    while job.is_active:
        limit_s = PATIENCE_S + 1 if job.state == "queued" else LOCK_READER_S
        if time.monotonic() - started > limit_s:
            break
        time.sleep(0.05)
        job = jobs.get(job.id)
    return job


@contextmanager
def watched(jobs: Jobs, job: Job) -> Iterator[None]:
    """Show progress on stderr: a bar on a terminal, otherwise a line every 10 seconds."""
    over = threading.Event()
    thread = threading.Thread(target=watch, args=(jobs, job, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def watch(jobs: Jobs, job: Job, over: threading.Event) -> None:
    """Show the progress of a job until it ends."""
    out = console(stderr=True)
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[cost]}"),
    )
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
        task, said = bar.add_task("", cost=""), 0.0
        while not over.wait(POLL_S):
            try:
                now = jobs.get(job.id)
            except InputError:  # the job is writing its files at this moment
                continue
            said += POLL_S
            facts = so_far(now)
            told = [telling.answered(now, facts), telling.live(facts), costs(facts), time_left(now)]
            more = " · ".join(filter(None, told))
            bar.update(
                task,
                description=now.note,
                completed=now.done,
                total=now.total or None,
                cost=more,
            )
            if not out.is_terminal and said >= LINE_EVERY_S:
                said = 0.0
                line = f"{now.note}: {now.done:,} of {plural(now.total, 'feature')}"
                click.echo(" · ".join(filter(None, [line, more])), err=True)


def costs(facts: Mapping[str, Any]) -> str:
    """Return the calls and cost so far, such as `1 200 calls, $0.034`, or an empty text."""
    return telling.asked(facts)


def time_left(job: Job) -> str:
    """Return the time left, such as `about 2.5 h left`, or an empty text while unknown."""
    return f"about {duration(job.eta_s)} left" if job.eta_s else ""


def dollars(cost: float | None) -> str:
    """Format an amount of dollars, or "cost not known"."""
    return "cost not known" if cost is None else f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"


def agreed(found: CostEstimate, *, yes: bool) -> bool:
    """Print the estimate; on a terminal, ask before a job that costs money or takes long."""
    if not found.calls:
        return True
    click.echo(describe_estimate(found), err=True)
    cheap = found.cost == 0 and (found.seconds or 0.0) < LONG_S
    if yes or cheap or not sys.stdin.isatty():
        return True
    return click.confirm("Continue?", err=True)


JobToLaunch = tuple[
    Store, str, Mapping[str, Any], str, Callable[[Store, JobProcess], dict[str, Any]]
]
"""Arguments of `launch`: store, kind of job, its arguments, a description, and its function."""


def estimate_first(
    what: JobToLaunch, estimate: Callable[[], CostEstimate], asking: Asking, *, yes: bool
) -> CostEstimate | None:
    """Print the estimate of a job before it starts and, on a terminal, ask whether to continue.

    Returns None for a job without a language model. Raises click.Abort if the user declines.
    """
    if not asking.base_url:
        return None
    found = estimate()
    if measure_first(what, found):
        found = estimate()
    if not agreed(found, yes=yes):
        raise click.Abort
    return found


def measure_first(what: JobToLaunch, found: CostEstimate) -> bool:
    """Ask a few of the job's questions to measure the time, if they are free and no time is known.

    Returns whether it asked. The replies are saved in the job, which then resumes.
    """
    if found.calls <= TRIAL_QUESTIONS or found.seconds is not None or found.cost != 0:
        return False
    click.echo(
        f"Asking {TRIAL_QUESTIONS} of the job's questions first, to measure the time. Their "
        "replies are saved.",
        err=True,
    )
    job = launch(*what, background=False, before=wish_trial)
    for sentence in telling.reasons(job):
        click.echo(sentence, err=True)
    return True


def say(job: Job, store: Path, *, as_json: bool) -> None:
    """Print the results of a job, or its JSON."""
    if as_json:
        facts = {"job": job.id, "state": job.state, **job.result}
        print_json(facts)
        return
    for row in job.result.get("results", []):
        click.echo(line(row))
        for name, null in row["nulls"].items():
            click.echo(f"  {name:<9} {number(null)}  difference {number(null['difference'])}")
        if hard := row.get("parts", {}).get("hard"):
            click.echo(f"  hard negatives {number(hard)}")
        if yes := says_yes(row.get("yes")):
            click.echo(f"  the judge {yes} (equal numbers of active and silent windows)")
        if verdict := row.get("verdict"):
            click.echo(f"  {verdict['sentence']}")
        for null in row.get("null_dictionaries", {}).values():
            click.echo(f"  {describe_null(null, row, store)}")
    if scale := job.result.get("simulation"):
        click.echo(f"Simulation reads {scale['scale']}: {scale['reason']}.")
    if left_out := skipped(job.result.get("skipped", {})):
        click.echo(f"{left_out.capitalize()}.")
    for sentence in telling.reasons(job):
        click.echo(sentence)
    if stopped := job.result.get("stopped"):
        click.echo(f"{stopped} The results so far are saved.", err=True)
    click.echo(f"Job {job.id} is {job.state}. Open it: saefari app --store {store}")


def describe_null(null: Mapping[str, Any], row: Mapping[str, Any], store: Path) -> str:
    """Return a null dictionary's mean and the difference to it, or the command that computes
    them."""
    name, what = null["dictionary"], null.get("missing")
    if what is None:
        return f"{name} {number(null)}  difference {number(null['difference'])}"
    if what == "explain" and row["explainer"] == PERSON:
        return f"{name} has no labels by a person to compare with"
    lacks = "explanations" if what == "explain" else "scores"
    return (
        f"{name} has no {lacks} of this kind: saefari {what} --store {store} "
        f"--dictionary {name} --explainer {row['explainer']}, then score this one again"
    )


def line(row: Mapping[str, Any]) -> str:
    """Return the line of one explainer's or scorer's results."""
    who = " · ".join(filter(None, [row["explainer"], row["scorer"]]))
    mean = number(row) if row["scorer"] else f"{plural(row['n'], 'feature')} explained"
    asked = f", {plural(row['calls'], 'call')}, {dollars(row['cost'])}" if row["calls"] else ""
    unit = "item" if row["scorer"] else "feature"
    failed = f", {plural(row['failed'], unit)} failed" if row["failed"] else ""
    return f"{who}: {mean}{failed}{asked}"


def number(part: Mapping[str, Any]) -> str:
    """Format a mean with its interval, or why there is none."""
    if part["mean"] is None:
        return f"no mean ({part.get('note', 'no features')})"
    interval = f"[{part['low']:.3f}, {part['high']:.3f}]"
    return f"{part['mean']:.3f} {interval} of {plural(part['n'], 'feature')}"
