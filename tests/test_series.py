"""Jobs one after the other: each once, and none after one that failed."""

from pathlib import Path
from typing import Any

import pytest

from app.jobs import series, starting
from feature_store.errors import InputError
from feature_store.job_process import run_job
from feature_store.jobs import Job, Jobs
from feature_store.store import Store

STEPS = [{"kind": "map", "arguments": {"n": n}, "what": f"map {n}"} for n in range(3)]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the steps whose process was begun; the process of step 1 fails at first."""
    (tmp_path / "harvests").mkdir()
    numbers: list[int] = []

    def spawn(store: Path, job: Job) -> None:
        n = job.arguments["n"]
        numbers.append(n)

        def work(_: Any) -> dict[str, Any]:
            if n == 1 and numbers.count(1) == 1:
                raise InputError("No.")
            return {}

        run_job(job, work)

    monkeypatch.setattr(starting, "spawn", spawn)
    return numbers


def run(path: Path) -> Job:
    jobs = Jobs(path)
    job = jobs.find_latest("series", {}) or jobs.create("series", series.arguments(STEPS), "three")
    job = jobs.requeue(job) if job.state == "failed" else job
    run_job(job, lambda work: series.do(Store(path), work))
    return jobs.get(job.id)


def test_it_stops_at_a_failure_and_goes_on_from_there(tmp_path: Path, begun: list[int]) -> None:
    first = run(tmp_path)
    assert first.state == "failed" and "(map 1) is failed. No." in first.error
    assert begun == [0, 1]
    assert run(tmp_path).state == "done"
    assert begun == [0, 1, 1, 2]


def test_a_cancel_reaches_the_job_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harvests").mkdir()
    jobs = Jobs(tmp_path)
    whole = jobs.create("series", series.arguments(STEPS), "three")
    monkeypatch.setattr(starting, "spawn", lambda *_: jobs.cancel(whole))
    run_job(whole, lambda work: series.do(Store(tmp_path), work))
    (child,) = [job for job in jobs.list_jobs() if job.kind == "map"]
    assert jobs.get(whole.id).state == "cancelled" and child.requested_action == "cancel"
