"""A command takes over its job when the process that had it is gone, and only then."""

import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from app.commands import judging
from feature_store import jobs as job_files
from feature_store.errors import InputError
from feature_store.job_process import hold_job
from feature_store.jobs import Jobs, write_json_file

WHAT = ("explain", {"n": 1}, "explanations")


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Jobs of an empty store, with short waits."""
    monkeypatch.setattr(judging, "PATIENCE_S", 0.5)
    monkeypatch.setattr(job_files, "PATIENCE_S", 0.5)
    return Jobs(tmp_path / "jobs")


def test_a_job_killed_before_it_took_its_lock_is_resumed(jobs: Jobs) -> None:
    """Its state says queued for a while, though no process will start it."""
    job = jobs.create(*WHAT)
    assert jobs.get(job.id).state == "queued"
    assert judging.begin(jobs, *WHAT).id == job.id


def test_a_reader_of_the_lock_is_not_taken_for_the_jobs_process(jobs: Jobs) -> None:
    job = jobs.create(*WHAT)
    write_json_file(job.folder / "state.json", {"state": "running"})
    lock = FileLock(job.folder / "lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.3, lock.release).start()
    assert jobs.get(job.id).state == "running"
    assert judging.begin(jobs, *WHAT).id == job.id


def test_a_job_that_runs_is_refused(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "LOCK_READER_S", 0.2)
    job = jobs.create(*WHAT)
    held, over = threading.Event(), threading.Event()

    def run() -> None:
        with hold_job(job):
            held.set()
            over.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(10)
    began = time.monotonic()
    with pytest.raises(InputError, match="running already"):
        judging.begin(jobs, *WHAT)
    assert time.monotonic() - began < 10
    over.set()
    thread.join(10)
