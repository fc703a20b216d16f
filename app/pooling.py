"""The pool of random windows, read once a dictionary and kept for every page."""

import streamlit as st

from app.session import Place
from feature_store import window_pool
from feature_store.harvest_reader import HarvestFile
from feature_store.window_pool import WindowPool


def of(place: Place) -> WindowPool:
    """A dictionary's part of the pool."""
    return named(place.file, place.info.dictionary)


def named(file: HarvestFile, dictionary: str) -> WindowPool:
    """The same for a dictionary by its name."""
    return _read(file, file.record.id, dictionary)


@st.cache_resource(show_spinner=False, max_entries=32)
def _read(_file: HarvestFile, harvest_id: str, dictionary: str) -> WindowPool:
    return window_pool.read_pool(_file, dictionary)
