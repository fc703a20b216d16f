"""The model behind live pages: loaded at first need in the background, kept within a budget.

Browsing never waits for torch; a page that needs the model says what it is waiting for and goes on
by itself. An engine is lent: whoever lets go of it lets its model be dropped for another.
"""

import copy
import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import streamlit as st

from app import session
from app.model_cache import ModelCache
from backend.engine_protocol import Engine
from backend.model.memory_budget import format_memory_size, model_memory_budget
from backend.model.model_source_checks import expected_weight_bytes
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile

if TYPE_CHECKING:
    from backend.dictionaries.dictionary_table import DictionaryTable
    from backend.engine import LocalEngine

POLL_S = 0.4
SAID_FROM = 20_000_000
"""Bytes of dictionaries whose loading is said: less is there before one has read the line."""


class _Visit(threading.local):
    """The engines that a page's run has been lent, kept until it ends."""

    engines: "dict[str, LocalEngine] | None" = None


_visit = _Visit()


@st.cache_resource(show_spinner=False)
def models() -> ModelCache:
    """The models of this process."""
    return ModelCache(_budget, freed=_collect, loaded=gc.freeze)


def _budget() -> int:
    """The bytes that models may take: see --model-memory. In the loading thread."""
    from backend.model.device import read_device_memory

    return model_memory_budget(read_device_memory())


def _collect() -> None:
    """Free what a dropped model held: its parts refer to each other, and are frozen (see `models`:
    what libraries and models brought is spared by every other collection)."""
    from backend.generation.generation_run import free_device_memory

    gc.unfreeze()
    free_device_memory()
    gc.freeze()


@contextmanager
def visit() -> Iterator[None]:
    """Around a page's run: an engine that it was lent stays with it until the run ends, however
    many of its parts ask."""
    _visit.engines = {}
    try:
        yield
    finally:
        _visit.engines = None


def ask(file: HarvestFile, *, quiet: bool = False) -> "LocalEngine | None":
    """The engine of a harvest if it is loaded; else it is on its way, and nothing is said.

    Raises what went wrong with loading it, once; with `quiet` None stands for that, too.
    """
    record = file.record
    held = _visit.engines or {}
    if record.id in held:
        return held[record.id]
    places, speeds = session.store().places.read_all(), session.store().speeds

    def load() -> tuple[object, int]:
        from backend.engine import LocalEngine
        from backend.model.device import choose_placement
        from backend.model.model_speed import measure_and_store_speed

        first = LocalEngine.load(file, places, choose_placement())
        measure_and_store_speed(speeds, first.lm)
        return first.lm, first.model_bytes

    key, cache = record.model_hash, models()
    size = 0 if key in cache.kept() else expected_weight_bytes(places.get(key, ""))
    lease = cache.ask(key, record.id, load, size=size, quiet=quiet)
    if lease is None:
        return None
    from backend.engine import LocalEngine

    lm = lease.value
    engine = copy.copy(LocalEngine.load(file, places, lm.placement, lm))
    engine.lease = lease
    if _visit.engines is not None:
        _visit.engines[record.id] = engine
    return engine


def engine(file: HarvestFile) -> Engine:
    """The engine of a harvest; until it is loaded the page says so and stops here."""
    found = ready(file)
    if found is None:
        st.stop()
    return found


def ready(file: HarvestFile, about: Sequence[str] = ()) -> Engine | None:
    """The engine of a harvest; None, and a line that says what is waited for, while it is loading.

    Dictionaries that it is to be asked `about` are loaded, too, and a line says so meanwhile.
    Raises InputError when this machine does not have the harvest's weights.
    """
    try:
        found = ask(file)
    except InputError:
        raise
    except Exception as error:
        raise RuntimeError("loading the model failed") from error
    if found is None:
        wait(file.record.model_hash)
        return None
    with dictionaries_said(found, about):
        for name in about:
            _ = found.dictionaries[name]
    return found


def at_hand(file: HarvestFile) -> Engine | None:
    """The engine of a harvest if it is loaded; else it is on its way, and nothing is said."""
    try:
        return ask(file, quiet=True)
    except InputError:  # a dictionary's place is not known: `ready` says so
        return None


@st.fragment(run_every=POLL_S)
def wait(model_hash: str) -> None:
    """Say what is waited for, and run the page again when it is over."""
    if models().poll(model_hash):
        st.rerun()
    said = f"{models().describe_wait(model_hash)} Browsing goes on meanwhile."
    st.caption(session.literal(said))


@contextmanager
def dictionaries_said(found: Engine, names: Sequence[str]) -> Iterator[None]:
    """Around work that reads dictionaries: a line that says which of them are being loaded, where
    that may take a while. Not within a cached function."""
    table = cast("LocalEngine", found).dictionaries
    size = table.unloaded_bytes(names)
    if size < SAID_FROM:
        yield
        return
    line = st.empty()
    line.caption(session.literal(loading_line(table, names, size)))
    try:
        yield
    finally:
        line.empty()


def loading_line(table: "DictionaryTable", names: Sequence[str], size: int) -> str:
    """What is being loaded, how large it is, and why it has to be loaded again each time, if so."""
    what = f"the dictionary {names[0]}" if len(names) == 1 else f"{len(names)} dictionaries"
    said = f"Loading {what}: {format_memory_size(size)}."
    if size > table.budget:
        kept = format_memory_size(table.budget)
        said += f" They are read in turn: {kept} of them are kept (--dictionary-memory)."
    return said


def failure(error: Exception) -> str:
    """What a person can do about a run of the model that broke."""
    if "OutOfMemory" in type(error).__name__ or "out of memory" in str(error):
        gc.collect()
        return "The machine is out of memory. Ask for less at once; others go on as before."
    return f"The run failed: {type(error).__name__}: {error}"
