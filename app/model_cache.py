"""Language models of one process: loaded one at a time, kept by bytes, lent to those who use them.

Two visitors who need two models that do not fit together take turns: a model that has been loaded
stays at least as long as it took to load, is lent to whoever asked for it, and leaves only when
nobody works with it. Nothing here knows of torch or Streamlit: a model is any object of a size.
"""

import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import finalize

from backend.model.memory_budget import format_memory_size
from feature_store.errors import InputError

SHORTEST_TURN_S = 3.0
"""A loaded model stays so long, or as long as it took to load, though another is waited for."""
COMING_S = 5.0
"""A model that was asked for so recently is about to be fetched by whoever asked."""
FORGOTTEN_S = 90.0
"""A request that nobody repeats for so long is dropped (pages in the background ask rarely)."""
LONG_LEASE_S = 20.0
"""While somebody works with a model for longer, refusing it to others would not free it soon."""
PATIENCE_S = 120.0
"""Whoever has waited so long for room is next, whatever others are doing."""
LOST_LEASE_S = 3_600.0
"""What has not been given back by then is taken for lost: it no longer keeps others waiting."""
FAILED_S = 60.0
"""How long an error is kept for whoever asked."""
POLL_S = 0.2
Load = Callable[[], tuple[Any, int]]
"""Gives a model and the bytes of its weights; whatever it raises is told to whoever asked."""


class Lease:
    """The right to use a model. It ends when nothing refers to the lease any more."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(eq=False)
class _Model:
    """A model in memory."""

    key: str
    name: str
    value: Any
    size: int
    loaded_at: float
    load_s: float
    asked_at: float
    served: bool = False
    """Whether it was lent since its turn began."""
    leases: dict[int, float] = field(default_factory=dict)
    """Number of a lease → when it began."""


@dataclass(eq=False)
class _Request:
    """A model that somebody waits for."""

    key: str
    name: str
    load: Load
    size: int
    """Bytes that it is expected to take; 0 where that is not known."""
    asked_at: float
    first_asked_at: float
    began: float | None = None


class ModelCache:
    """The models of a process; safe to be used by many threads."""

    def __init__(
        self,
        budget: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        freed: Callable[[], None] = lambda: None,
        loaded: Callable[[], None] = lambda: None,
    ) -> None:
        """`budget` gives the bytes that may be kept; it is asked in the loading thread. `freed` is
        called there when a model was dropped, before the next one loads; `loaded` after each load.
        """
        self._budget, self._clock = budget, clock
        self._freed, self._loaded = freed, loaded
        self.let_go: list[Callable[[], object]] = []
        """Called when room is needed: whatever keeps a model only to be quick next time."""
        self._guard = threading.RLock()
        self._models: dict[str, _Model] = {}
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._failed: dict[str, tuple[Exception, float]] = {}
        self._ended: deque[tuple[_Model, int]] = deque()  # a finaliser may not wait for the lock
        self._lent = 0
        self._blocked = ""
        """Key of the request that has no room."""
        self._limit = 0
        self._worker: threading.Thread | None = None

    def ask(
        self, key: str, name: str, load: Load, *, size: int = 0, quiet: bool = False
    ) -> Lease | None:
        """Return a lease of a model; None while it is on its way, which begins by asking.

        To be asked again until it is there. An error of `load` is raised once, to whoever asks
        next; with `quiet` it is left for others and the answer is None.
        """
        with self._guard:
            now = self._settle()
            model = self._models.get(key)
            if model is not None:
                model.asked_at = now
                if not self._must_wait(model, now):
                    self._requests.pop(key, None)
                    return self._lend(model, now)
            if key in self._failed:
                if quiet:
                    return None
                raise self._failed.pop(key)[0]
            request = self._requests.setdefault(key, _Request(key, name, load, size, now, now))
            request.asked_at = now
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, daemon=True, name="load models")
                self._worker.start()
            return None

    def poll(self, key: str) -> bool:
        """Return whether asking for this model again would not mean waiting; it is still wanted."""
        with self._guard:
            now = self._settle()
            model, request = self._models.get(key), self._requests.get(key)
            if model is not None:
                model.asked_at = now
            if request is not None:
                request.asked_at = now
            there = model is not None and not self._must_wait(model, now)
            return there or request is None

    def describe_wait(self, key: str) -> str:
        """Return a sentence for whoever waits for this model: what it is waiting for.

        `name`, as it was asked with, is the id of a harvest."""
        with self._guard:
            now = self._settle()
            request = self._requests.get(key)
            if request is None:
                return "The model is here."
            mine = f"model of harvest {request.name}"
            if request.began is not None:
                return f"Loading the {mine}: {int(now - request.began)} s so far."
            going = next((one for one in self._requests.values() if one.began is not None), None)
            if going is not None:
                return (
                    f"The {mine} is loaded after that of harvest {going.name}: another load is "
                    "under way, and models load one at a time."
                )
            others = [model.name for model in self._models.values() if model.key != key]
            if not others or not self._blocked:
                return f"Loading the {mine}."
            there = (
                f"that of harvest {others[0]} is"
                if len(others) == 1
                else (f"those of harvests {', '.join(others)} are")
            )
            return (
                f"The {mine} waits for its turn: {there} in use, and they do not fit together into "
                f"the {format_memory_size(self._limit)} kept for models (--model-memory)."
            )

    def kept(self) -> dict[str, int]:
        """Return the models in memory: key → bytes."""
        with self._guard:
            return {key: model.size for key, model in self._models.items()}

    def _lend(self, model: _Model, now: float) -> Lease:
        self._lent += 1
        lease = Lease(model.value)
        model.leases[self._lent], model.served = now, True
        finalize(lease, self._ended.append, (model, self._lent)).atexit = False
        return lease

    def _settle(self) -> float:
        """Count leases that have ended and drop what is too old; the time now."""
        now = self._clock()
        while self._ended:
            model, number = self._ended.popleft()
            model.leases.pop(number, None)
        for key in [key for key, (_, at) in self._failed.items() if now - at > FAILED_S]:
            del self._failed[key]
        for request in list(self._requests.values()):
            if request.began is None and now - request.asked_at > FORGOTTEN_S:
                del self._requests[request.key]
        return now

    def _must_wait(self, model: _Model, now: float) -> bool:
        """Whether a model is lent no more, so that the one that has no room gets its turn."""
        waiting = self._requests.get(self._blocked)
        if waiting is None or waiting.key == model.key:
            return False
        others = [one for one in self._models.values() if one.key != self._blocked]
        if model is not min(others, key=lambda one: one.loaded_at):
            return False
        long = any(now - began > LONG_LEASE_S for began in model.leases.values())
        patient = now - waiting.first_asked_at < PATIENCE_S
        return self._turn_over(model, now) and not (long and patient)

    def _turn_over(self, model: _Model, now: float) -> bool:
        if now - model.loaded_at < max(SHORTEST_TURN_S, model.load_s):
            return False
        return model.served or now - max(model.loaded_at, model.asked_at) > COMING_S

    def _in_use(self, model: _Model, now: float) -> bool:
        return any(now - began < LOST_LEASE_S for began in model.leases.values())

    def _make_room(self, size: int, now: float, keep: str = "") -> tuple[bool, bool]:
        """Drop the least recently asked for until `size` bytes more fit, or no other model is left:
        (whether they do, whether any was dropped)."""
        dropped = False
        while True:
            others = [model for model in self._models.values() if model.key != keep]
            total = sum(model.size for model in self._models.values())
            if not others or total + size <= self._limit:
                return True, dropped
            free = [m for m in others if self._turn_over(m, now) and not self._in_use(m, now)]
            if not free:
                return False, dropped
            del self._models[min(free, key=lambda model: model.asked_at).key]
            dropped = True

    def _work(self) -> None:
        """The loading thread: it ends when nothing is wanted any more."""
        while True:
            request, room, dropped = self._next()
            if dropped:
                self._freed()
            if request is not None and room:
                self._run(request)
            elif request is None and room:
                return
            else:
                for callback in self.let_go:
                    callback()
                time.sleep(POLL_S)

    def _next(self) -> tuple[_Request | None, bool, bool]:
        """Return what is wanted next, if anything; whether there is room; whether a model was
        dropped for it. Without a request the room is that of what is in memory."""
        with self._guard:
            now = self._settle()
            while (request := next(iter(self._requests.values()), None)) is not None:
                if (there := self._models.get(request.key)) is None:
                    break
                there.loaded_at, there.served = now, False  # never dropped: its next turn begins
                del self._requests[request.key]
            try:
                self._limit = self._budget()
            except Exception as error:  # a budget that cannot be read
                for one in list(self._requests.values()):
                    self._fail(one, error)
                self._worker = None
                return None, True, False
            newest = max(self._models.values(), key=lambda one: one.loaded_at, default=None)
            keep = "" if request is not None or newest is None else newest.key
            room, dropped = self._make_room(request.size if request else 0, now, keep)
            self._blocked = "" if room or request is None else request.key
            if request is not None and room:
                request.began = now
            if request is None and room:
                self._worker = None
        return request, room, dropped

    def _run(self, request: _Request) -> None:
        try:
            value, size = request.load()
        except Exception as error:  # told to whoever asks next
            forget_frames(error)
            with self._guard:
                self._fail(request, error)
        else:
            with self._guard:
                now = self._clock()
                self._models[request.key] = _Model(
                    request.key,
                    request.name,
                    value,
                    size,
                    loaded_at=now,
                    load_s=now - (request.began or now),
                    asked_at=request.asked_at,
                )
                self._requests.pop(request.key, None)
        self._loaded()

    def _fail(self, request: _Request, error: Exception) -> None:
        self._failed[request.key] = (error, self._clock())
        self._requests.pop(request.key, None)


def forget_frames(error: BaseException | None) -> None:
    """Take the traceback off an error that is kept, and off what caused it: its frames would keep
    the models that they used. Of an error that nobody expected it is noted as text, for the log."""
    if error is not None and not isinstance(error, InputError) and error.__traceback__ is not None:
        error.add_note("".join(traceback.format_exception(error)))
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
