"""All scores of a dictionary, as series: one for each explainer, scorer and judge."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from app.scores import words
from autointerp.scorers import SCORERS
from feature_store.annotations import Annotations
from feature_store.harvest_reader import HarvestFile
from feature_store.score_storage import NULL_LABELS

VALUES = ("value", "low", "high", "hard", *NULL_LABELS, "density")
QUERY = f"""
    SELECT s.score, s.feature, e.explainer, e.model, e.text, s.scorer, s.measure, s.judge, s.note,
           s.failed, {", ".join(f"f.{n}" if n == "density" else f"s.{n}" for n in VALUES)}
    FROM scored s JOIN explained e USING (explanation)
    JOIN feature f ON f.dictionary = s.dictionary AND f.feature = s.feature
    WHERE s.dictionary = ?
    QUALIFY row_number() OVER (
        PARTITION BY s.feature, e.explainer, e.model, s.scorer, s.judge
        ORDER BY s.explanation < 0 DESC, s.explanation DESC, s.score DESC
    ) = 1
    ORDER BY e.explainer, e.model, s.scorer, s.judge, s.feature
"""


@dataclass(frozen=True)
class Series:
    """What one judge said with one scorer of one explainer's newest sentences."""

    by: str
    """The explainer, with its language model."""
    explainer: str
    scorer: str
    judge: str
    measure: str
    feature: np.ndarray
    """Indices, int32 [n], rising."""
    score: np.ndarray
    """Numbers of the scores in the catalog, int64 [n]."""
    text: list[str]
    note: list[str]
    """Why there is no value."""
    failed: np.ndarray
    """Items without a usable answer, int32 [n]."""
    numbers: dict[str, np.ndarray]
    """Each of VALUES: float64 [n], NaN for none."""

    @property
    def value(self) -> np.ndarray:
        """The scores."""
        return self.numbers["value"]

    @property
    def valued(self) -> np.ndarray:
        """Which features have a value, bool [n]."""
        return np.isfinite(self.value)

    @property
    def name(self) -> str:
        """Scorer and judge, where the judge says more than the scorer does."""
        return words.title(self.scorer)


def series(file: HarvestFile, dictionary: str, said: Annotations) -> list[Series]:
    """All series, by explainer and scorer. Of an explainer's several sentences about a feature only
    the newest that was scored counts; of a person's, the label in force."""
    scored = said.scores.of_dictionary(dictionary)
    if not scored.num_rows:
        return []
    tables = {"scored": scored, "explained": said.scorable.table}
    found = file.rows(QUERY, [dictionary], tables)
    if not found.num_rows:
        return []
    keys = [
        found.column(n).combine_chunks().dictionary_encode()
        for n in ("explainer", "model", "scorer", "judge")
    ]
    codes = np.stack([key.indices.to_numpy() for key in keys])
    changes = np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(0)) + 1
    starts = [0, *changes.tolist()]
    ends = [*starts[1:], found.num_rows]
    every = [one(found.slice(a, b - a)) for a, b in zip(starts, ends, strict=True)]
    order = {name: place for place, name in enumerate(SCORERS)}
    return sorted(every, key=lambda s: (s.by, order.get(s.scorer, len(order)), s.scorer, s.judge))


def one(rows: pa.Table) -> Series:
    """The series of rows that differ by feature alone."""
    head: dict[str, Any] = rows.slice(0, 1).to_pylist()[0]
    numbers = {name: rows.column(name).to_numpy().astype(np.float64) for name in VALUES}
    return Series(
        words.by(head["explainer"], head["model"]),
        head["explainer"],
        head["scorer"],
        head["judge"],
        head["measure"],
        rows.column("feature").to_numpy(),
        rows.column("score").to_numpy(),
        rows.column("text").to_pylist(),
        rows.column("note").to_pylist(),
        rows.column("failed").to_numpy(),
        numbers,
    )


def matched(one: Series, other: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features with a value in both, int32 [m], and their places in `one` and in `other`."""
    mine, theirs = np.flatnonzero(one.valued), np.flatnonzero(other.valued)
    features, a, b = np.intersect1d(
        one.feature[mine], other.feature[theirs], assume_unique=True, return_indices=True
    )
    return features, mine[a], theirs[b]
