"""The pool of random windows, read once a dictionary and kept for every page."""

import streamlit as st

from app.session import Place
from feature_store import pool
from feature_store.pool import Pool
from feature_store.reader import HarvestFile


def of(place: Place) -> Pool:
    """A dictionary's part of the pool."""
    return named(place.file, place.info.dictionary)


def named(file: HarvestFile, dictionary: str) -> Pool:
    """The same for a dictionary by its name."""
    return _read(file, file.record.id, dictionary)


@st.cache_resource(show_spinner=False, max_entries=32)
def _read(_file: HarvestFile, harvest_id: str, dictionary: str) -> Pool:
    return pool.read(_file, dictionary)
