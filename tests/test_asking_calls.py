"""What was paid for is kept, whatever ends the process: no recorded reply is asked for again."""

import asyncio
import errno
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from autointerp.llm import CallLog, CallTotals, LlmServer, Reply, RequestFailure, open_asker
from autointerp.llm import call_log as calls_module
from autointerp.llm import call_rows as rows_module
from autointerp.llm.call_journal import CallJournal
from autointerp.llm.hash_set import MAX_UNSORTED, HashSet
from feature_store.errors import InputError
from tests import openai_server as server
from tests.asking import DEAR, QUICK, ask, one, question
from tests.openai_server import Said, always, serve, then

GOOD = '{"answers": [1, 0]}'
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def running() -> Iterator[server.Server]:
    with serve(always(GOOD)) as found:
        yield found


def rows(path: Path, query: str) -> list[tuple]:
    with duckdb.connect(str(path), read_only=True) as db:
        return db.execute(query).fetchall()


def test_the_whole_call_is_kept(running: server.Server, tmp_path: Path) -> None:
    one(
        running.base_url, tmp_path / "a.duckdb", question("why «this»?", purpose="test"), table=DEAR
    )
    query = """SELECT purpose, model, request ->> '$.messages[0].content', text, tokens_in,
        tokens_out, cost, charged, latency_s > 0, reserved > cost
        FROM attempt JOIN outcome USING (attempt, key)"""
    assert rows(tmp_path / "a.duckdb", query) == [
        ("test", "m", "why «this»?", GOOD, 100, 10, 0.11, 0.11, True, True)
    ]


def test_a_second_run_asks_nobody(running: server.Server, tmp_path: Path) -> None:
    wanted = [question(str(i)) for i in range(20)]
    first, second = (ask(running.base_url, tmp_path / "a.duckdb", wanted) for _ in range(2))
    assert running.calls == 20
    assert [r.cached for r in second] == [True] * 20
    assert [(r.parsed, r.cost) for r in second] == [(r.parsed, r.cost) for r in first]


def test_another_job_uses_them_too(running: server.Server, tmp_path: Path) -> None:
    wanted = [question(str(i)) for i in range(20)]
    old, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    ask(running.base_url, old, wanted[:15])
    replies = ask(running.base_url, new, wanted, others=[old, new])
    assert running.calls == 20 and sum(r.cached for r in replies) == 15


def test_a_job_at_work_is_left_alone(running: server.Server, tmp_path: Path) -> None:
    """Its file is held; the question is asked again, and the log says so."""
    notes: list[str] = []
    code = "import duckdb, sys; d = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    one(running.base_url, tmp_path / "old.duckdb")
    command = [sys.executable, "-c", code, str(tmp_path / "old.duckdb")]
    with subprocess.Popen(command, stdout=-1, stdin=-1, text=True) as other:
        assert other.stdout and other.stdout.readline()
        one(
            running.base_url, tmp_path / "new.duckdb", others=[tmp_path / "old.duckdb"], notes=notes
        )
        other.kill()
    assert running.calls == 2
    assert notes == ["Replies of old are not reused: its job is running."]


def test_equal_questions_at_once_are_one(running: server.Server, tmp_path: Path) -> None:
    replies = ask(running.base_url, tmp_path / "a.duckdb", [question()] * 10)
    assert running.calls == 1 and sorted(r.cached for r in replies) == [False] + [True] * 9


def test_what_decides_the_reply_decides_the_key() -> None:
    """Not what it is asked for; everything else, the server's URL too."""
    plain = question().to("http://a/v1", "m")
    others = [question().to("http://b/v1", "m"), question().to("http://a/v1", "n")]
    settings = {"temperature": 0.5, "max_tokens": 1, "schema": None, "logprobs": 3, "draw": 1}
    others += [question(**{k: v}).to("http://a/v1", "m") for k, v in settings.items()]
    assert len({plain.key, *(r.key for r in others)}) == len(others) + 1
    assert question(purpose="x").to("http://a/v1", "m").key == plain.key


def test_an_unusable_reply_is_kept_until_somebody_wants_it_tried(tmp_path: Path) -> None:
    with serve(
        then([Said('{"answers": [1]}'), server.BROKEN, server.BROKEN, server.BROKEN], always(GOOD))
    ) as it:
        path, wanted = tmp_path / "a.duckdb", question()
        kinds = [one(it.base_url, path, wanted) for _ in range(2)]
        assert [(f.kind, f.cached) for f in kinds] == [("unreadable", False), ("unreadable", True)]
        failed = one(it.base_url, path, wanted, retry_recorded=True)
        assert failed.kind == "server error"
        assert one(it.base_url, path, wanted, retry_recorded=True).parsed == {"answers": [1, 0]}
        assert one(it.base_url, path, wanted).cached
    with CallLog(path) as calls:
        assert calls.totals() == CallTotals(2, 3, 200, 20, 0.0, 0, 0.0)


@pytest.mark.process
@pytest.mark.parametrize("seed", range(3))
def test_kill_at_any_moment(seed: int, tmp_path: Path) -> None:
    """Every recorded reply is used; no more than the calls under way are repeated; totals agree."""
    n, concurrency = 150, 6
    with serve(always(Said(GOOD, delay_s=0.02))) as running:

        def child() -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "tests.asking_child", running.base_url]
            command += [str(tmp_path / "a.duckdb"), str(n), str(concurrency)]
            return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

        with child() as first:
            assert first.stdout and first.stdout.readline() == "begun\n"
            while running.calls < 10:
                time.sleep(0.01)
            time.sleep(random.Random(seed).uniform(0, 0.8))
            first.send_signal(signal.SIGKILL)
        with child() as second:
            said, _ = second.communicate(timeout=120)
    with CallLog(tmp_path / "a.duckdb") as calls:
        totals = calls.totals()
    lost = totals.failed  # recorded as begun; the server may not have got all of them
    assert 0 <= running.calls - n <= lost <= concurrency
    assert totals == CallTotals(n, lost, n * 100, n * 10, 0.0, 0, 0.0)
    assert not lost or f"{lost} calls were in flight" in said


def test_money_reserved_for_a_lost_call_is_spent(tmp_path: Path) -> None:
    notes: list[str] = []
    with CallLog(tmp_path / "a.duckdb") as calls:
        calls.record(
            rows_module.make_attempt_row(
                calls.next_number(), 1, question().to("http://a", "m"), 0.5
            )
        )
    with CallLog(tmp_path / "a.duckdb", note=notes.append) as calls:
        assert calls.lost == (1, 0.5) and calls.budget(2.0).spent == 0.5
    assert len(notes) == 1 and "$0.5000 counts as spent" in notes[0]
    with CallLog(tmp_path / "a.duckdb") as calls:
        assert calls.lost == (0, 0.0) and calls.budget(2.0).spent == 0.5


@pytest.mark.process
def test_a_killed_jobs_replies_are_at_hand(running: server.Server, tmp_path: Path) -> None:
    """Those in its database, though it was never closed."""
    old, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    command = [sys.executable, "-m", "tests.asking_child", running.base_url, str(old), "5", "1"]
    with subprocess.Popen([*command, "stay"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and [child.stdout.readline() for _ in range(2)][1] == "cached 0\n"
        child.kill()
    wanted = [question(str(i)) for i in range(5)]
    assert all(reply.cached for reply in ask(running.base_url, new, wanted, others=[old]))


def test_rows_left_in_the_journal_are_taken_up(tmp_path: Path, running: server.Server) -> None:
    """A process that ended between the journal and the database; and a line it never finished."""
    path, kept = tmp_path / "a.duckdb", tmp_path / "a.journal"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CallLog, "_flush", lambda self: None)
        one(running.base_url, path)
    (left,) = kept.iterdir()
    left.write_bytes(left.read_bytes() + b'["Outcome", 2, 17')
    assert one(running.base_url, path).cached and running.calls == 1
    assert list(kept.iterdir()) == []


def test_a_full_disk_ends_the_asking(
    tmp_path: Path, running: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked that could not be recorded; what was recorded stays."""
    path = tmp_path / "a.duckdb"
    one(running.base_url, path)

    def full(self: CallJournal, row: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(CallJournal, "write", full)
        with pytest.raises(InputError, match="No space left on device.*is kept"):
            one(running.base_url, path, question("more"))
    assert running.calls == 1 and one(running.base_url, path).cached


def test_a_database_that_fails_loses_nothing(
    tmp_path: Path, running: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise duckdb.IOException("No space left on device")

    async def until_it_fails() -> int:
        monkeypatch.setattr(calls_module, "FLUSH_S", 0.05)
        with CallLog(tmp_path / "a.duckdb") as calls:
            monkeypatch.setattr(calls_module, "insert_rows", full)
            async with open_asker(
                LlmServer("s", running.base_url), "m", calls, retry_policy=QUICK
            ) as asker:
                for i in range(1000):
                    await asker.ask(question(str(i)))
        return 0

    with pytest.raises(InputError, match="no more are made"):
        asyncio.run(until_it_fails())
    monkeypatch.undo()
    replied = running.calls
    replies = ask(
        running.base_url, tmp_path / "a.duckdb", [question(str(i)) for i in range(replied)]
    )
    assert replied > 0 and running.calls == replied and all(r.cached for r in replies)


def test_a_job_waits_for_those_who_look_into_its_file(tmp_path: Path) -> None:
    """An estimate or another job reads it for a moment, in which nobody can write."""
    path = tmp_path / "a.duckdb"
    CallLog(path).close()
    code = (
        "import duckdb, sys, time; d = duckdb.connect(sys.argv[1], read_only=True); "
        "print(1, flush=True); time.sleep(0.7); d.close(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=-1, text=True) as other:
        assert other.stdout and other.stdout.readline()
        CallLog(path).close()
        other.kill()


def test_two_processes_at_one_file(
    tmp_path: Path, running: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autointerp.llm.call_rows.LOCK_WAIT_S", 0.1)
    code = "import duckdb, sys; d = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / "a.duckdb")]
    with subprocess.Popen(command, stdout=-1, stdin=-1, text=True) as other:
        assert other.stdout and other.stdout.readline()
        with pytest.raises(InputError, match=f"process {other.pid} is using it"):
            CallLog(tmp_path / "a.duckdb")
        other.kill()


def test_known_hashes() -> None:
    import numpy as np

    known = HashSet(np.array([5, 2**64 - 1], np.uint64))
    for value in range(10, 10 + 2 * MAX_UNSORTED, 2):
        known.add(value)
    assert all(value in known for value in (5, 2**64 - 1, 10, 8 + 2 * MAX_UNSORTED))
    assert not any(value in known for value in (0, 6, 11, 10 + 2 * MAX_UNSORTED))


def test_a_cancelled_question_leaves_its_twin_an_answer(tmp_path: Path) -> None:
    async def run(base_url: str) -> Reply | RequestFailure:
        with CallLog(tmp_path / "a.duckdb") as calls:
            async with open_asker(LlmServer("s", base_url), "m", calls) as asker:
                first, second = (asyncio.create_task(asker.ask(question())) for _ in range(2))
                await asyncio.sleep(0.1)
                first.cancel()
                return await second

    with serve(then([Said(GOOD, delay_s=5)], always(GOOD))) as running:
        assert isinstance(asyncio.run(run(running.base_url)), Reply)
