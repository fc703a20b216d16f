"""A live text as the pages' components take it: plain data, no Streamlit widgets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st

from app import session
from app.session import Place
from app.tokens import visible
from backend.engine_protocol import LogitLensRow, TextActivations, TokenizedText
from feature_store.harvest_reader import HarvestFile
from feature_store.label_index import FeatureNames
from feature_store.vocabulary import Vocabulary


def tokens(read: TokenizedText, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Each token's visible text, its id, and whether it counts."""
    texts = vocabulary.display(np.array(read.token_ids))
    return [
        {"text": visible(text), "id": token, "counted": counted, "breaks": "\n" in text}
        for text, token, counted in zip(texts, read.token_ids, read.counted, strict=True)
    ]


def active(firing: TextActivations, shown: Sequence[bool]) -> TextActivations:
    """The activations at the positions that are shown."""
    kept = np.array(shown, dtype=bool)[firing.position]
    return TextActivations(firing.position[kept], firing.feature[kept], firing.value[kept])


def dictionary(
    place: Place,
    firing: TextActivations,
    called: FeatureNames,
    toward: TextActivations | None = None,
) -> dict[str, Any]:
    """One dictionary's activations as columns, and what is known of the features that fire.

    With `toward`, gradient × activation of the same triples; those it does not have (BOS) are 0.
    """
    name = place.info.dictionary
    fired = np.unique(firing.feature)
    rows = facts(place.file, place.file.record.id, name).take(fired).to_pylist()
    link = session.href(session.FEATURE, {"harvest": place.file.record.id, "feature": f"{name}/"})
    return {
        "name": name,
        "hook": " + ".join(place.info.read_hooks),
        "link": link,
        "positions": firing.position.tolist(),
        "of": firing.feature.tolist(),
        "values": np.round(firing.value.astype(float), 4).tolist(),
        "toward": None if toward is None else aligned(firing, toward),
        "features": {row["feature"]: known(place, row, called) for row in rows},
    }


def aligned(firing: TextActivations, toward: TextActivations) -> list[float]:
    """The values of `toward` in the order of `firing`."""
    if len(toward.value) == len(firing.value):
        return np.round(toward.value.astype(float), 5).tolist()
    keys = zip(toward.position.tolist(), toward.feature.tolist(), strict=True)
    values = dict(zip(keys, toward.value.tolist(), strict=True))
    mine = zip(firing.position.tolist(), firing.feature.tolist(), strict=True)
    return [round(values.get(key, 0.0), 5) for key in mine]


@st.cache_resource(show_spinner=False, max_entries=16)
def facts(_file: HarvestFile, harvest_id: str, name: str) -> pa.Table:
    """What the lists show of a dictionary's features, by index."""
    return _file.feature_table(name).select(["feature", "max_act", "density", "promoted"])


def known(here: Place, row: Mapping[str, Any], called: FeatureNames) -> dict[str, Any]:
    """What the list shows of a feature beside its activation."""
    vocabulary = here.file.vocabulary
    pieces = (visible(vocabulary.text(token)).strip() for token in row["promoted"] or [])
    return {
        "max": row["max_act"],
        "density": row["density"],
        "promotes": "  ".join(pieces),
        "label": called.name_of((here.info.dictionary, row["feature"])),
    }


def lens(rows: Sequence[LogitLensRow], vocabulary: Vocabulary) -> dict[str, Any]:
    """The logit lens as ids, probabilities, and the text of each id once."""
    ids = np.unique(np.concatenate([row.tokens.ravel() for row in rows]))
    return {
        "texts": {int(i): visible(vocabulary.text(int(i))) for i in ids},
        "rows": [
            {
                "layer": row.layer,
                "tokens": row.tokens.tolist(),
                "probabilities": np.round(row.probabilities.astype(float), 4).tolist(),
            }
            for row in rows
        ],
    }


def table(
    read: TokenizedText, firing: Mapping[str, TextActivations], vocabulary: Vocabulary
) -> pa.Table:
    """Every non-zero activation: one row each, BOS and special tokens too, marked not counted."""
    texts = pa.array([vocabulary.text(token) for token in read.token_ids], pa.string())
    ids, counted = pa.array(read.token_ids, pa.int32()), pa.array(read.counted, pa.bool_())
    parts = []
    for name, one in firing.items():
        position = pa.array(one.position.astype(np.int32))
        parts.append(
            pa.table(
                {
                    "position": position,
                    "token_id": ids.take(position),
                    "token": texts.take(position),
                    "counted": counted.take(position),
                    "dictionary": pa.repeat(name, len(position)).cast(pa.string()),
                    "feature": pa.array(one.feature.astype(np.int32)),
                    "activation": pa.array(one.value.astype(np.float32)),
                }
            )
        )
    return pa.concat_tables(parts)
