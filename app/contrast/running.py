"""What the Contrast page is asked, and the thread that works it out."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from app import export, live
from app.model_cache import forget_frames
from backend.contrast.text_set_contrast import TextSetContrast, contrast_text_sets
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.permissions import require_costly_work_allowed

LINKED = 6_000
"""Characters of all texts together that a link, or the lines of Python, carry."""


@dataclass(frozen=True)
class ContrastQuestion:
    """One comparison: hashable, so that a page knows whether it has the answer."""

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and texts; side a is the first."""
    dictionaries: tuple[str, ...]
    unit: str
    by: str

    @property
    def short(self) -> bool:
        """Whether a link can carry the texts."""
        return sum(len(text) + 1 for _, texts in self.groups for text in texts) <= LINKED


class ContrastCancelled(Exception):
    """The person who asked no longer waits."""


class ContrastRun:
    """A comparison under way. Written by its own thread, read by the page."""

    def __init__(self, engine: Engine, asked: ContrastQuestion) -> None:
        require_costly_work_allowed()
        self.share = 0.0
        """Of the work that is done."""
        self._engine: Engine | None = engine
        """None once it is over: its model may be dropped then."""
        self._asked = asked
        self._result: TextSetContrast | None = None
        self._error: Exception | None = None
        self._stop, self._done = threading.Event(), threading.Event()
        threading.Thread(target=self._work, daemon=True, name="contrast").start()

    def wait(self, seconds: float) -> bool:
        """Whether it is over, after so long at most."""
        return self._done.wait(seconds)

    def cancel(self) -> None:
        """End it at the next batch of documents."""
        self._stop.set()

    def result(self) -> TextSetContrast | None:
        """The answer of a run that is over, None if it was cancelled.

        Raises InputError for texts that cannot be compared, and where the work broke.
        """
        if isinstance(self._error, ContrastCancelled):
            return None
        if isinstance(self._error, InputError):
            raise self._error
        if self._error is not None:
            raise InputError(live.failure(self._error)) from self._error
        return self._result

    def _work(self) -> None:
        asked = self._asked
        try:
            self._result = contrast_text_sets(
                cast(Any, self._engine),
                dict(asked.groups),
                asked.dictionaries,
                unit=cast(Any, asked.unit),
                by=cast(Any, asked.by),
                tick=self._tick,
            )
        except Exception as error:  # a thread's end: the page raises it again
            forget_frames(error)
            self._error = error
        finally:
            self._engine = None
            self._done.set()

    def _tick(self, share: float) -> None:
        self.share = share
        if self._stop.is_set():
            raise ContrastCancelled


def python_lines(store: Path, harvest: str, asked: ContrastQuestion | None) -> str:
    """The same comparison without the page."""
    if asked is None:
        asked = ContrastQuestion((("A", ()), ("B", ())), (), "document", "strength")
    groups = (
        repr({name: list(texts) for name, texts in asked.groups})
        if asked.short
        else repr({name: f"… {len(texts)} texts …" for name, texts in asked.groups})
    )
    first = export.opened(
        store, "from backend.contrast.text_set_contrast import contrast_text_sets"
    )
    first = first.replace(
        "from feature_store",
        "from backend.engine import LocalEngine\n"
        "from backend.model.device import choose_placement\n"
        "from feature_store",
        1,
    )
    return f"""{first}
file = store.harvest({harvest!r})
engine = LocalEngine.load(file, store.places.read_all(), choose_placement())
groups = {groups}
names = {list(asked.dictionaries)!r}
found = contrast_text_sets(engine, groups, names, unit={asked.unit!r}, by={asked.by!r})
table, separation = found.table, found.separation
"""
