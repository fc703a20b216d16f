"""How many calls at once, and for how much money."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.asking import Budget, CallLog, Failed, Reply
from autointerp.asking.limiter import Limiter
from autointerp.asking.reading import Unreadable, read
from tests import openai_server as server
from tests.asking import ANSWERS, DEAR, ask, one, question
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
    assert any("says 429" in note for note in notes)


def test_429s_of_calls_that_were_under_way_together_halve_it_once() -> None:
    async def run() -> list[float]:
        limiter, limits = Limiter(16), []
        async with limiter.slot() as one, limiter.slot() as two:
            limits += [limiter.limit] * limiter.refused(one, 0)
            limiter.refused(two, 0)
        limits.append(limiter.limit)
        for _ in range(200):
            limiter.answered()
        return [*limits, limiter.limit]

    assert asyncio.run(run()) == [8.0 * 2, 8.0, 16.0]


def test_a_slot_given_to_someone_who_left_is_passed_on() -> None:
    async def hold(limiter: Limiter, seconds: float) -> None:
        async with limiter.slot():
            await asyncio.sleep(seconds)

    async def run() -> int:
        limiter = Limiter(1)
        first, second, third = (asyncio.create_task(hold(limiter, 0.01)) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait_for(asyncio.gather(first, third), 2)
        return limiter.open

    assert asyncio.run(run()) == 0


@settings(deadline=None, max_examples=25)
@given(
    st.floats(0.0, 0.5),
    st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_a_budget_is_never_passed(cap: float, calls: list[tuple[float, float]]) -> None:
    """Whatever the calls reserve and then cost, at every moment."""
    budget = Budget(cap)

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
        answers = ask(running.base_url, tmp_path / "a.duckdb", wanted, table=DEAR, budget=Budget(2))
    replies = [a for a in answers if isinstance(a, Reply)]
    failed = [a for a in answers if isinstance(a, Failed)]
    assert len(replies) == running.calls and sum(r.cost for r in replies) <= 2
    assert len(replies) >= 12  # to within the most that one call may cost, about $0.55
    assert {f.kind for f in failed} == {"budget"} and "$2.00 is used up" in failed[0].sentence
    with CallLog(tmp_path / "a.duckdb") as calls:
        assert calls.totals().charged == pytest.approx(0.11 * len(replies))


def test_a_call_that_may_have_cost_counts_against_the_budget(tmp_path: Path) -> None:
    """A reply that broke off was perhaps paid for; a 500 and a 429 were not."""
    budget = Budget(100.0)
    faults = [server.HALF, server.BROKEN, server.RATE_LIMITED]
    with serve(then(faults, always(GOOD))) as running:
        path = tmp_path / "a.duckdb"
        one(running.base_url, path, table=DEAR, budget=budget)
    reserve = question().longest + question().max_tokens
    assert budget.spent == pytest.approx(reserve / 1000 + 0.11)


def test_a_budget_wants_a_price(tmp_path: Path) -> None:
    """A cap over unknown prices would be none: nothing is asked."""
    elsewhere = "http://elsewhere/v1"  # and not looked for
    failed = one(elsewhere, tmp_path / "a.duckdb", table={}, budget=Budget(1.0))
    assert failed.kind == "no price" and failed.hopeless and "prices.toml" in failed.sentence


def test_a_reply_without_counts_has_no_cost(tmp_path: Path) -> None:
    """And is charged at the most that it can have cost."""
    budget = Budget(10.0)
    with serve(always(Said(GOOD, tokens_in=None))) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", table=DEAR, budget=budget)
    assert (reply.cost, reply.tokens_in) == (None, None) and budget.spent > 0.2


@pytest.mark.parametrize(
    "text",
    [GOOD, f"Sure! {GOOD} Anything else?", f"```json\n{GOOD}\n```", f"<think>{{</think>{GOOD}",
     '\n{"answers" : [1,\n0]}'],
)  # fmt: skip
def test_one_json_object_is_read_wherever_it_stands(text: str) -> None:
    assert read(text, ANSWERS) == {"answers": [1, 0]}


@pytest.mark.parametrize(
    "text",
    ["[1, 0]", "1, 0", GOOD[:-1], GOOD + GOOD, f'{{"a": {GOOD}}}', '{"answers": [true, false]}',
     '{"answers": ["1", "0"]}', '{"answers": [1.5, 0]}', '{"answers": [1, 0], "more": 1}',
     '{"answers": [1, 0], "answers": [0, 1]}', '{"answers": [NaN, 1]}', '{"answers": null}',
     '{"answers": [1, 0, 0]}', "{" * 3000, '{"a":' * 100_000, f"{{broken {GOOD}", ""],
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text, ANSWERS)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever it is, it is read or refused."""
    try:
        assert set(read(text, ANSWERS)) == {"answers"}
    except Unreadable as why:
        assert len(str(why)) < 400
