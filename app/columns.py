"""The columns that the table of features can show: one line each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from app.tokens import visible
from app.wording import ABSENT, count, measure, share
from feature_store.errors import pick_by_name
from feature_store.vocabulary import Vocabulary


@dataclass(frozen=True)
class FeatureColumn:
    """How a column of feature_store.feature_table is shown."""

    title: str
    kind: str
    """count, number, share, text, star, token or tokens."""
    hint: str
    usual: bool = True
    """Whether it is shown where nobody chose columns."""


COLUMNS = {
    "feature": FeatureColumn("feature", "index", "its number in the dictionary"),
    "star": FeatureColumn("★", "star", "starred"),
    "label": FeatureColumn("label", "text", "what a person calls it, else its newest explanation"),
    "score": FeatureColumn(
        "score", "number", "detection score of its label, or newest explanation"
    ),
    "promoted": FeatureColumn("promotes", "tokens", "tokens whose logits its decoder raises most"),
    "top_token": FeatureColumn("fires on", "token", "the token with most of its activation"),
    "top_token_share": FeatureColumn("share", "share", "of its activation on that token, sampled"),
    "top_token_n": FeatureColumn(
        "of", "count", "sampled tokens on which it is active", usual=False
    ),
    "density": FeatureColumn("density", "share", "share of tokens on which it is active"),
    "window_density": FeatureColumn("windows", "share", "share of windows in which it is active"),
    "max_act": FeatureColumn("max", "number", "largest activation, special tokens left out"),
    "mean_act": FeatureColumn("mean", "number", "mean activation where it is active"),
    "skew": FeatureColumn("skew", "number", "of the active values"),
    "mean_position": FeatureColumn("position", "number", "mean position where it is active"),
    "logit_kurtosis": FeatureColumn(
        "logit kurt.", "number", "kurtosis of its effects on all logits"
    ),
    "kurtosis": FeatureColumn(
        "kurtosis", "number", "of the active values; 3 if normal", usual=False
    ),
    "std_act": FeatureColumn("std", "number", "of the active values", usual=False),
    "mean_all": FeatureColumn(
        "mean of all", "number", "mean over all tokens, zeros too", usual=False
    ),
    "n_active": FeatureColumn("active on", "count", "tokens on which it is active", usual=False),
    "decoder_norm": FeatureColumn("norm", "number", "of its decoder row", usual=False),
    "encoder_decoder_cosine": FeatureColumn(
        "enc·dec", "number", "cosine of its encoder and decoder", usual=False
    ),
    "bos_act": FeatureColumn(
        "at BOS", "number", "activation at BOS, not counted elsewhere", usual=False
    ),
    "n_contexts": FeatureColumn("contexts", "count", "contexts that the harvest kept", usual=False),
}
"""By the name that the store has for it; in the order shown."""
NUMERIC = ("number", "share", "count", "index")
NAMES = ("feature", "top_token")
"""Numbers that are names: to compare them says nothing."""
UNSORTED = ("promoted",)
SIGNED = ("max_act", "mean_act")
"""Columns that hold the size alone where activations can be negative."""


def usual() -> list[str]:
    """The columns shown where nobody chose any."""
    return [name for name, column in COLUMNS.items() if column.usual]


def chosen(text: str) -> list[str]:
    """`density,max_act` as columns, in our order, with the feature first; the usual for nothing."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        pick_by_name("column", name, COLUMNS)
    return [name for name in COLUMNS if name == "feature" or name in names] if names else usual()


def title(name: str, *, signed: bool) -> str:
    """A column's title; between bars where it is of sizes."""
    text = COLUMNS[name].title
    return f"|{text}|" if signed and name in SIGNED else text


def written(name: str, values: Sequence[Any], vocabulary: Vocabulary) -> list[str]:
    """A column's values as people read them."""
    kind = COLUMNS[name].kind
    if kind == "text":
        return [value or "" for value in values]
    if kind == "star":
        return ["★" if value else "" for value in values]
    if kind == "token":
        return ["" if i is None else visible(vocabulary.text(i)) for i in values]
    if kind == "tokens":
        return ["  ".join(shown(vocabulary.text(i)) for i in ids or []) for ids in values]
    show = {"share": share, "number": measure, "count": counted, "index": str}[kind]
    return [show(value) for value in values]


def spelled(table: pa.Table, vocabulary: Vocabulary) -> pa.Table:
    """The table with the texts of tokens in place of their ids, for who has no vocabulary."""
    for place, name in enumerate(table.column_names):
        kind, values = COLUMNS[name].kind, table[name].to_pylist()
        if kind == "token":
            texts = [None if i is None else vocabulary.text(i) for i in values]
            table = table.set_column(place, name, pa.array(texts, pa.string()))
        elif kind == "tokens":
            lists = [None if ids is None else [vocabulary.text(i) for i in ids] for ids in values]
            table = table.set_column(place, name, pa.array(lists, pa.list_(pa.string())))
    return table


def counted(value: int | None) -> str:
    """A count, or a dash for none."""
    return ABSENT if value is None else count(value)


def shown(text: str) -> str:
    """A token among others in a cell: its leading space is the gap before it."""
    return visible(text.removeprefix(" ") or text)
