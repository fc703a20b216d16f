"""What is known live of a server: calls in flight, latency, tokens per second, and its hints."""

import asyncio
import time
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm import CallLog, LlmServer, ServerActivity, open_asker
from autointerp.llm.failure_kinds import FAILURE_KINDS
from autointerp.llm.server_activity import union_seconds
from autointerp.llm.server_faults import read_retry_after_s
from autointerp.pipeline.pausable_asker import PausableAsker
from tests import openai_server as server
from tests.asking import QUICK, ask, question
from tests.openai_server import Body, Fault, Said, always, serve, then

GOOD = '{"answers": [1, 0]}'


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12))
def test_overlapping_calls_are_counted_once(pairs: list[tuple[int, int]]) -> None:
    intervals = [(min(pair), max(pair)) for pair in pairs]
    covered = {second for low, high in intervals for second in range(low, high)}
    assert union_seconds(intervals) == len(covered)


def test_an_activity_says_what_came_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls of 4 s side by side, then one of 2 s: 60 tokens in 6 busy seconds."""
    now = 104.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    activity = ServerActivity(8)
    assert activity.snapshot().latency_s is None and activity.snapshot().tokens_per_s is None
    activity.set_limit(2, 5)
    with activity.call(), activity.call():
        assert activity.snapshot().in_flight == 2
    activity.count_reply(4.0, 20)
    activity.count_reply(4.0, 20)
    now = 200.0
    activity.count_reply(2.0, 20)
    found = activity.snapshot()
    assert (found.in_flight, found.waiting, found.limit, found.most) == (0, 5, 2, 8)
    assert (found.replies, found.latency_s, found.tokens_per_s) == (3, 4.0, 10.0)
    assert found.seconds_per_reply == 2.0
    activity.count_reply(2.0, None)  # the server did not count: the speed is not known
    assert activity.snapshot().tokens_per_s is None


def test_a_jobs_calls_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    faults = [server.BROKEN, server.RATE_LIMITED, Said("no")]
    with serve(then(faults, always(GOOD))) as running:
        ask(running.base_url, tmp_path / "a.duckdb", [question()])
    with CallLog(tmp_path / "a.duckdb") as calls:
        kinds = calls.kinds()
    counts = {kind: one.attempts for kind, one in kinds.items()}
    assert counts == {"server error": 1, "rate limited": 1, "unreadable": 1, "reply": 1}
    assert "The server had an error" in kinds["server error"].example
    assert all(kind in FAILURE_KINDS for kind in counts if kind != "reply")


def test_a_gate_that_is_shut_lets_no_queued_call_through(tmp_path: Path) -> None:
    """Questions that wait for a slot behind the gate wait on; what is in flight ends."""

    async def run(base_url: str) -> int:
        with CallLog(tmp_path / "a.duckdb") as calls:
            async with open_asker(
                LlmServer("t", base_url), "m", calls, retry_policy=QUICK
            ) as asker:
                gate = PausableAsker(asker, 8)
                tasks = [asyncio.create_task(gate.ask(question(str(i)))) for i in range(6)]
                while not running.calls:
                    await asyncio.sleep(0.01)
                gate.pause()
                await gate.wait_until_idle(5.0)
                sent = running.calls
                assert gate.in_flight == 0 and sent < 6
                gate.resume()
                await asyncio.gather(*tasks)
                return sent

    with serve(always(GOOD), takes_s=0.1, slots=1) as running:
        assert asyncio.run(run(running.base_url)) <= 2
        assert running.calls == 6


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6m0s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "later"}, 0.0),
    ],
)
def test_hints_of_when_to_come_back(headers: dict[str, str], wait_s: float) -> None:
    assert read_retry_after_s(httpx2.Headers(headers)) == pytest.approx(wait_s)


def test_a_busy_server_is_given_fewer_calls(tmp_path: Path) -> None:
    """503 is no defect: it is a server that has too much to do, or is still starting."""
    notes: list[str] = []

    def rule(body: Body) -> str | Fault:
        return Fault(503, message="Loading model") if running.calls <= 2 else GOOD

    with serve(rule) as running:
        (reply,) = ask(running.base_url, tmp_path / "a.duckdb", [question()], notes=notes)
    assert reply.parsed == {"answers": [1, 0]}
    assert any("is busy (429 or 503)" in note for note in notes)
