"""Starting jobs: each in a process of its own, which outlives the page and the app."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.jobs import KINDS
from feature_store.errors import InputError, pick_by_name
from feature_store.jobs import Job, Jobs
from feature_store.permissions import require_costly_work_allowed


def start(
    store: Path,
    kind: str,
    arguments: Mapping[str, Any],
    what: str,
    before: Callable[[Job], None] = lambda job: None,
) -> Job:
    """Begin a job; the same work is not begun twice, and what was stopped goes on. `what` says in
    words what it works on. `before` puts more into the job's folder before its process begins.

    InputError where the store cannot be written, and where costly work is not allowed.
    """
    require_costly_work_allowed()
    pick_by_name("kind of job", kind, KINDS)
    jobs = Jobs(store)
    job = next(
        (job for job in jobs.list_jobs() if (job.kind, job.arguments) == (kind, dict(arguments))),
        None,
    )
    if job is not None and job.is_active:
        return job
    if job is not None and job.state == "stopped":
        job = jobs.requeue(job)
    else:
        job = jobs.create(kind, arguments, what)
    before(job)
    spawn(store, job)
    return job


def resume(store: Path, job: Job) -> Job:
    """Begin again what failed, was cancelled or lost its process; it goes on where it can.

    InputError where costly work is not allowed.
    """
    require_costly_work_allowed()
    renewed = Jobs(store).requeue(job)
    spawn(store, renewed)
    return renewed


def spawn(store: Path, job: Job) -> None:
    """A process for a queued job: in a session of its own, so that Ctrl-C here is not for it."""
    command = [sys.executable, "-P", "-m", "app.cli", "job", "run", str(store.resolve()), job.id]
    apart: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": 0x00000008 | 0x00000200}  # DETACHED_PROCESS | NEW_PROCESS_GROUP
    try:
        with (job.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **apart
            )
    except OSError as error:
        raise InputError(f"No process can be started: {error.strerror}.") from error
    # An ended child stays in the system's table until its parent has asked after it.
    threading.Thread(target=process.wait, daemon=True, name=f"await {job.id}").start()
