"""The order of a dictionary's features under a choice: the way through its table."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.filters import Choice
from app.session import Place
from feature_store import feature_table
from feature_store.annotations import Annotations
from feature_store.feature_table import FeatureQuery
from feature_store.harvest_reader import HarvestFile

PAGE = 100
"""Rows of a page of the table."""


@dataclass(frozen=True)
class Step:
    """Where a feature stands in an order, and what is beside it."""

    total: int
    number: int | None
    """From 1 on; None for a feature that is not in it."""
    before: int | None
    after: int | None


def features(place: Place, choice: Choice, said: Annotations) -> np.ndarray:
    """The indices of the features that pass, int32, in order."""
    wanted = choice.whole
    # rows are only ever added, so their numbers say whether there are new ones
    version = (said.all_rows.num_rows, *said.scores.last) if wanted.kinds else ()
    return _features(
        place.file, place.file.record.id, place.info.dictionary, repr(wanted), version, wanted, said
    )


@st.cache_resource(show_spinner=False, max_entries=32)
def _features(
    _file: HarvestFile,
    harvest_id: str,
    dictionary: str,
    asked: str,
    version: tuple[int, ...],
    _wanted: FeatureQuery,
    _said: Annotations,
) -> np.ndarray:
    return feature_table.order_features(_file, dictionary, _wanted, _said)


def step(order: np.ndarray, feature: int) -> Step:
    """Where `feature` stands; one outside is led to the next higher and lower number inside."""
    at = np.flatnonzero(order == feature)
    if len(at):
        i = int(at[0])
        after = int(order[i + 1]) if i + 1 < len(order) else None
        return Step(len(order), i + 1, int(order[i - 1]) if i else None, after)
    lower, higher = order[order < feature], order[order > feature]
    return Step(
        len(order),
        None,
        int(lower.max()) if len(lower) else None,
        int(higher.min()) if len(higher) else None,
    )
