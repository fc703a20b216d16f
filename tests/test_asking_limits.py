"""How many calls at once, and for how much money."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.llm import CallBudget, CallLog, LlmServer, Reply, RequestFailure, open_asker
from autointerp.llm.concurrency_limit import ConcurrencyLimiter
from autointerp.llm.reply_parser import UnreadableReply, parse_reply_value
from tests import openai_server as server
from tests.asking import ANSWERS, DEAR, QUICK, ask, one, question
from tests.openai_server import Body, Fault, Said, always, serve, then

GOOD = '{"answers": [1, 0]}'


@pytest.mark.parametrize("most", [1, 3, 20])
def test_never_more_calls_at_once_than_allowed(most: int, tmp_path: Path) -> None:
    wanted = [question(str(i)) for i in range(40)]
    with serve(always(Said(GOOD, delay_s=0.01))) as running:
        ask(running.base_url, tmp_path / "a.duckdb", wanted, concurrency=most)
    assert running.most_open <= most and running.most_open >= min(most, 3)


def test_the_limiter_finds_what_the_server_bears(tmp_path: Path) -> None:
    """A server that takes 4 at once: few 429s, everything answered, the log says it."""
    notes: list[str] = []

    def rule(body: Body) -> Said | Fault:
        return Fault(429) if running.open > 4 else Said(GOOD, delay_s=0.02)

    with serve(rule) as running:
        wanted = [question(str(i)) for i in range(150)]
        replies = ask(running.base_url, tmp_path / "a.duckdb", wanted, notes=notes, concurrency=32)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert running.calls < 2 * len(wanted)
    assert any("is busy (429" in note for note in notes)


def full_house(
    limiter: ConcurrencyLimiter, takes_s: Callable[[int], float], epochs: int = 60
) -> list[int]:
    """Keep all slots taken by calls that each take `takes_s(calls in flight)`; the limit after
    each round."""

    async def run() -> list[int]:
        limits = []
        for _ in range(epochs):
            async with AsyncExitStack() as stack:
                n = limiter.limit
                slots = [await stack.enter_async_context(limiter.slot()) for _ in range(n)]
                for slot in slots:
                    limiter.record_reply(slot, takes_s(n), 100, 20)
            limits.append(limiter.limit)
        return limits

    return asyncio.run(run())


SERVERS = {  # seconds of a call while n are in flight → the most calls that pay
    "one slot": (lambda n: 1.0 * n, 1),
    "two slots": (lambda n: max(1.0, n / 2), 2),
    "six slots": (lambda n: max(1.0, n / 6), 6),
    "a batching server": (lambda n: 1.0 + 0.02 * n, 32),
}


@pytest.mark.parametrize("name", SERVERS)
def test_calls_in_flight_grow_while_they_make_the_server_faster(name: str) -> None:
    """From one at first; where further calls only wait for each other, they are given up."""
    takes_s, best = SERVERS[name]
    limits = full_house(ConcurrencyLimiter(32), takes_s)
    assert limits[0] == 1 and best * 0.6 <= median(limits[-20:]) <= best * 1.4
    assert max(limits) <= 3 * best


def test_calls_in_flight_fall_when_the_server_gets_slower() -> None:
    limiter = ConcurrencyLimiter(32)
    quick = full_house(limiter, lambda n: 1.0 + 0.02 * n)[-1]
    slow = full_house(limiter, lambda n: 4.0 * max(1.0, n / 4))[-1]
    assert quick == 32 and slow < quick


def test_a_server_that_tells_its_slots_gets_no_more_calls_than_these() -> None:
    limiter = ConcurrencyLimiter(32)
    limiter.set_server_slots(3)
    assert max(full_house(limiter, lambda n: 1.0)) == 3


@pytest.mark.parametrize("wait_s", [0.0, 0.01])
def test_refusals_of_calls_that_were_in_flight_together_halve_it_once(wait_s: float) -> None:
    limiter = ConcurrencyLimiter(16)
    assert full_house(limiter, lambda n: 1.0)[-1] == 16

    async def run() -> list[int]:
        async with limiter.slot() as one, limiter.slot() as two:
            return [
                limiter.limit * fell
                for fell in (limiter.record_refusal(s, wait_s) for s in (one, two))
            ]

    assert asyncio.run(run()) == [8, 0] and limiter.limit == 8


def test_a_paused_limiter_gives_out_no_slot() -> None:
    async def run() -> list[int]:
        limiter, order = ConcurrencyLimiter(1), []
        limiter.pause()

        async def call() -> None:
            async with limiter.slot():
                order.append(2)

        task = asyncio.create_task(call())
        await asyncio.sleep(0.01)
        order.append(1)
        limiter.resume()
        await asyncio.wait_for(task, 2)
        return order

    assert asyncio.run(run()) == [1, 2]


def test_a_call_that_waits_behind_our_own_is_not_late(tmp_path: Path) -> None:
    """Twelve calls at once at a server that takes one at a time, 0.1 s each, and 0.9 s of patience:
    sixteen at once used to lose three of four first attempts to time-outs."""

    async def run(base_url: str) -> list[Reply | RequestFailure]:
        with CallLog(tmp_path / "a.duckdb") as calls:
            server_ = LlmServer("test", base_url, timeout_s=0.9, concurrency=12)
            async with open_asker(server_, "m", calls, retry_policy=QUICK) as asker:
                asker.limiter.limit = 12
                return await asyncio.gather(*(asker.ask(question(str(i))) for i in range(12)))

    with serve(always(GOOD), slots=1, takes_s=0.1) as running:
        replies = asyncio.run(run(running.base_url))
    assert all(isinstance(reply, Reply) for reply in replies) and running.calls == 12


def test_a_slot_given_to_someone_who_left_is_passed_on() -> None:
    async def hold(limiter: ConcurrencyLimiter, seconds: float) -> None:
        async with limiter.slot():
            await asyncio.sleep(seconds)

    async def run() -> int:
        limiter = ConcurrencyLimiter(1)
        first, second, third = (asyncio.create_task(hold(limiter, 0.01)) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait_for(asyncio.gather(first, third), 2)
        return limiter.slots_taken

    assert asyncio.run(run()) == 0


@settings(deadline=None, max_examples=25)
@given(
    st.floats(0.0, 0.5),
    st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_a_budget_is_never_passed(cap: float, calls: list[tuple[float, float]]) -> None:
    """Whatever the calls reserve and then cost, at every moment."""
    budget = CallBudget(cap)

    async def call(most: float, share: float) -> None:
        if not await budget.reserve(most):
            return
        assert budget.spent + budget.reserved <= cap + 1e-6
        await asyncio.sleep(0)
        await budget.settle(most, most * share)
        assert budget.spent + budget.reserved <= cap + 1e-6

    async def run() -> None:
        await asyncio.gather(*(call(*each) for each in calls))

    asyncio.run(run())
    assert budget.reserved == 0


def test_the_budget_stops_a_job_and_keeps_what_there_is(tmp_path: Path) -> None:
    """Replies cost $0.11 each; the cap is $2."""
    wanted = [question(str(i), max_tokens=20) for i in range(60)]
    with serve(always(GOOD)) as running:
        answers = ask(
            running.base_url, tmp_path / "a.duckdb", wanted, table=DEAR, budget=CallBudget(2)
        )
    replies = [a for a in answers if isinstance(a, Reply)]
    failed = [a for a in answers if isinstance(a, RequestFailure)]
    assert len(replies) == running.calls and sum(r.cost for r in replies) <= 2
    assert len(replies) >= 12  # to within the most that one call may cost, about $0.55
    assert {f.kind for f in failed} == {"budget"} and "$2.00 is used up" in failed[0].sentence
    with CallLog(tmp_path / "a.duckdb") as calls:
        assert calls.totals().charged == pytest.approx(0.11 * len(replies))


def test_a_call_that_may_have_cost_counts_against_the_budget(tmp_path: Path) -> None:
    """A reply that broke off was perhaps paid for; a 500 and a 429 were not."""
    budget = CallBudget(100.0)
    faults = [server.HALF, server.BROKEN, server.RATE_LIMITED]
    with serve(then(faults, always(GOOD))) as running:
        path = tmp_path / "a.duckdb"
        one(running.base_url, path, table=DEAR, budget=budget)
    reserve = question().longest + question().max_tokens
    assert budget.spent == pytest.approx(reserve / 1000 + 0.11)


def test_a_budget_wants_a_price(tmp_path: Path) -> None:
    """A cap over unknown prices would be none: nothing is asked."""
    elsewhere = "http://elsewhere/v1"  # and not looked for
    failed = one(elsewhere, tmp_path / "a.duckdb", table={}, budget=CallBudget(1.0))
    assert failed.kind == "no price" and failed.stops_job and "prices.toml" in failed.sentence


def test_a_reply_without_counts_has_no_cost(tmp_path: Path) -> None:
    """And is charged at the most that it can have cost."""
    budget = CallBudget(10.0)
    with serve(always(Said(GOOD, tokens_in=None))) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", table=DEAR, budget=budget)
    assert (reply.cost, reply.tokens_in) == (None, None) and budget.spent > 0.2


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Sure! {GOOD} Anything else?",
        f"```json\n{GOOD}\n```",
        f"<think>{{</think>{GOOD}",
        '\n{"answers" : [1,\n0]}',
    ],
)
def test_one_json_object_is_read_wherever_it_stands(text: str) -> None:
    assert parse_reply_value(text, ANSWERS) == {"answers": [1, 0]}


@pytest.mark.parametrize(
    "text",
    [
        "[1, 0]",
        "1, 0",
        GOOD[:-1],
        GOOD + GOOD,
        f'{{"a": {GOOD}}}',
        '{"answers": [true, false]}',
        '{"answers": ["1", "0"]}',
        '{"answers": [1.5, 0]}',
        '{"answers": [1, 0], "more": 1}',
        '{"answers": [1, 0], "answers": [0, 1]}',
        '{"answers": [NaN, 1]}',
        '{"answers": null}',
        '{"answers": [1, 0, 0]}',
        "{" * 3000,
        '{"a":' * 100_000,
        f"{{broken {GOOD}",
        "",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(UnreadableReply):
        parse_reply_value(text, ANSWERS)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever it is, it is read or refused."""
    try:
        assert set(parse_reply_value(text, ANSWERS)) == {"answers"}
    except UnreadableReply as why:
        assert len(str(why)) < 400
