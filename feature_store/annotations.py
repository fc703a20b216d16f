"""Annotations: a snapshot of all that catalog.duckdb holds about features (labels, notes, stars,
lists, explanations and scores), in memory as Arrow tables."""

from dataclasses import dataclass, field
from functools import cached_property

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.explanation_scores import Scores
from feature_store.explanations import Explanations, ScorableExplanations
from feature_store.feature_lists import FeatureLists
from feature_store.label_index import FeatureNames, LabelIndex
from feature_store.records import Annotation, FeatureId

ANNOTATION_SCHEMA = pa.schema(
    [
        ("annotation", pa.int64()),
        ("dictionary", pa.string()),
        ("feature", pa.int32()),
        ("kind", pa.string()),
        ("value", pa.string()),
        ("created", pa.timestamp("us")),
    ]
)
NAMES = ", ".join(ANNOTATION_SCHEMA.names)
BEST_SCORE_SCHEMA = pa.schema(
    [("dictionary", pa.string()), ("feature", pa.int32()), ("value", pa.float64())]
)
NAME_COLUMNS = ["dictionary", "feature", "value"]
TABLE_NAMES_QUERY = "SELECT table_name FROM duckdb_tables()"


@dataclass(frozen=True)
class Annotations:
    """Snapshot of what the catalog held about features at one moment: annotations (labels, notes
    and stars), feature lists, explanations and their scores. Using it holds no lock on the
    catalog."""

    all_rows: pa.Table
    """All annotation rows, oldest first, with the columns of ANNOTATION_SCHEMA."""
    in_force: pa.Table
    """The newest annotation row of each feature and kind, unless that row withdrew the
    annotation."""
    lists: FeatureLists = field(default_factory=FeatureLists)
    explanations: Explanations = field(default_factory=Explanations)
    scorable: ScorableExplanations = field(default_factory=ScorableExplanations)
    """The explanations together with people's labels: all texts about features that can be
    scored."""
    scores: Scores = field(default_factory=Scores)
    best_scores: pa.Table = field(default_factory=BEST_SCORE_SCHEMA.empty_table)
    """The one score of each feature that tables of features show; see `Scores.select_best`."""

    @classmethod
    def empty(cls) -> "Annotations":
        """Return the annotations of a store without a catalog: every table is empty."""
        return cls(ANNOTATION_SCHEMA.empty_table(), ANNOTATION_SCHEMA.empty_table())

    @classmethod
    def read(
        cls, db: duckdb.DuckDBPyConnection, former: "Annotations | None" = None
    ) -> "Annotations":
        """Read all annotations, lists, explanations and scores from an open catalog.

        Explanations and scores that have not changed since the snapshot `former` are taken from it.
        """
        every = f"SELECT {NAMES} FROM annotation"
        latest = "row_number() OVER (PARTITION BY dictionary, feature, kind ORDER BY annotation)"
        newest = (
            f"{every} QUALIFY {latest} = count(*) OVER (PARTITION BY dictionary, feature, kind)"
        )
        tables = (
            db.sql(f"{every} ORDER BY annotation").to_arrow_table(),
            db.sql(f"FROM ({newest}) WHERE value <> '' ORDER BY ALL").to_arrow_table(),
        )
        said, in_force = (table.cast(ANNOTATION_SCHEMA) for table in tables)
        there = {
            name for (name,) in db.execute(TABLE_NAMES_QUERY).fetchall()
        }  # a read-only one may be old
        lists = FeatureLists.read(db) if "list_entry" in there else FeatureLists()
        explanations = Explanations()
        if "explanation" in there:
            explanations = Explanations.read(db, former.explanations if former else None)
        sentences = ScorableExplanations(explanations, Explanations.read_labels(db, explanations))
        scores, best = Scores(), BEST_SCORE_SCHEMA.empty_table()
        if "score" in there:
            scores = Scores.read(db, former.scores if former else None)
        if scores.table.num_rows:
            best = scores.select_best(db, sentences.table, in_force)
        return cls(said, in_force, lists, explanations, sentences, scores, best)

    def values_of_kind(self, dictionary: str, kind: str) -> pa.Table:
        """Return the annotations in force of one kind in a dictionary, columns feature and value.

        The kinds `score` and `name` give each feature's best score and its displayed name.
        """
        if kind in ("score", "name"):
            rows = self.best_scores if kind == "score" else self.names
            return rows.filter(pc.field("dictionary") == dictionary).select(["feature", "value"])
        wanted = (pc.field("dictionary") == dictionary) & (pc.field("kind") == kind)
        return self.in_force.filter(wanted).select(["feature", "value"])

    @cached_property
    def label_index(self) -> LabelIndex:
        """Index of the labels in force in this snapshot of annotations, by feature and searchable
        by words."""
        rows = self.in_force.filter(pc.field("kind") == "label")
        features = zip(rows["dictionary"].to_pylist(), rows["feature"].to_pylist(), strict=True)
        return LabelIndex(list(features), rows["value"].to_pylist())

    @cached_property
    def names(self) -> pa.Table:
        """Displayed name of each annotated feature (a person's label, or else the newest
        explanation); columns dictionary, feature and value."""
        labels = self.in_force.filter(pc.field("kind") == "label").select(NAME_COLUMNS)
        newest = self.explanations.newest
        rest = newest.join(labels, ["dictionary", "feature"], join_type="left anti")
        return pa.concat_tables([labels, rest.select(NAME_COLUMNS)])

    @property
    def feature_names(self) -> FeatureNames:
        """Lookup from a feature to its displayed name: a person's label, or else the newest
        explanation."""
        return FeatureNames(self.label_index, self.explanation_index)

    @property
    def explanation_index(self) -> LabelIndex:
        """Index of the explanations, searchable by words like labels; a feature may have
        several."""
        return self.explanations.text_index

    def values_of_feature(self, feature: FeatureId) -> dict[str, str]:
        """Return the annotations in force of one feature: kind (label, note, star) -> value."""
        rows = filter_feature_rows(self.in_force, feature)
        return {row["kind"]: row["value"] for row in rows}

    def history(self, feature: FeatureId) -> list[Annotation]:
        """Return every annotation (label, note or star) ever made of a feature, withdrawn ones
        included, oldest first."""
        names = ANNOTATION_SCHEMA.names[1:]
        rows = filter_feature_rows(self.all_rows, feature)
        return [Annotation(**{name: row[name] for name in names}) for row in rows]


def filter_feature_rows(table: pa.Table, feature: FeatureId) -> list[dict]:
    """Return the rows of an annotation table that belong to one feature, as dictionaries."""
    wanted = (pc.field("feature") == feature.index) & (pc.field("dictionary") == feature.dictionary)
    return table.filter(wanted).to_pylist()
