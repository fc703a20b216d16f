"""A dictionary's map with what the page says of its points: numbers, tokens, labels, clusters."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
import pyarrow as pa

from app.tokens import visible
from app.wording import measure, share
from feature_store.annotations import Annotations
from feature_store.feature_maps import FeatureMap
from feature_store.feature_table import read_feature_rows
from feature_store.harvest_reader import HarvestFile

NUMBERS = (
    "density",
    "max_act",
    "score",
    "top_token_share",
    "mean_position",
    "encoder_decoder_cosine",
)
"""Columns of the store that points can be coloured by."""

SHORT = 22
"""Characters of a name in the picture; of a label in the hover three times as many."""


@dataclass(frozen=True)
class Cluster:
    """Points that stand together, and what most of them have in common."""

    number: int
    members: np.ndarray
    """Positions among the points, int64."""
    name: str
    """The token that most members promote among their first five, or the most common label where
    that is more common."""
    sharing: int
    """How many members do, or have it."""


@dataclass(frozen=True)
class Points:
    """Everything in the order of the map's points."""

    map: FeatureMap
    numbers: dict[str, np.ndarray]
    """float64 [n], NaN where absent; by the names of NUMBERS."""
    promoted: list[list[str]]
    """Up to five tokens, as text."""
    fires_on: list[str]
    labels: list[str]
    """Empty without one."""

    @classmethod
    def read(cls, file: HarvestFile, made: FeatureMap, said: Annotations) -> "Points":
        """The points of a map, as the harvest and the annotations describe them."""
        names = [*NUMBERS, "promoted", "top_token", "label"]
        found = read_feature_rows(file, made.about.dictionary, made.feature, names, said)
        texts = texts_of(file, found)
        return cls(
            made,
            {name: found.column(name).to_numpy().astype(float) for name in NUMBERS},
            [[texts[i] for i in ids or []] for ids in found.column("promoted").to_pylist()],
            [texts.get(i, "") for i in found.column("top_token").to_pylist()],
            [label or "" for label in found.column("label").to_pylist()],
        )

    @cached_property
    def clusters(self) -> list[Cluster]:
        """The clusters, largest first."""
        order = np.argsort(self.map.cluster, kind="stable")
        numbers = self.map.cluster[order]
        found = []
        for number in range(int(numbers.max(initial=-1)) + 1):
            low, high = np.searchsorted(numbers, [number, number + 1])
            found.append(self.named(number, order[low:high]))
        return found

    @cached_property
    def told(self) -> list[str]:
        """What each point says of itself, as Plotly's markup with every text escaped."""
        return [self.told_of(i) for i in range(len(self.labels))]

    def told_of(self, i: int) -> str:
        """Index, label, tokens and numbers of a point, in lines."""
        label = [cut(self.labels[i], 3 * SHORT)] if self.labels[i] else []
        tokens = cut("  ".join(self.promoted[i]), 3 * SHORT)
        density, largest = self.numbers["density"][i], self.numbers["max_act"][i]
        facts = f"density {share(density)}, max {measure(largest)}"
        return "<br>".join([f"<b>{self.map.feature[i]}</b>", *label, f"promotes {tokens}", facts])

    def named(self, number: int, members: np.ndarray) -> Cluster:
        """A cluster by what is most common in it; of equals the first promoted."""
        tokens = Counter(text for i in members for text in dict.fromkeys(self.promoted[i]))
        labels = Counter(self.labels[i] for i in members if self.labels[i])
        quoted = [(n, f"“{text}”") for text, n in tokens.most_common(1)]
        most = max([*labels_first(labels), *quoted], key=lambda one: one[0], default=(0, ""))
        name = most[1] if most[0] > 1 else f"cluster {number + 1}"  # one member names nothing
        return Cluster(number, members, name, most[0])

    def matching(self, words: str) -> np.ndarray:
        """Which points have the words in their label or among their tokens, or are that feature;
        bool [n], none for no words."""
        wanted = words.strip().lower()
        if not wanted:
            return np.zeros(len(self.labels), dtype=bool)
        if wanted.isdecimal():
            return self.map.feature == int(wanted)
        texts = zip(self.labels, self.fires_on, self.promoted, strict=True)
        return np.array(
            [any(wanted in text.lower() for text in (a, b, *more)) for a, b, more in texts]
        )


def cut(text: str, length: int) -> str:
    """Text of at most so many characters, without markup."""
    return escape(text if len(text) <= length else text[: length - 1] + "…")


def texts_of(file: HarvestFile, found: pa.Table) -> dict[int, str]:
    """Every token that is needed, as text, once."""
    lists = found.column("promoted").to_pylist()
    ids = {i for several in lists for i in several or []}
    ids |= {i for i in found.column("top_token").to_pylist() if i is not None}
    text = file.vocabulary.text
    return {i: visible(text(i)) for i in ids}


def labels_first(labels: Counter[str]) -> list[tuple[int, str]]:
    """The most common label, where at least two have it: one member's name is no cluster's."""
    return [(n, text) for text, n in labels.most_common(1) if n > 1]
