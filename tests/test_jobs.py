"""Jobs: what readers see of one, whoever does it and however that ends."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.jobs.asking import Teller, so_far
from autointerp.pipeline.question_tally import QuestionTally
from feature_store.errors import InputError
from feature_store.job_process import JobCancelled, JobProcess, hold_job, run_job
from feature_store.jobs import ENDED, PATIENCE_S, Job, Jobs, format_timestamp, write_json_file

ENDLESS = """
import sys, time
from pathlib import Path
from feature_store import job_process
from feature_store.jobs import Jobs
job_process.GRACE_S = 0.5
job = Jobs(Path(sys.argv[1])).get(sys.argv[2])
def do(at):
    at.progress(3, 10, "counting")
    time.sleep(60)
job_process.run_job(job, do)
"""
"""A process whose work heeds nothing."""


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


@pytest.fixture
def job(jobs: Jobs) -> Job:
    return jobs.create("count", {"to": 10}, "ten")


def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def begun(job: Job) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, job.folder.parents[1], job.id])
    jobs = Jobs(job.folder.parents[1])
    until(lambda: jobs.get(job.id).note == "counting")
    return process


def test_a_new_job_is_queued_and_says_what_was_asked(jobs: Jobs, job: Job) -> None:
    assert (job.state, job.kind, job.description, job.arguments) == (
        "queued",
        "count",
        "ten",
        {"to": 10},
    )
    assert jobs.list_jobs() == jobs.list_active() == [job]
    assert jobs.find_latest("count", {"to": 10}) == job
    assert jobs.find_latest("count", {"to": 11}) is jobs.find_latest("other", {}) is None


def test_work_is_seen_by_readers_and_ends_with_its_result(jobs: Jobs, job: Job) -> None:
    def do(work: JobProcess) -> dict:
        for i in range(11):
            work.progress(i, 10, "counting")
        seen = jobs.get(job.id)
        assert (seen.state, seen.done, seen.total, seen.note) == ("running", 10, 10, "counting")
        return {"last": 10}

    assert run_job(job, do) == "done"
    found = jobs.get(job.id)
    assert (found.state, found.result, found.is_active) == ("done", {"last": 10}, False)
    assert found.started and found.ended and found.started <= found.ended
    assert [line[20:] for line in found.read_log().splitlines()] == ["counting", "done"]


def test_mistakes_and_bugs_fail_with_a_sentence_and_bugs_with_a_traceback(jobs: Jobs) -> None:
    def mistake(_: JobProcess) -> dict:
        raise InputError("Give another.")

    def bug(_: JobProcess) -> dict:
        raise KeyError("gone")

    for do, sentence, logged in [
        (mistake, "Give another.", False),
        (bug, "KeyError: 'gone'", True),
    ]:
        job = jobs.create("count", {}, "")
        assert run_job(job, do) == "failed"
        assert jobs.get(job.id).error == sentence
        assert ("Traceback" in job.read_log()) is logged


def test_a_pause_holds_the_work_and_a_cancel_ends_it(jobs: Jobs, job: Job) -> None:
    steps = []

    def do(work: JobProcess) -> dict:
        for i in range(10**9):
            work.progress(i, 10**9, "counting")
            steps.append(i)
        return {}

    thread = threading.Thread(target=run_job, args=[job, do])
    thread.start()
    until(lambda: len(steps) > 3)
    jobs.pause(jobs.get(job.id))
    until(lambda: jobs.get(job.id).state == "paused")
    held = len(steps)
    time.sleep(0.1)
    assert len(steps) == held
    jobs.unpause(job)
    until(lambda: len(steps) > held and jobs.get(job.id).state == "running")
    jobs.cancel(jobs.get(job.id))
    thread.join(20)
    assert jobs.get(job.id).state == "cancelled"


def test_a_wish_is_shown_until_it_is_met(jobs: Jobs, job: Job) -> None:
    with hold_job(job) as work:
        jobs.pause(jobs.get(job.id))
        assert jobs.get(job.id).requested_action == "pause"
        jobs.cancel(jobs.get(job.id))
        assert jobs.get(job.id).requested_action == "cancel"
        with pytest.raises(JobCancelled):
            work.check_requests()


def test_time_left_follows_the_pace(jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with hold_job(job) as work:
        work.progress(20, 100, "one")
        assert jobs.get(job.id).eta_s is None
        clock[0] += 10
        work.progress(40, 100, "one")
        assert jobs.get(job.id).eta_s == pytest.approx(30)
        work.progress(0, 100, "two")
        assert jobs.get(job.id).eta_s is None


def test_a_pause_is_no_slowness(jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def waits(_: float) -> None:
        clock[0] += 1000
        jobs.unpause(job)

    with hold_job(job) as work:
        work.progress(0, 100, "one")
        clock[0] += 10
        jobs.pause(jobs.get(job.id))
        monkeypatch.setattr(time, "sleep", waits)
        work.check_requests()
        clock[0] += 10
        work.progress(50, 100, "one")
        assert jobs.get(job.id).eta_s == pytest.approx(20)


def test_one_process_at_a_time(job: Job) -> None:
    code = "import sys; from pathlib import Path; from feature_store.jobs import Jobs\n"
    code += "from feature_store import job_process; job_process.LOCK_TIMEOUT_S = 0.1\n"
    code += "with job_process.hold_job(Jobs(Path(sys.argv[1])).get(sys.argv[2])): pass"
    with hold_job(job):
        words = [sys.executable, "-c", code, str(job.folder.parents[1]), job.id]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert f"Another process is running the job {job.id}." in done.stderr


@pytest.mark.process
def test_kill_9_leaves_a_lost_job_that_can_be_resumed(jobs: Jobs, job: Job) -> None:
    process = begun(job)
    assert jobs.get(job.id).state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    lost = jobs.get(job.id)
    assert (lost.state, lost.done, lost.total) == ("lost", 3, 10)
    assert jobs.list_active() == []
    again = jobs.requeue(lost)
    assert (again.state, again.id) == ("queued", job.id)
    assert run_job(again, lambda work: {"whole": True}) == "done"
    assert jobs.get(job.id).result == {"whole": True}


def test_what_was_cancelled_goes_on_when_resumed(jobs: Jobs, job: Job) -> None:
    def do(work: JobProcess) -> dict:
        work.progress(0, 1, "counting")
        return {}

    jobs.cancel(job)
    assert run_job(job, do) == "cancelled"
    assert run_job(jobs.requeue(job), do) == "done"


@pytest.mark.process
def test_work_that_heeds_no_cancel_is_ended(jobs: Jobs, job: Job) -> None:
    process = begun(job)
    jobs.cancel(jobs.get(job.id))
    assert process.wait(20) == 1
    assert jobs.get(job.id).state == "cancelled"


def test_a_process_that_never_came_is_lost_after_a_while(jobs: Jobs, job: Job) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=PATIENCE_S + 1)
    write_json_file(
        job.folder / "state.json", {"state": "queued", "queued": format_timestamp(long_ago)}
    )
    assert jobs.get(job.id).state == "lost"


@pytest.mark.parametrize("state", ENDED)
def test_what_ended_can_be_deleted_and_what_lives_cannot(jobs: Jobs, job: Job, state) -> None:
    with pytest.raises(InputError, match="Cancel it first"):
        jobs.delete(job)
    with pytest.raises(InputError, match="nothing to resume"):
        jobs.requeue(job)
    job.data_path.write_text("calls")
    job.data_path.with_suffix(".duckdb.wal").write_text("what a kill left of them")
    with hold_job(job) as work:
        work.finish(state)
    jobs.delete(job)
    assert jobs.list_jobs() == []
    assert list(jobs.path.iterdir()) == []


def test_wishes_for_what_is_over_are_refused(jobs: Jobs, job: Job) -> None:
    with hold_job(job) as work:
        work.finish("done")
    with pytest.raises(InputError, match="nothing to cancel"):
        jobs.cancel(jobs.get(job.id))


def test_folders_that_are_no_jobs_are_passed_over(jobs: Jobs, job: Job) -> None:
    (jobs.path / "empty").mkdir()
    (jobs.path / "bad").mkdir()
    (jobs.path / "bad" / "job.json").write_text("{")
    (jobs.path / "bad" / "state.json").write_text("{}")
    assert [one.id for one in jobs.list_jobs()] == [job.id]
    with pytest.raises(InputError, match=f"No job called 'dab'.*{job.id}"):
        jobs.get("dab")
    with pytest.raises(InputError, match=r"The job bad cannot be read: job\.json is not JSON: .*"):
        jobs.get("bad")
    assert [one.split(": ")[:2] for one in jobs.problems()] == [
        ["The job bad cannot be read", "job.json is not JSON"],
        ["The job empty cannot be read", jobs.problems()[1].split(": ")[1]],
    ]
    assert "it has no state.json. Delete the folder" in jobs.problems()[1]


def test_what_is_written_can_be_read_by_any_tool(job: Job) -> None:
    asked = json.loads((job.folder / "job.json").read_text())
    assert asked.keys() == {"kind", "what", "arguments", "created"}


def test_two_threads_may_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "so_far.json"
    write_json_file(path, {"done": 0})
    with ThreadPoolExecutor(2) as threads:
        for step in [threads.submit(write_json_file, path, {"done": n}) for n in range(400)]:
            step.result()
    assert json.loads(path.read_text()).keys() == {"done"}
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_told_after_the_last_word(job: Job) -> None:
    with hold_job(job) as work:
        teller = Teller(work, "", None)
        teller.write({"found": 2}, QuestionTally(), last=True)
        teller.write({"found": 1}, QuestionTally())
    assert so_far(job)["found"] == 2
