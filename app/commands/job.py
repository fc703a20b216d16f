"""`saefari job run`: run a job of the store in this process. The pages start this command."""

import importlib
import os
from pathlib import Path

from app.jobs import KINDS
from feature_store.errors import InputError, pick_by_name
from feature_store.job_process import run_job
from feature_store.jobs import Jobs
from feature_store.store import Store

NICE = 5
"""Niceness of a job, so that the pages, which a person waits for, get the CPU first."""


def run(store: Path, job_id: str) -> None:
    """Run a job to its end. Raises InputError if it cannot start or failed by a user's mistake."""
    opened = Store(store)
    job = Jobs(store).get(job_id)
    kind = pick_by_name("kind of job", job.kind, KINDS)
    if hasattr(os, "nice"):
        os.nice(NICE)
    work = importlib.import_module(kind.module)
    state = run_job(job, lambda at: work.do(opened, at))
    if state == "failed":
        raise InputError(f"The job {job_id} failed: {Jobs(store).get(job_id).error}")
