"""One search over labels and tokens: what is found, and why, in words."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import streamlit as st

from app.tokens import visible
from app.wording import share
from feature_store.feature_summaries import read_feature_facts
from feature_store.harvest_reader import HarvestFile
from feature_store.label_index import FeatureNames, LabelIndex
from feature_store.token_search import (
    TokenIndex,
    TokenMatch,
    TokenQuery,
    TokenRelation,
    parse_token_query,
)

BY = {
    "all": "label or token",
    "label": "label",
    "meaning": "meaning",
    "fires": "fires on token",
    "promotes": "promotes token",
    "text": "fires on text",
}
"""What is searched: name in the URL → in words."""
TOKENS: dict[str, TokenRelation] = {"all": "both", "fires": "fires", "promotes": "promotes"}
LIMIT = 200
"""Features shown at most."""
LONGEST = 300
"""Characters of a query."""
QUOTED = 120
"""Characters of an explanation that are shown."""
ALIKE = 0.95
"""From this score on a label has the words as they were typed."""


@dataclass
class Found:
    """A feature and why it was found."""

    dictionary: str
    feature: int
    density: float
    max_act: float | None
    label: str = ""
    why: list[str] = field(default_factory=list)
    cosine: float | None = None
    """How near its label is in meaning, where that was asked."""


@st.cache_resource(show_spinner=False, max_entries=2)
def index(_file: HarvestFile, harvest_id: str) -> TokenIndex:
    """Where a harvest's contexts peak; read at the first search."""
    return TokenIndex(_file)


def find(
    query: str,
    by: str,
    file: HarvestFile,
    dictionaries: list[str],
    labels: LabelIndex,
    explained: LabelIndex | None = None,
) -> tuple[list[Found], TokenQuery | None]:
    """At most LIMIT features, those with such a label first, then with such an explanation; and
    which tokens were meant."""
    called = FeatureNames(labels, explained or LabelIndex([], []))
    found: dict[tuple[str, int], Found] = {}
    if by in ("all", "label"):
        scores = dict(labels.find(query, dictionaries, LIMIT))
        facts: dict[tuple[str, int], dict[str, Any]] = read_feature_facts(file, list(scores))
        for key in filter(facts.__contains__, scores):
            why = "label" if scores[key] >= ALIKE else "label, alike"
            found[key] = Found(**facts[key], label=labels.label_of(key), why=[why])
        explain(
            found, explained.find_with_text(query, dictionaries, LIMIT) if explained else [], file
        )
        for key in found:
            found[key].label = called.name_of(key)
    wanted = None
    if by in TOKENS:
        wanted = parse_token_query(query, file.vocabulary)
        matches = index(file, file.record.id).find(wanted.ids, dictionaries, TOKENS[by], LIMIT)
        for match in matches:
            key = (match.dictionary, match.feature)
            one = found.setdefault(
                key, Found(*key, match.density, match.max_act, called.name_of(key))
            )
            one.why += reasons(match, file, by)
    return list(found.values())[:LIMIT], wanted


def explain(
    found: dict[tuple[str, int], Found],
    matches: list[tuple[tuple[str, int], str, float]],
    file: HarvestFile,
) -> None:
    """Add the features whose explanation was found, each with its best one."""
    best: dict[tuple[str, int], tuple[str, float]] = {}
    for key, text, score in matches:
        best.setdefault(key, (text, score))
    facts = read_feature_facts(file, list(best))
    for key in filter(facts.__contains__, best):
        text, score = best[key]
        shown = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
        why = f"explanation{'' if score >= ALIKE else ', alike'}: “{shown}”"
        found.setdefault(key, Found(**facts[key])).why.append(why)


def near(
    nearest: list[tuple[tuple[str, int], float]], file: HarvestFile, called: FeatureNames
) -> list[Found]:
    """Features whose label is near in meaning; those that this harvest lacks are left out."""
    facts = read_feature_facts(file, [key for key, _ in nearest])
    return [
        Found(**facts[key], label=called.name_of(key), cosine=cosine)
        for key, cosine in nearest
        if key in facts
    ]


def reasons(match: TokenMatch, file: HarvestFile, by: str) -> list[str]:
    """How a feature has to do with a token, strongest first."""
    text, said = file.vocabulary.text, []
    if by != "promotes":
        if match.top_token is not None:
            said.append(f"fires on “{visible(text(match.top_token))}”: {share(match.share)} of it")
        if match.peaks:
            said.append(f"{match.peaks} of {match.strong} top contexts peak there")
    if by != "fires" and match.promoted is not None:
        said.append(f"promotes “{visible(text(match.promoted))}” (rank {match.rank})")
    return said


def table(found: list[Found]) -> pa.Table:
    """The results as the page's columns: why, or how near."""
    whys = {"why": pa.array([" · ".join(one.why) for one in found], pa.string())}
    if any(one.cosine is not None for one in found):
        whys = {"cosine": pa.array([one.cosine for one in found], pa.float64())}
    return pa.table(
        {
            "dictionary": pa.array([one.dictionary for one in found], pa.string()),
            "feature": pa.array([one.feature for one in found], pa.int64()),
            "label": pa.array([one.label for one in found], pa.string()),
            **whys,
            "density": pa.array([100 * one.density for one in found], pa.float64()),
            "max": pa.array([one.max_act for one in found], pa.float64()),
        }
    )
