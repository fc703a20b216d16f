"""The job `series`: other jobs, one after the other."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from app.jobs import starting
from feature_store.errors import InputError
from feature_store.job_process import JobCancelled, JobProcess
from feature_store.jobs import ENDED, Job, Jobs
from feature_store.store import Store

LOOK_EVERY_S = 0.5
Step = Mapping[str, Any]
"""`kind`, `arguments` and `what` of a job."""


def arguments(steps: Sequence[Step]) -> dict[str, Any]:
    """What this kind of job is asked."""
    return {"steps": [dict(step) for step in steps]}


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Each job in turn; the first that does not come to its end ends the series.

    Begun again it goes on with that one: those that are done are not done twice.
    """
    steps = work.arguments["steps"]
    for i, step in enumerate(steps):
        work.progress(i, len(steps), step["what"])
        job = attended(store, work, step)
        if job.state != "done":
            raise InputError(f"The job {job.id} ({step['what']}) is {job.state}. {job.error}")
    return {"jobs": len(steps)}


def attended(store: Store, work: JobProcess, step: Step) -> Job:
    """The job of a step as it ended; cancelled when the series is."""
    jobs = Jobs(store.path)
    job = at_work(store, jobs, step)
    try:
        while job.state not in (*ENDED, "lost"):
            time.sleep(LOOK_EVERY_S)
            work.check_requests()
            job = jobs.get(job.id)
    except JobCancelled:
        jobs.cancel(job)
        raise
    return job


def at_work(store: Store, jobs: Jobs, step: Step) -> Job:
    """The step's job: a former one that goes on or is done, or a new one."""
    former = jobs.find_latest(step["kind"], step["arguments"])
    if former is None:
        return starting.start(store.path, step["kind"], step["arguments"], step["what"])
    if former.is_active or former.state == "done":
        return former
    return starting.resume(store.path, former)
