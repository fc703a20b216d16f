"""`saefari job run`: be the process of a job. The pages start it; nobody needs to type it."""

import importlib
import os
from pathlib import Path

from app.jobs import KINDS
from feature_store.errors import InputError, pick_by_name
from feature_store.job_process import run_job
from feature_store.jobs import Jobs
from feature_store.store import Store

NICE = 5
"""How far a job stands back behind the pages, which a person waits for."""


def run(store: Path, job_id: str) -> None:
    """Do the job to its end. InputError when it cannot begin, or failed by its user's mistake."""
    opened = Store(store)
    job = Jobs(store).get(job_id)
    kind = pick_by_name("kind of job", job.kind, KINDS)
    if hasattr(os, "nice"):
        os.nice(NICE)
    work = importlib.import_module(kind.module)
    state = run_job(job, lambda at: work.do(opened, at))
    if state == "failed":
        raise InputError(f"The job {job_id} failed: {Jobs(store).get(job_id).error}")
