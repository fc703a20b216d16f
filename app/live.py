"""The model behind live pages: loaded at first need in the background, one per process.

Browsing never waits for torch; a page that needs the model says that it is loading and goes on by
itself.
"""

import gc
import threading
from dataclasses import dataclass, field

import streamlit as st

from app import session
from backend.live import Engine
from feature_store.errors import InputError
from feature_store.reader import HarvestFile

POLL_S = 0.4


@dataclass
class Loading:
    """An engine on its way. Written by its own thread, read by pages."""

    engine: Engine | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


@st.cache_resource(show_spinner=False, max_entries=1)
def loading(_file: HarvestFile, harvest_id: str) -> Loading:
    """Begin to load the model and dictionaries of a harvest; the one before is let go."""
    found = Loading()
    places = session.store().places.known()

    def load() -> None:
        try:
            from backend.device import choose_placement
            from backend.engine import LocalEngine

            found.engine = LocalEngine.load(_file, places, choose_placement())
        except Exception as error:  # a thread's end: the page raises it again
            found.error = error
        finally:
            gc.freeze()  # what the libraries brought stays: no collection looks at it again
            found.done.set()

    threading.Thread(target=load, daemon=True, name=f"load {harvest_id}").start()
    return found


def engine(file: HarvestFile) -> Engine:
    """The engine of a harvest; until it is loaded the page says so and stops here."""
    found = ready(file)
    if found is None:
        st.stop()
    return found


def ready(file: HarvestFile) -> Engine | None:
    """The engine of a harvest; None, and a line that says so, while it is loading.

    Raises InputError when this machine does not have the harvest's weights.
    """
    found = loading(file, file.record.id)
    if not found.done.is_set():
        wait(found)
        return None
    if found.error is not None:
        loading.clear()  # whatever was wrong may be mended: the next visit tries again
        if isinstance(found.error, InputError):
            raise found.error
        raise RuntimeError("loading the model failed") from found.error
    assert found.engine is not None, "a load ends with an engine or an error"
    return found.engine


def at_hand(file: HarvestFile) -> Engine | None:
    """The engine of a harvest if it is loaded; else it is on its way, and nothing is said."""
    return loading(file, file.record.id).engine


@st.fragment(run_every=POLL_S)
def wait(found: Loading) -> None:
    """Say what is going on, and run the page again when it is over."""
    if found.done.is_set():
        st.rerun()
    st.caption("Loading the model: some ten seconds, once. Browsing goes on meanwhile.")


def failure(error: Exception) -> str:
    """What a person can do about a run of the model that broke."""
    if "OutOfMemory" in type(error).__name__ or "out of memory" in str(error):
        gc.collect()
        return "The machine is out of memory. Ask for less at once; others go on as before."
    return f"The run failed: {type(error).__name__}: {error}"
