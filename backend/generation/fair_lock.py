"""A fair turn: whoever has waited longest is next.

The lock of a model goes to whichever thread wakes first, and the one that has just let go is awake.
Generations therefore queue here for each token before they ask for the model.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from backend.model.language_model import LanguageModel


class FairLock:
    """A lock that is handed on in the order of asking."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, hold it, hand it on."""
        mine = None
        with self._guard:
            if self._taken:
                mine = threading.Event()
                self._waiting.append(mine)
            self._taken = True
        if mine is not None:
            mine.wait()
        try:
            yield
        finally:
            with self._guard:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._taken = False


_creation_lock = threading.Lock()
_model_locks: "WeakKeyDictionary[LanguageModel, FairLock]" = WeakKeyDictionary()


def fair_lock_of(lm: LanguageModel) -> FairLock:
    """The one queue of a model."""
    with _creation_lock:
        return _model_locks.setdefault(lm, FairLock())
