"""Laws of models that visitors share: one load at a time, by bytes, in turns that end."""

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app import model_cache
from app.model_cache import Lease, ModelCache

SIZE = 10


class Weights:
    """A model of SIZE bytes that knows how many there are; it refers to itself, as real ones do."""

    def __init__(self, name: str) -> None:
        self.name, self.me, self.used_by = name, self, 0


class Shelf:
    """Loads models, and notes what must never happen."""

    def __init__(self, load_s: float = 0.002) -> None:
        self.load_s = load_s
        self.loads: list[str] = []
        self.at_once = self.most_at_once = self.most_in_memory = 0
        self.alive: weakref.WeakSet[Weights] = weakref.WeakSet()

    def loader(self, name: str) -> Callable[[], tuple[Weights, int]]:
        def load() -> tuple[Weights, int]:
            self.loads.append(name)
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            time.sleep(self.load_s)
            self.at_once -= 1
            found = Weights(name)
            self.alive.add(found)
            self.most_in_memory = max(len(self.alive), self.most_in_memory)
            return found, SIZE

        return load


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of milliseconds."""
    for name, value in (("SHORTEST_TURN_S", 0.02), ("COMING_S", 0.1), ("POLL_S", 0.002)):
        monkeypatch.setattr(model_cache, name, value)


def made(budget: int, **given: Callable) -> ModelCache:
    return ModelCache(lambda: budget, freed=gc.collect, **given)


def borrowed(cache: ModelCache, shelf: Shelf, name: str, seconds: float = 20) -> Lease:
    """Ask until the model is there, as a page does."""
    until = time.monotonic() + seconds
    while (lease := cache.ask(name, name, shelf.loader(name), size=SIZE)) is None:
        assert time.monotonic() < until, cache.describe_wait(name)
        while not cache.poll(name) and time.monotonic() < until:
            time.sleep(0.002)
    return lease


@contextmanager
def used(lease: Lease) -> Iterator[Weights]:
    lease.value.used_by += 1
    yield lease.value
    lease.value.used_by -= 1


def visitors(n: int, visit: Callable[[int], None], seconds: float = 30) -> None:
    """Each in a thread; all must come to an end, none with an error."""
    wrong: list[BaseException] = []

    def go(number: int) -> None:
        try:
            visit(number)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=go, args=[number]) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    assert not wrong and not any(thread.is_alive() for thread in threads), wrong


def test_a_model_is_loaded_once_and_no_two_at_a_time() -> None:
    cache, shelf = made(10 * SIZE), Shelf(0.01)

    def visit(number: int) -> None:
        assert borrowed(cache, shelf, "abc"[number % 3]).value.name == "abc"[number % 3]

    visitors(12, visit)
    assert sorted(shelf.loads) == ["a", "b", "c"] and shelf.most_at_once == 1
    assert cache.kept() == dict.fromkeys(shelf.loads, SIZE)


@pytest.mark.parametrize(("room", "names"), [(1, "ab"), (1, "abc"), (2, "abc")])
def test_visitors_of_models_that_do_not_fit_together_all_finish(room: int, names: str) -> None:
    cache, shelf = made(room * SIZE), Shelf()

    def visit(number: int) -> None:
        for _ in range(5):
            lease = borrowed(cache, shelf, names[number % len(names)])
            with used(lease) as model:
                time.sleep(0.003)
                assert model.name in cache.kept()  # in use: it may not have been dropped
            del lease, model
            time.sleep(0.001)

    visitors(2 * len(names), visit)
    assert shelf.most_at_once == 1 and shelf.most_in_memory <= room
    assert len(shelf.loads) <= 5 * 2 * len(names)  # each load served somebody


def test_a_model_in_use_stays_and_the_wait_is_said() -> None:
    cache, shelf = made(SIZE), Shelf()
    mine = borrowed(cache, shelf, "mine")
    time.sleep(0.1)
    for _ in range(30):
        assert cache.ask("other", "other", shelf.loader("other"), size=SIZE) is None
        time.sleep(0.005)
    assert list(cache.kept()) == ["mine"]
    said = cache.describe_wait("other")
    assert (
        "other waits for its turn: that of harvest mine is in use" in said
        and "--model-memory" in said
    )
    del mine
    assert borrowed(cache, shelf, "other").value.name == "other" and shelf.most_in_memory == 1


def test_a_wait_behind_another_load_is_said() -> None:
    cache, begun, go_on = made(10 * SIZE), threading.Event(), threading.Event()

    def slow() -> tuple[str, int]:
        begun.set()
        go_on.wait(30)
        return "weights", SIZE

    assert cache.ask("first", "first", slow) is None
    assert cache.ask("second", "second", slow) is None
    assert begun.wait(30)
    assert re.match(
        r"Loading the model of harvest first: \d+ s so far", cache.describe_wait("first")
    )
    said = cache.describe_wait("second")
    assert "second is loaded after that of harvest first: another load is under way" in said
    go_on.set()
    for name in ("first", "second"):
        while cache.ask(name, name, slow) is None:
            time.sleep(0.002)


def test_visitors_who_overlap_without_end_do_not_starve_another() -> None:
    cache, shelf = made(SIZE), Shelf()
    over = threading.Event()

    def visit(number: int) -> None:
        if number == 0:
            time.sleep(0.05)
            borrowed(cache, shelf, "rare")
            over.set()
        while not over.is_set():
            lease = cache.ask("busy", "busy", shelf.loader("busy"), size=SIZE)
            time.sleep(0.01 * number)
            del lease

    visitors(4, visit)


def test_a_model_that_was_asked_for_is_not_dropped_before_it_was_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_cache, "COMING_S", 5.0)
    cache, shelf = made(SIZE), Shelf()
    assert cache.ask("slow", "slow", shelf.loader("slow"), size=SIZE) is None
    while not cache.kept():
        time.sleep(0.002)
    assert cache.ask("next", "next", shelf.loader("next"), size=SIZE) is None
    time.sleep(0.2)  # the first visitor looks in rarely
    assert borrowed(cache, shelf, "slow", 0.1).value.name == "slow" and shelf.loads[0] == "slow"
    assert borrowed(cache, shelf, "next").value.name == "next"
    assert shelf.loads == ["slow", "next"]


def test_what_is_dropped_is_freed_and_a_callback_may_let_go_of_it() -> None:
    cache, shelf = made(SIZE), Shelf()
    remembered = [borrowed(cache, shelf, "old")]
    cache.let_go.append(remembered.clear)
    borrowed(cache, shelf, "new")
    assert [one.name for one in shelf.alive] == ["new"]


def test_a_model_larger_than_the_budget_is_loaded_alone() -> None:
    cache, shelf = made(SIZE // 2), Shelf()
    borrowed(cache, shelf, "a")
    borrowed(cache, shelf, "b")
    time.sleep(0.1)  # nobody needs its room: it stays
    assert list(cache.kept()) == ["b"] and shelf.most_in_memory == 1


def test_a_model_that_turns_out_larger_drives_others_out_once_they_are_free() -> None:
    cache, shelf = made(SIZE), Shelf()
    held = borrowed(cache, shelf, "a")
    while (lease := cache.ask("b", "b", shelf.loader("b"), size=0)) is None:  # its size is unknown
        time.sleep(0.002)
    assert set(cache.kept()) == {"a", "b"}
    del held, lease
    until = time.monotonic() + 5
    while len(cache.kept()) > 1 and time.monotonic() < until:
        time.sleep(0.005)
    assert list(cache.kept()) == ["b"]


def test_an_error_is_told_once_and_holds_nothing() -> None:
    cache, shelf = made(SIZE), Shelf()

    def fail() -> tuple[Weights, int]:
        half = Weights("half")
        shelf.alive.add(half)
        raise OSError("gone")

    assert cache.ask("bad", "bad", fail) is None
    while not cache.poll("bad"):
        time.sleep(0.002)
    assert cache.ask("bad", "bad", fail, quiet=True) is None
    with pytest.raises(OSError, match="gone") as told:
        cache.ask("bad", "bad", fail)
    gc.collect()
    assert not shelf.alive
    assert any("in fail" in note for note in told.value.__notes__)  # the log still says where
    assert borrowed(cache, shelf, "bad").value.name == "bad"


def test_a_request_that_nobody_repeats_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "FORGOTTEN_S", 0.05)
    cache, shelf = made(SIZE), Shelf()
    mine = borrowed(cache, shelf, "mine")
    assert cache.ask("left", "left", shelf.loader("left"), size=SIZE) is None
    time.sleep(0.2)
    del mine
    time.sleep(0.1)
    assert list(cache.kept()) == ["mine"] and shelf.loads == ["mine"]


def test_a_budget_that_cannot_be_read_is_an_error_of_whoever_asks() -> None:
    def unreadable() -> int:
        raise ValueError("no size")

    cache, shelf = ModelCache(unreadable), Shelf()
    cache.ask("a", "a", shelf.loader("a"))
    while not cache.poll("a"):
        time.sleep(0.002)
    with pytest.raises(ValueError, match="no size"):
        cache.ask("a", "a", shelf.loader("a"))
