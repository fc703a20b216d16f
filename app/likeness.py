"""Features of two dictionaries that are said to be the same: explanations compared by meaning."""

import os
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import streamlit as st

from app.meaning import SETTING, Key, Shelf, chosen, indexed
from autointerp.text_embeddings import nearest_rows
from feature_store.annotations import Annotations
from feature_store.harvest_reader import HarvestFile

LABELS = "labels"
"""The source that is people's labels."""


@dataclass(frozen=True)
class Likeness:
    """The most alike feature of another dictionary for each feature that has words there."""

    mine: np.ndarray
    """Features, int64 [n]."""
    theirs: np.ndarray
    """The other dictionary's most alike one of each, int64 [n]."""
    cosine: np.ndarray
    """Of the two texts, float32 [n]."""
    texts: list[tuple[str, str]]
    said: str
    """Who embedded."""


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The embedder and index of this kind of question, apart from those of the search."""
    return Shelf()


def explainers(annotations: Annotations, name: str) -> set[str]:
    """Who has explained features of a dictionary."""
    rows = annotations.explanations.table.filter(pc.field("dictionary") == name)
    return set(rows["explainer"].unique().to_pylist())


def sources(annotations: Annotations, names: list[str]) -> list[str]:
    """Explainers who wrote about features of each of these dictionaries, and LABELS where people
    named some in each: only what one source says of both can be compared."""
    both = sorted(set.intersection(*(explainers(annotations, name) for name in names)))
    kinds = annotations.in_force.filter(pc.field("kind") == "label")
    labelled = set(kinds["dictionary"].unique().to_pylist())
    return [*both, *([LABELS] if labelled.issuperset(names) else [])]


def words_of(annotations: Annotations, names: list[str], source: str) -> dict[Key, str]:
    """Feature → what a source says of it, the newest; of some dictionaries."""
    if source == LABELS:
        rows = annotations.in_force.filter(pc.field("kind") == "label").to_pylist()
        found = {(row["dictionary"], row["feature"]): row["value"] for row in rows}
        return {key: text for key, text in found.items() if key[0] in names}
    return {
        (name, one.feature): one.text
        for name in names
        for one in annotations.explanations.of_dictionary(name)  # oldest first
        if one.explainer == source
    }


def match(
    file: HarvestFile, annotations: Annotations, name: str, other: str, source: str
) -> Likeness:
    """Every feature of `name` with words, and the feature of `other` whose words are most alike;
    progress is shown. InputError where the embedding model that was asked for cannot be had."""
    texts = words_of(annotations, [name, other], source)
    kept, wanted = shelf(), os.environ.get(SETTING, "").strip()
    place = st.empty()
    with kept.lock:
        embedder = chosen(kept, wanted)
        source = wanted if embedder else f"harvest {file.record.id}"
        index = indexed(kept, source, embedder, file, list(texts.values()), place.caption)
        vectors, said = index.vectors(), index.embedder.name
    place.empty()
    keys = list(texts)
    here = np.array([i for i, key in enumerate(keys) if key[0] == name], np.int64)
    there = np.array([i for i, key in enumerate(keys) if key[0] == other], np.int64)
    best, cosine = nearest_rows(vectors[here], vectors[there])
    known = np.flatnonzero(best >= 0)
    here, there = here[known], there[best[known]]
    features = np.array([feature for _, feature in keys], np.int64)
    pairs = [(texts[keys[a]], texts[keys[b]]) for a, b in zip(here, there, strict=True)]
    return Likeness(features[here], features[there], cosine[known], pairs, said)
