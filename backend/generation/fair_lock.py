"""A fair lock for a model: threads get it in the order in which they asked.

The model's own lock goes to whichever thread wakes first, which is usually the one that has just
released it. Generations therefore take this lock first, for each token.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from backend.model.language_model import LanguageModel


class FairLock:
    """Lock that threads get in the order in which they ask for it, so that several texts are
    generated with one model in turn.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the fair lock until the `with` block ends, after all threads that asked for it
        earlier.
        """
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
                    self._waiting.popleft().set()  # handed over: it stays taken
                else:
                    self._taken = False


_creation_lock = threading.Lock()
_model_locks: "WeakKeyDictionary[LanguageModel, FairLock]" = WeakKeyDictionary()


def fair_lock_of(lm: LanguageModel) -> FairLock:
    """Return the fair lock of a language model; there is one for each model."""
    with _creation_lock:
        return _model_locks.setdefault(lm, FairLock())
