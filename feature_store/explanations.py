"""Explanations: a snapshot of the texts that explain features, with who wrote them and where
they come from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.label_index import LabelIndex, normalize_label
from feature_store.records import FeatureId
from feature_store.strict_json import parse_json

EXPLANATION_SCHEMA = pa.schema(
    [
        ("explanation", pa.int64()),
        ("dictionary", pa.string()),
        ("feature", pa.int32()),
        ("text", pa.string()),
        ("explainer", pa.string()),
        ("model", pa.string()),
        ("author", pa.string()),
        ("provenance", pa.string()),
        ("withdrawn", pa.bool_()),
        ("created", pa.timestamp("us")),
    ]
)
EXPLANATION_KEY = "dictionary, feature, text, explainer, model"
"""Columns that identify an explanation: of several rows with the same values the newest is in
force."""
PERSON = "person"
"""Name of the explainer and of the author of an explanation that a person wrote in Saefari."""
LABELS_AS_EXPLANATIONS = f"""
    SELECT -first AS explanation, dictionary, feature, value AS text, '{PERSON}' AS explainer,
           '' AS model, '{PERSON}' AS author, '{{"source":"saefari","label":true}}' AS provenance,
           false AS withdrawn, created
    FROM (
        SELECT *, min(annotation) OVER (PARTITION BY dictionary, feature, value) AS first
        FROM annotation WHERE kind = 'label'
        QUALIFY row_number() OVER (PARTITION BY dictionary, feature ORDER BY annotation DESC) = 1
    ) WHERE value <> '' ORDER BY dictionary, feature
"""


@dataclass(frozen=True)
class Explanation:
    """One explanation: a text that says when a feature fires."""

    explanation: int
    """Number of the explanation; a label read as an explanation has minus the number of the
    annotation that first gave it."""
    dictionary: str
    feature: int
    text: str
    explainer: str
    """Method that wrote the explanation; empty if unknown."""
    model: str
    """Language model that wrote the explanation; empty for a person or if unknown."""
    author: str
    """Kind of the explanation's author: `model` or `person`."""
    provenance: str
    """JSON object: `source` (`neuronpedia`, `delphi`, …) and what that source records about the
    explanation."""
    withdrawn: bool
    created: datetime
    """Time at which the explanation was added to this store, UTC."""

    @property
    def source(self) -> str:
        """Source of the explanation, such as `neuronpedia`; empty if its provenance names none."""
        said = parse_json(self.provenance)
        return str(said.get("source", "")) if isinstance(said, dict) else ""


@dataclass(frozen=True)
class Explanations:
    """Snapshot of the explanations in force, sorted by dictionary and feature, newest last."""

    table: pa.Table = field(default_factory=EXPLANATION_SCHEMA.empty_table)
    """The explanations in force as an Arrow table with the columns of EXPLANATION_SCHEMA."""
    last: tuple[int, int] = (0, 0)
    """Number of explanation rows in the catalog and the number of the newest, to notice changes."""

    @classmethod
    def read(
        cls, db: duckdb.DuckDBPyConnection, former: "Explanations | None" = None
    ) -> "Explanations":
        """Read all explanations in force from an open catalog; return `former` itself if none
        was added since."""
        query = "SELECT count(*), coalesce(max(explanation), 0) FROM explanation"
        (last,) = db.execute(query).fetchall()
        if former is not None and former.last == last:
            return former
        names = ", ".join(EXPLANATION_SCHEMA.names)
        table = db.sql(
            f"SELECT {names} FROM explanation "
            f"QUALIFY row_number() OVER (PARTITION BY {EXPLANATION_KEY} ORDER BY explanation "
            f"DESC) = 1"
        )
        kept = table.filter("NOT withdrawn").order("dictionary, feature, explanation")
        return cls(kept.to_arrow_table().cast(EXPLANATION_SCHEMA), last)

    @classmethod
    def read_labels(cls, db: duckdb.DuckDBPyConnection, written: "Explanations") -> "Explanations":
        """Read people's labels in force from an open catalog as explanations whose explainer is
        PERSON.

        Labels that repeat an explanation in `written` word for word are left out. A label that was
        withdrawn and given again keeps its number, and so its scores.
        """
        labels = db.sql(LABELS_AS_EXPLANATIONS).to_arrow_table().cast(EXPLANATION_SCHEMA)
        key = ["dictionary", "feature"]
        mine, theirs = (one.select([*key, "text"]) for one in (labels, written.table))
        both = mine.append_column("explanation", labels["explanation"]).join(
            theirs, key, join_type="inner", right_suffix=" written"
        )
        rows = zip(
            *(both[n].to_pylist() for n in ("explanation", "text", "text written")), strict=True
        )
        twice = [
            number
            for number, label, text in rows
            if normalize_label(label) == normalize_label(text)
        ]
        return cls(labels.filter(pa.array(~np.isin(labels["explanation"].to_numpy(), twice))))

    def of_feature(self, feature: FeatureId) -> list[Explanation]:
        """Return the explanations of one feature, newest first."""
        low, high = self._range(feature.dictionary)
        here = np.searchsorted(self._features[low:high], [feature.index, feature.index + 1])
        rows: list[dict[str, Any]] = self.table.slice(low + here[0], here[1] - here[0]).to_pylist()
        return [Explanation(**row) for row in reversed(rows)]

    def of_dictionary(self, dictionary: str) -> Iterator[Explanation]:
        """Yield the explanations of a dictionary in the order of features, oldest first."""
        low, high = self._range(dictionary)
        for batch in self.table.slice(low, high - low).to_batches(1024):
            yield from (Explanation(**row) for row in batch.to_pylist())

    def texts_by_feature(self, dictionary: str) -> dict[int, list[str]]:
        """Return the texts of a dictionary's explanations: feature -> texts, newest first."""
        low, high = self._range(dictionary)
        part = self.table.slice(low, high - low)
        found: dict[int, list[str]] = {}
        rows = zip(part["feature"].to_pylist(), part["text"].to_pylist(), strict=True)
        for feature, text in rows:
            found.setdefault(feature, []).insert(0, text)
        return found

    @cached_property
    def newest(self) -> pa.Table:
        """The newest explanation of each feature that has one: columns dictionary, feature and
        value."""
        names, features = self.table["dictionary"], self.table["feature"].to_numpy()
        codes = names.combine_chunks().dictionary_encode().indices.to_numpy()
        last = np.ones(len(features), dtype=bool)
        last[:-1] = (features[1:] != features[:-1]) | (codes[1:] != codes[:-1])
        rows = self.table.filter(pa.array(last)).select(["dictionary", "feature", "text"])
        return rows.rename_columns(["dictionary", "feature", "value"])

    @cached_property
    def text_index(self) -> LabelIndex:
        """Word index of all explanation texts, built once for this snapshot."""
        rows = self.table
        features = zip(rows["dictionary"].to_pylist(), rows["feature"].to_pylist(), strict=True)
        return LabelIndex(list(features), rows["text"].to_pylist())

    def _range(self, dictionary: str) -> tuple[int, int]:
        return self._bounds.get(dictionary, (0, 0))

    @cached_property
    def _features(self) -> np.ndarray:
        return self.table["feature"].to_numpy()

    @cached_property
    def _bounds(self) -> dict[str, tuple[int, int]]:
        names = np.array(self.table["dictionary"].to_pylist(), dtype=object)
        if not len(names):
            return {}
        starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]]).tolist()
        ends = [*starts[1:], len(names)]
        return {names[low]: (low, high) for low, high in zip(starts, ends, strict=True)}


@dataclass(frozen=True)
class ScorableExplanations:
    """All texts about features that can be scored: explanations, and people's labels read as
    explanations."""

    written: Explanations = field(default_factory=Explanations)
    labels: Explanations = field(default_factory=Explanations)
    """People's labels as `Explanations.read_labels` reads them."""

    @cached_property
    def table(self) -> pa.Table:
        """All scorable explanations with the columns of EXPLANATION_SCHEMA, in no particular
        order."""
        return pa.concat_tables([self.written.table, self.labels.table])

    def of_feature(self, feature: FeatureId) -> list[Explanation]:
        """Return the scorable explanations of one feature: its label first, then explanations,
        newest first."""
        return [*self.labels.of_feature(feature), *self.written.of_feature(feature)]

    def explainers(self, dictionary: str) -> set[str]:
        """Return the names of the explainers that wrote explanations of a dictionary's features."""
        rows = self.table.filter(pc.field("dictionary") == dictionary)
        return set(rows["explainer"].unique().to_pylist())

    def of_dictionary(self, dictionary: str) -> Iterator[Explanation]:
        """Yield the scorable explanations of a dictionary: all written ones, then all labels."""
        yield from self.written.of_dictionary(dictionary)
        yield from self.labels.of_dictionary(dictionary)
