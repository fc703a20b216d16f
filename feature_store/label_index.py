"""Texts about features, to be looked up by feature and found by words; and what a label is."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from feature_store.word_index import WordIndex

NAME_LENGTH = 60
"""Characters of a name in a list."""
LABEL_LENGTH = 200
"""Characters of a label at most."""
SPACE_PATTERN = r"[\x{9}-\x{d}\x{1c}-\x{20}\x{85}\pZ]+"
"""What `str.split` takes for space, as DuckDB writes it."""


def normalize_label(text: str) -> str:
    """A text as a label holds it: on one line, and no longer than labels are."""
    return " ".join(text.split())[:LABEL_LENGTH].rstrip()


def normalize_label_sql(column: str) -> str:
    """`as_label` in SQL."""
    one_line = f"trim(regexp_replace({column}, '{SPACE_PATTERN}', ' ', 'g'))"
    return f"rtrim(left({one_line}, {LABEL_LENGTH}))"


class LabelIndex:
    """What features are called, by feature and by words."""

    def __init__(self, features: list[tuple[str, int]], texts: list[str]) -> None:
        """`features` are (dictionary, index), one for each text."""
        self._features, self._texts = features, texts
        self._dictionaries = np.array([name for name, _ in features], dtype=object)
        self._of = dict(zip(features, texts, strict=True))

    @cached_property
    def _index(self) -> WordIndex:
        """Made when words are first looked for: most pages only ask what a feature is called."""
        return WordIndex(self._texts)

    def of(self, feature: tuple[str, int]) -> str:
        """A feature's label; empty without one."""
        return self._of.get(feature, "")

    def find(
        self, query: str, dictionaries: Sequence[str], limit: int = 200
    ) -> list[tuple[tuple[str, int], float]]:
        """((dictionary, index), score in 0..1) of the features with such a label, best first."""
        return [(key, score) for key, _, score in self.matches(query, dictionaries, limit)]

    def matches(
        self, query: str, dictionaries: Sequence[str], limit: int = 200
    ) -> list[tuple[tuple[str, int], str, float]]:
        """The same with the text that was found: ((dictionary, index), text, score)."""
        among = np.isin(self._dictionaries, list(dictionaries))
        found = self._index.find(query, limit, among)
        return [(self._features[number], self._texts[number], score) for number, score in found]


class FeatureNames(NamedTuple):
    """What pages call features: a person's label, else the newest explanation."""

    labels: LabelIndex
    explained: LabelIndex

    def of(self, feature: tuple[str, int]) -> str:
        """A feature's name; empty where nobody said anything."""
        return self.labels.of(feature) or self.explained.of(feature)

    def short(self, feature: tuple[str, int]) -> str:
        """The same within a line: explanations can be long sentences."""
        name = self.of(feature)
        return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
