"""The pipeline of jobs: bounded, in batches, pausing and stopping between calls."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from autointerp.llm.requests_and_replies import ChatMessage, ChatRequest, Reply, RequestFailure
from autointerp.pipeline import worker_pool
from autointerp.pipeline.feature_selection import parse_feature_numbers
from autointerp.pipeline.pausable_asker import PausableAsker, set_call_purpose
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.worker_pool import WorkerPool
from feature_store.errors import InputError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "FLUSH_S", 0.02)
    monkeypatch.setattr(worker_pool, "LOOK_S", 0.01)
    monkeypatch.setattr(worker_pool, "SLOW_TICK_S", 0.02)
    monkeypatch.setattr(worker_pool, "GRACE_S", 1.0)


def nothing(done: int) -> None:
    """A tick that is of no consequence."""


class Instant:
    """Answers everything; counts calls and how many were under way at once."""

    model, logprobs, server = "m", False, None

    def __init__(self, takes_s: float = 0.0, fails_at: int | None = None) -> None:
        self.takes_s, self.fails_at = takes_s, fails_at
        self.calls = self.open = self.most = 0
        self.purposes: set[str] = set()

    async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
        self.calls += 1
        self.open += 1
        self.most = max(self.most, self.open)
        self.purposes.add(request.purpose)
        await asyncio.sleep(self.takes_s)
        self.open -= 1
        if self.fails_at is not None and self.calls > self.fails_at:
            return RequestFailure("budget", "No money is left.")
        return Reply("yes")


def request(i: int = 0) -> ChatRequest:
    return ChatRequest((ChatMessage("user", f"{i}?"),))


def test_no_more_are_drawn_than_are_worked_on() -> None:
    drawn, done = [], []

    def source():
        for i in range(60):
            drawn.append(i)
            yield i

    async def work(i: int) -> int:
        assert len(drawn) - len(done) <= 4
        await asyncio.sleep(0.001)
        done.append(i)
        return i

    kept: list[int] = []
    asyncio.run(WorkerPool(source(), work, kept.extend, nothing, width=4).run())
    assert sorted(kept) == list(range(60))


def test_the_event_loop_does_not_wait_for_the_store() -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - began)

    def sink(batch: Sequence[int]) -> None:
        time.sleep(0.5)

    async def work(i: int) -> int:
        await asyncio.sleep(0.001)
        return i

    async def whole() -> None:
        watching = asyncio.create_task(watch())
        await WorkerPool(iter(range(50)), work, sink, nothing, width=4).run()
        watching.cancel()

    asyncio.run(whole())
    assert longest < 0.4


def test_what_was_done_is_written_whatever_ends_it() -> None:
    kept: list[int] = []

    async def work(i: int) -> int:
        if i == 30:
            raise InputError("The thirtieth cannot be.")
        return i

    with pytest.raises(InputError, match="thirtieth"):
        asyncio.run(WorkerPool(iter(range(99)), work, kept.extend, nothing).run())
    assert kept == list(range(30))


def test_a_batch_that_could_not_be_written_is_tried_once_more() -> None:
    kept: list[int] = []

    def sink(batch: Sequence[int]) -> None:
        if not kept:
            kept.append(-1)
            raise InputError("The catalog is locked.")
        kept.extend(batch)

    async def work(i: int) -> int:
        await asyncio.sleep(0.005)
        return i

    with pytest.raises(InputError, match="locked"):
        asyncio.run(WorkerPool(iter(range(50)), work, sink, nothing).run())
    assert kept[0] == -1 and kept[1:] == list(range(len(kept) - 1)) and len(kept) > 1


def test_a_pause_stops_calls_and_its_end_lets_them_go_on() -> None:
    asker, paused = Instant(takes_s=0.002), [False]
    during: list[int] = []

    async def whole() -> None:
        gate = PausableAsker(asker, max_in_flight=3)

        def tick(done: int) -> None:
            if asker.calls > 20 and not paused[0]:
                paused[0] = True
                time.sleep(0.15)  # long enough for calls under way to end
                before = asker.calls
                time.sleep(0.15)
                during.append(asker.calls - before)

        async def work(i: int) -> int:
            await asyncio.gather(*(gate.ask(request(j)) for j in range(10)))
            return i

        await WorkerPool(iter(range(30)), work, lambda batch: None, tick, 2, gate).run()

    asyncio.run(whole())
    assert during == [0] and asker.calls == 300 and asker.most <= 3


def test_a_pause_stops_work_that_asks_nobody() -> None:
    done: list[int] = []
    during: list[int] = []

    def tick(_: int) -> None:
        if len(done) > 10 and not during:
            time.sleep(0.15)
            before = len(done)
            time.sleep(0.15)
            during.append(len(done) - before)

    async def work(i: int) -> int:
        await asyncio.sleep(0.005)
        done.append(i)
        return i

    asyncio.run(WorkerPool(iter(range(60)), work, lambda batch: None, tick, width=2).run())
    assert during == [0] and len(done) == 60


def test_what_every_call_would_meet_stops_all_and_fails_nothing() -> None:
    asker, kept = Instant(fails_at=25), []

    async def whole() -> PausableAsker:
        gate = PausableAsker(asker, max_in_flight=4)

        async def work(i: int) -> int | None:
            replies = await asyncio.gather(*(gate.ask(request(j)) for j in range(5)))
            return None if any(isinstance(reply, RequestFailure) for reply in replies) else i

        await WorkerPool(iter(range(99)), work, kept.extend, nothing, 2, gate).run()
        return gate

    gate = asyncio.run(whole())
    assert gate.stopped and gate.stopped.kind == "budget"
    assert len(kept) <= 5 and asker.calls <= 25 + 4


@pytest.mark.parametrize(("over_s", "asked"), [(0.0, 50), (60.0, 200)])
def test_a_server_that_answers_nothing_for_long_is_asked_no_more(
    over_s: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of every feature failing; but a short fault passes, however many it meets."""
    monkeypatch.setattr("autointerp.pipeline.pausable_asker.MIN_FAILING_S", over_s)
    answers = [RequestFailure("server error", "It is down.")] * 200

    class Down(Instant):
        async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
            self.calls += 1
            return answers[self.calls - 1]

    async def whole(asker: Down) -> RequestFailure | None:
        gate = PausableAsker(asker, max_in_flight=4)
        for i in range(200):
            await gate.ask(request(i))
        return gate.stopped

    down = Down()
    stopped = asyncio.run(whole(down))
    assert down.calls == asked and (stopped is not None) == (asked == 50)
    answers[40:45] = [Reply("yes"), RequestFailure("unreadable", "No."), *answers[:3]]
    down = Down()
    assert asyncio.run(whole(down)) == stopped and down.calls == min(asked + 42, 200)


def test_calls_are_recorded_under_what_they_are_for() -> None:
    asker = Instant()

    async def whole() -> None:
        gate = PausableAsker(asker, max_in_flight=4)
        with set_call_purpose("detection of a: own"):
            one = asyncio.ensure_future(gate.ask(request()))
        with set_call_purpose("detection of a: token"):
            await asyncio.gather(one, *(gate.ask(request(i)) for i in range(3)))
        await gate.ask(request())

    asyncio.run(whole())
    assert asker.purposes == {"detection of a: own", "detection of a: token", ""}


def test_numbers_of_features() -> None:
    assert parse_feature_numbers("7, 3,5-6,3") == [7, 3, 5, 6]
    for wrong in ("", "x", "1,,2", "3-", "top", "1-9999999"):
        with pytest.raises(InputError, match="features"):
            parse_feature_numbers(wrong)


def test_a_line_that_was_never_finished_is_no_line(tmp_path: Path) -> None:
    ledger = ProgressLog(tmp_path)
    ledger.add([{"feature": 1}, {"feature": 2, "failed": 1}])
    with ledger.path.open("a") as file:
        file.write('{"feature": 3, "sco')
    ledger = ProgressLog(tmp_path)
    ledger.add([{"feature": 4, "failed": 2}, {"feature": 2}])
    assert [entry["feature"] for entry in ledger.entries()] == [1, 2, 4, 2]
    assert ledger.failed() == [4]
