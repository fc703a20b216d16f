"""Which features fire on a text: read by the model, ranked over all of it or over part of it."""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import streamlit as st

from app.tokens import visible
from backend.engine_protocol import Engine, TextActivations, TokenizedText
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.label_index import FeatureNames

SORTS = {
    "relative": "÷ its maximum",
    "activation": "activation",
    "rare": "÷ its maximum, rare ones first",
}
"""The orders: name in the URL → in words."""
LIMIT = 200
"""Features shown."""
LONGEST = 8000
"""Characters of a text: a link has to carry it."""
SPAN = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7}))?")


@dataclass(frozen=True)
class Hit:
    """A feature at its strongest in what is selected of a text."""

    dictionary: str
    feature: int
    value: float
    position: int
    max_act: float | None
    """None for a feature that was silent in the whole harvest."""
    density: float

    @property
    def share(self) -> float | None:
        """|activation| ÷ the largest of the harvest; may exceed 1."""
        return abs(self.value) / self.max_act if self.max_act else None

    def rank(self, sort: str) -> float:
        """What it is ordered by; those without a maximum come last where it counts."""
        if sort == "activation":
            return abs(self.value)
        if self.share is None:
            return 0.0
        return self.share * (-np.log(self.density) if sort == "rare" else 1.0)


@st.cache_resource(show_spinner=False, max_entries=8)
def fired(
    _engine: Engine, _read: TokenizedText, harvest_id: str, text: str, names: tuple[str, ...]
) -> dict[str, TextActivations]:
    """What the model says of a text; selecting tokens does not ask it again."""
    return _engine.compute_activations(_read, list(names))


@st.cache_resource(show_spinner=False, max_entries=16)
def measures(_file: HarvestFile, harvest_id: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """max_act (NaN for a silent feature) and density of a dictionary's features, by index."""
    query = "SELECT max_act, density FROM feature WHERE dictionary = ? ORDER BY feature"
    table = _file.rows(query, [name])
    tops = table["max_act"].to_numpy().astype(np.float64)
    return tops, table["density"].to_numpy()


def span(at: str, read: TokenizedText) -> tuple[int, int]:
    """The selected positions, both ends included; all of them without a selection.

    Raises InputError for what is not a position of the text, such as one of a longer text.
    """
    last = len(read.token_ids) - 1
    if not at:
        return 0, last
    found = SPAN.fullmatch(at)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not low <= high <= last:
        raise InputError(f"{at!r} is no position of this text: it has 0 to {last}.")
    return low, high


def strongest(
    file: HarvestFile,
    read: TokenizedText,
    firing: dict[str, TextActivations],
    where: tuple[int, int],
) -> list[Hit]:
    """Every feature that fires on a counted token in `where`, at its strongest there."""
    counted = np.array(read.counted)
    counted[: where[0]] = counted[where[1] + 1 :] = False
    hits = []
    for name, one in firing.items():
        here = counted[one.position] & (one.value != 0)
        position, feature, value = (a[here] for a in (one.position, one.feature, one.value))
        order = np.lexsort((position, -np.abs(value), feature))
        first = order[np.unique(feature[order], return_index=True)[1]]
        tops, densities = measures(file, file.record.id, name)
        for i in first.tolist():
            index = int(feature[i])
            top = None if np.isnan(tops[index]) else float(tops[index])
            hits.append(
                Hit(name, index, float(value[i]), int(position[i]), top, float(densities[index]))
            )
    return hits


def fitting(engine: Engine, text: str) -> str:
    """The longest beginning of a text that the model reads and a link carries, at a word's end."""
    text = text[:LONGEST]
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if reads(engine, text[:middle]) else (low, middle - 1)
    kept = text[:low]
    if low == len(text) or text[low].isspace():
        return kept
    return kept[: len(kept) - len(re.split(r"\s", kept)[-1])].rstrip() or kept


def reads(engine: Engine, text: str) -> bool:
    """Whether a text is within the model's context."""
    try:
        engine.read(text)
    except InputError:
        return False
    return True


def table(
    hits: list[Hit], read: TokenizedText, file: HarvestFile, called: FeatureNames
) -> pa.Table:
    """The page's columns."""
    text = file.vocabulary.display(np.array(read.token_ids))
    shares = [hit.share for hit in hits]
    return pa.table(
        {
            "dictionary": pa.array([hit.dictionary for hit in hits], pa.string()),
            "feature": pa.array([hit.feature for hit in hits], pa.int64()),
            "label": pa.array(
                [called.name_of((h.dictionary, h.feature)) for h in hits], pa.string()
            ),
            "token": pa.array([f"“{visible(text[h.position])}”" for h in hits], pa.string()),
            "position": pa.array([hit.position for hit in hits], pa.int64()),
            "activation": pa.array([hit.value for hit in hits], pa.float64()),
            "share": pa.array([s and 100 * s for s in shares], pa.float64()),
            "density": pa.array([100 * hit.density for hit in hits], pa.float64()),
            "max": pa.array([hit.max_act for hit in hits], pa.float64()),
        }
    )
