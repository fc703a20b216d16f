"""Several visitors on one model: nobody sees another's edit, nobody waits for ever."""

import threading
import time

import pytest

from backend.generation.fair_lock import FairLock
from backend.generation.prompt_tokenization import PromptTokens, tokenize_text
from backend.generation.records import GenerationRow, SamplingSettings, SummaryRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.generation.visitor_queue import GenerationLimits, VisitorQueue
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from tests.editing import dictionaries, edit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_places_are_in_the_order_of_coming() -> None:
    queue = VisitorQueue(GenerationLimits(at_once=2, waiting=2))
    tickets = [queue.join() for _ in range(4)]
    assert [ticket.place for ticket in tickets] == [0, 0, 1, 2]
    assert [ticket.served.is_set() for ticket in tickets] == [True, True, False, False]
    with pytest.raises(InputError, match="4 people are using this model now"):
        queue.join()
    tickets[0].leave()
    assert [ticket.place for ticket in tickets] == [-1, 0, 0, 1]
    assert tickets[0].stop.is_set() and not tickets[0].turn()
    assert tickets[2].served.is_set()
    with queue.join() as late:
        assert late.place == 2
    assert late.place == -1


def test_a_visitor_who_left_without_a_word_is_not_waited_for() -> None:
    clock = Clock()
    queue = VisitorQueue(GenerationLimits(at_once=1, silence=20), clock)
    gone, here = queue.join(), queue.join()
    clock.now = 15
    here.touch()
    clock.now = 25
    assert here.turn()
    assert gone.stop.is_set()
    assert (gone.place, len(queue)) == (-1, 1)


def test_requests_beyond_the_limits_are_refused() -> None:
    limits = GenerationLimits(new_tokens=8, prompt_tokens=3)
    with pytest.raises(InputError, match="at most 8 are allowed"):
        limits.check(PromptTokens((1,)), SamplingSettings(max_new=9))
    with pytest.raises(InputError, match="at most 3 are allowed"):
        limits.check(PromptTokens((1, 2, 3, 4)), SamplingSettings(max_new=1))


def test_turns_are_taken_in_the_order_of_asking() -> None:
    turns, order = FairLock(), []
    threads = [threading.Thread(target=lambda i=i: take(turns, order, i)) for i in range(6)]
    with turns.turn():
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def take(turns: FairLock, order: list[int], i: int) -> None:
    with turns.turn():
        order.append(i)


def test_nobody_sees_anothers_edit_and_nobody_waits_for_ever(tiny_lm: LanguageModel) -> None:
    """Eight visitors, each with an edit of its own, four served at once."""
    start = tokenize_text(tiny_lm, "the cat saw", bos=True)
    rows = [
        [GenerationRow("mine", (edit("add", f"relu/{i}", strength=3.0 * i),))] for i in range(8)
    ]
    queue = VisitorQueue(GenerationLimits(at_once=4, waiting=8, silence=600))

    def text(i: int, stop: threading.Event | None = None) -> list[int]:
        sampling = SamplingSettings(max_new=12, seed=i)
        records = stream_tokens(
            tiny_lm, dictionaries(), start, rows[i], sampling, StreamOptions(guard=True), stop=stop
        )
        return next(one.tokens for one in records if isinstance(one, SummaryRecord))

    want = [text(i) for i in range(8)]
    got: dict[int, list[list[int]]] = {i: [] for i in range(8)}

    def visit(i: int) -> None:
        for _ in range(4):
            with queue.join() as ticket:
                assert ticket.turn()
                got[i].append(text(i, ticket.stop))

    threads = [threading.Thread(target=visit, args=(i,), daemon=True) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert got == {i: [want[i]] * 4 for i in range(8)}
    assert len({tuple(one) for one in want}) > 4


def test_a_long_text_does_not_keep_a_short_one_waiting(tiny_lm: LanguageModel) -> None:
    """Token by token: the second visitor's five tokens come before the first's twentieth."""
    start = tokenize_text(tiny_lm, "the", bos=True)
    order: list[str] = []

    def speak(who: str, n: int) -> None:
        for _ in stream_tokens(
            tiny_lm, {}, start, [GenerationRow(who)], SamplingSettings(max_new=n, seed=1)
        ):
            order.append(who)

    threads = [threading.Thread(target=speak, args=pair) for pair in [("long", 28), ("short", 5)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = max(i for i, who in enumerate(order) if who == "short")
    assert last < len(order) - 5
