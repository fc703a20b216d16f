"""Label index: texts about features (labels or explanations), looked up by feature or searched
by words; and the normal form of a label."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from feature_store.word_index import WordIndex

NAME_LENGTH = 60
"""Maximum number of characters of a feature's name in a list."""
LABEL_LENGTH = 200
"""Maximum number of characters of a feature's label."""
SPACE_PATTERN = r"[\x{9}-\x{d}\x{1c}-\x{20}\x{85}\pZ]+"
"""Regular expression, in DuckDB's syntax, for the white space that `str.split` splits at."""


def normalize_label(text: str) -> str:
    """Return a text in the form of a label: on one line and at most LABEL_LENGTH characters
    long."""
    return " ".join(text.split())[:LABEL_LENGTH].rstrip()


def normalize_label_sql(column: str) -> str:
    """Return the SQL expression that normalizes a column like `normalize_label`."""
    one_line = f"trim(regexp_replace({column}, '{SPACE_PATTERN}', ' ', 'g'))"
    return f"rtrim(left({one_line}, {LABEL_LENGTH}))"


class LabelIndex:
    """Index of labels or explanations: looked up by feature, searched by words."""

    def __init__(self, features: list[tuple[str, int]], texts: list[str]) -> None:
        """Build the label index of `texts`, each about the feature (dictionary, index) in
        `features`."""
        self._features, self._texts = features, texts
        self._dictionaries = np.array([name for name, _ in features], dtype=object)
        self._by_feature = dict(zip(features, texts, strict=True))

    @cached_property
    def _index(self) -> WordIndex:
        """Word index of the labels, built at the first search: most pages only look up names."""
        return WordIndex(self._texts)

    def label_of(self, feature: tuple[str, int]) -> str:
        """Return a feature's label; empty if it has none."""
        return self._by_feature.get(feature, "")

    def find(
        self, query: str, dictionaries: Sequence[str], limit: int = 200
    ) -> list[tuple[tuple[str, int], float]]:
        """Search labels by words: ((dictionary, index), score in 0..1) of the features, best
        first."""
        return [(key, score) for key, _, score in self.find_with_text(query, dictionaries, limit)]

    def find_with_text(
        self, query: str, dictionaries: Sequence[str], limit: int = 200
    ) -> list[tuple[tuple[str, int], str, float]]:
        """Search labels by words, with the texts found: ((dictionary, index), text, score), best
        first."""
        among = np.isin(self._dictionaries, list(dictionaries))
        found = self._index.find(query, limit, among)
        return [(self._features[number], self._texts[number], score) for number, score in found]


class FeatureNames(NamedTuple):
    """Displayed names of features: a person's label, or else the newest explanation."""

    labels: LabelIndex
    explained: LabelIndex

    def name_of(self, feature: tuple[str, int]) -> str:
        """Return a feature's displayed name; empty if it has neither a label nor an explanation."""
        return self.labels.label_of(feature) or self.explained.label_of(feature)

    def short_name_of(self, feature: tuple[str, int]) -> str:
        """Return a feature's displayed name, cut to NAME_LENGTH characters: explanations can be
        long."""
        name = self.name_of(feature)
        return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
