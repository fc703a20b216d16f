"""What `saefari explain` and `saefari score` have in common: an estimate, a job, its result."""

import sys
import threading
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
from feature_store.jobs import RESUMABLE, Job, Jobs
from feature_store.store import Store

POLL_S = 0.5
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
    """Begin the job, or the same one again where it was left off, and see it to its end; in the
    background, only begin it. InputError when it failed.

    `before` puts more into the job's folder before it begins.
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
        click.echo("\nStopped. What it has so far is kept: the same command goes on.", err=True)
        raise
    job = jobs.get(job.id)
    if state == "failed":
        way_on = (
            "" if "--retry" in job.error else " What was done is kept: the same command goes on."
        )
        raise InputError(f"{job.error}{way_on}")
    return job


def begin(jobs: Jobs, kind: str, arguments: Mapping[str, Any], what: str) -> Job:
    """A new job, or the newest of the same arguments if it did not come to its end."""
    for job in jobs.list_jobs():
        if (job.kind, job.arguments) != (kind, dict(arguments)):
            continue
        if job.is_active:
            raise InputError(f"The job {job.id} is at it already. Watch it on the Jobs page.")
        if job.state in RESUMABLE:
            return jobs.requeue(job)
        break
    return jobs.create(kind, arguments, what)


@contextmanager
def watched(jobs: Jobs, job: Job) -> Iterator[None]:
    """A bar for a terminal, a line now and then elsewhere, on stderr."""
    over = threading.Event()
    thread = threading.Thread(target=watch, args=(jobs, job, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def watch(jobs: Jobs, job: Job, over: threading.Event) -> None:
    """Until it is over."""
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
            except InputError:  # its files cannot be read at the moment
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
    """`1 200 calls, $0.034`, or nothing before the first call."""
    return telling.asked(facts)


def time_left(job: Job) -> str:
    """`about 2.5 h left`, or nothing while that is not known."""
    return f"about {duration(job.eta_s)} left" if job.eta_s else ""


def dollars(cost: float | None) -> str:
    """An amount, or that it is not known."""
    return "cost not known" if cost is None else f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"


def agreed(found: CostEstimate, *, yes: bool) -> bool:
    """Say what it will take. On a terminal, ask before anything that costs, or takes long."""
    if not found.calls:
        return True
    click.echo(describe_estimate(found), err=True)
    cheap = found.cost == 0 and (found.seconds or 0.0) < LONG_S
    if yes or cheap or not sys.stdin.isatty():
        return True
    return click.confirm("Go on?", err=True)


JobToLaunch = tuple[
    Store, str, Mapping[str, Any], str, Callable[[Store, JobProcess], dict[str, Any]]
]
"""Store, kind, arguments, what it works on in words, and what does it: as `launch` takes them."""


def estimate_first(
    what: JobToLaunch, estimate: Callable[[], CostEstimate], asking: Asking, *, yes: bool
) -> CostEstimate | None:
    """Say what a job will take before it begins, and on a terminal ask whether to go on.

    None where nobody is asked. Raises click.Abort where the user does not want it.
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
    """Ask a few of the job's questions where they are free and no time is known; True if so.

    Their replies are kept in the job, which is stopped then and goes on where it is begun again.
    """
    if found.calls <= TRIAL_QUESTIONS or found.seconds is not None or found.cost != 0:
        return False
    click.echo(
        f"Asking {TRIAL_QUESTIONS} of the job's questions first, to measure the time. Their "
        "replies are kept.",
        err=True,
    )
    job = launch(*what, background=False, before=wish_trial)
    for sentence in telling.reasons(job):
        click.echo(sentence, err=True)
    return True


def say(job: Job, store: Path, *, as_json: bool) -> None:
    """What came of it."""
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
            click.echo(f"  the judge {yes} (as many firing as silent ones)")
        if verdict := row.get("verdict"):
            click.echo(f"  {verdict['sentence']}")
        for null in row.get("null_dictionaries", {}).values():
            click.echo(f"  {beside(null, row, store)}")
    if scale := job.result.get("simulation"):
        click.echo(f"Simulation reads {scale['scale']}: {scale['reason']}.")
    if left_out := skipped(job.result.get("skipped", {})):
        click.echo(f"{left_out.capitalize()}.")
    for sentence in telling.reasons(job):
        click.echo(sentence)
    if stopped := job.result.get("stopped"):
        click.echo(f"{stopped} What was done is kept.", err=True)
    click.echo(f"Job {job.id} is {job.state}. Open it: saefari app --store {store}")


def beside(null: Mapping[str, Any], row: Mapping[str, Any], store: Path) -> str:
    """A null dictionary's mean and the difference to it, or the command that brings them."""
    name, what = null["dictionary"], null.get("missing")
    if what is None:
        return f"{name} {number(null)}  difference {number(null['difference'])}"
    if what == "explain" and row["explainer"] == PERSON:
        return f"{name} has no labels by a person, so there is nothing to set beside these"
    lacks = "explanations" if what == "explain" else "scores"
    return (
        f"{name} has no {lacks} of this kind: saefari {what} --store {store} "
        f"--dictionary {name} --explainer {row['explainer']}, then score this one again"
    )


def line(row: Mapping[str, Any]) -> str:
    """One result."""
    who = " · ".join(filter(None, [row["explainer"], row["scorer"]]))
    mean = number(row) if row["scorer"] else f"{plural(row['n'], 'feature')} explained"
    asked = f", {plural(row['calls'], 'call')}, {dollars(row['cost'])}" if row["calls"] else ""
    unit = "item" if row["scorer"] else "feature"
    failed = f", {plural(row['failed'], unit)} failed" if row["failed"] else ""
    return f"{who}: {mean}{failed}{asked}"


def number(part: Mapping[str, Any]) -> str:
    """A mean with its interval, or why there is none."""
    if part["mean"] is None:
        return f"no mean ({part.get('note', 'no features')})"
    interval = f"[{part['low']:.3f}, {part['high']:.3f}]"
    return f"{part['mean']:.3f} {interval} of {plural(part['n'], 'feature')}"
