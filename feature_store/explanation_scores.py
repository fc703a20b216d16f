"""Explanation scores: a snapshot of how well explanations predict their features' activations,
with each score's headline value."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from feature_store.label_index import normalize_label_sql
from feature_store.records import FeatureId

SCORE_SCHEMA = pa.schema(
    [
        ("score", pa.int64()),
        ("explanation", pa.int64()),
        ("dictionary", pa.string()),
        ("feature", pa.int32()),
        ("scorer", pa.string()),
        ("measure", pa.string()),
        ("judge", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int32()),
        ("n_documents", pa.int32()),
        ("note", pa.string()),
        ("hard", pa.float64()),
        ("borrowed", pa.float64()),
        ("constant", pa.float64()),
        ("token", pa.float64()),
        ("failed", pa.int32()),
        ("harvest", pa.string()),
        ("job", pa.string()),
        ("created", pa.timestamp("us")),
    ]
)
NAMES = ", ".join(SCORE_SCHEMA.names)
SCORE_KEY = "explanation, scorer, judge"
"""Columns that identify a score: of several rows with the same values the newest is in force."""
HEADLINE_SCORER = "detection"
"""The scorer whose score is shown in the table of features."""
BEST_SCORE_QUERY = f"""
    SELECT dictionary, feature, max(scored.value) AS value FROM scored
    JOIN explained USING (explanation, dictionary, feature)
    LEFT JOIN (FROM said WHERE kind = 'label') AS label USING (dictionary, feature)
    WHERE scorer = ? AND scored.value IS NOT NULL
    GROUP BY dictionary, feature, explanation
    QUALIFY row_number() OVER (
        PARTITION BY dictionary, feature
        ORDER BY bool_or(CASE WHEN label.value IS NULL THEN false
                         ELSE {normalize_label_sql("label.value")}
                              = {normalize_label_sql("explained.text")}
                         END) DESC, explanation DESC
    ) = 1
"""


@dataclass(frozen=True)
class ExplanationScore:
    """Score of one explanation; `score_storage.read_score_details` reads what it was computed
    from."""

    score: int
    explanation: int
    dictionary: str
    feature: int
    scorer: str
    measure: str
    judge: str
    """Judge of the score: `pattern`, or the language model's name."""
    value: float | None
    """Value of the score; None if there is none, and then `note` says why."""
    low: float | None
    high: float | None
    n: int
    """Number of judgements that the score is computed from; of the smaller class where there are
    two classes."""
    n_documents: int
    note: str
    hard: float | None
    """The same score computed with hard negatives, where the scorer has them."""
    borrowed: float | None
    """Score that another feature's explanation got on the same windows; `constant` and `token`
    are the scores of the other baseline labels. None if not measured."""
    constant: float | None
    token: float | None
    failed: int
    """Number of items without a usable answer, which the score leaves out."""
    harvest: str
    job: str
    created: datetime


@dataclass(frozen=True)
class Scores:
    """Snapshot of the explanation scores in force, sorted by dictionary, feature and
    explanation."""

    table: pa.Table = field(default_factory=SCORE_SCHEMA.empty_table)
    """The scores in force as an Arrow table with the columns of SCORE_SCHEMA."""
    last: tuple[int, int] = (0, 0)
    """Number of score rows in the catalog and the number of the newest, to notice changes."""

    @classmethod
    def read(cls, db: duckdb.DuckDBPyConnection, former: "Scores | None" = None) -> "Scores":
        """Read all explanation scores in force from an open catalog; return `former` itself if
        none was added since."""
        (last,) = db.execute("SELECT count(*), coalesce(max(score), 0) FROM score").fetchall()
        if former is not None and former.last == last:
            return former
        table = db.sql(
            f"SELECT {NAMES} FROM score SEMI JOIN "
            f"(SELECT max(score) AS score FROM score GROUP BY {SCORE_KEY}) USING (score) "
            "ORDER BY dictionary, feature, explanation, score"
        )
        return cls(table.to_arrow_table().cast(SCORE_SCHEMA), last)

    def of_feature(self, feature: FeatureId) -> list[ExplanationScore]:
        """Return the scores of a feature's explanations, by explanation."""
        low, high = self._bounds.get(feature.dictionary, (0, 0))
        here = np.searchsorted(self._features[low:high], [feature.index, feature.index + 1])
        rows: list[dict[str, Any]] = self.table.slice(low + here[0], here[1] - here[0]).to_pylist()
        return [ExplanationScore(**row) for row in rows]

    @property
    def dictionaries(self) -> list[str]:
        """Names of the dictionaries whose explanations have any score."""
        return list(self._bounds)

    def of_dictionary(self, dictionary: str) -> pa.Table:
        """Return the explanation scores of a dictionary, by feature."""
        low, high = self._bounds.get(dictionary, (0, 0))
        return self.table.slice(low, high - low)

    def select_best(
        self, db: duckdb.DuckDBPyConnection, explained: pa.Table, said: pa.Table
    ) -> pa.Table:
        """Return one score by HEADLINE_SCORER per feature, columns dictionary, feature, value: that
        of the label in force, or else of the newest explanation that has a score; of several judges
        the best.

        `explained` holds the explanations in force, `said` the annotations in force. An explanation
        that begins with the label's text counts as the label.
        """
        tables = {"scored": self.table, "explained": explained, "said": said}
        for name, table in tables.items():
            db.register(name, table)
        found = db.sql(BEST_SCORE_QUERY, params=[HEADLINE_SCORER]).to_arrow_table()
        for name in tables:
            db.unregister(name)
        return found

    @cached_property
    def _features(self) -> np.ndarray:
        return self.table["feature"].to_numpy()

    @cached_property
    def _bounds(self) -> dict[str, tuple[int, int]]:
        names = self.table["dictionary"].combine_chunks().dictionary_encode()
        codes = names.indices.to_numpy()
        if not len(codes):
            return {}
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]).tolist()
        ends = [*starts[1:], len(codes)]
        return {
            names.dictionary[codes[low]].as_py(): (low, high)
            for low, high in zip(starts, ends, strict=True)
        }
