"""Everything that people said of features, as it stood at one moment."""

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
    """A copy of the catalog's annotations: nobody's lock is held while it is used."""

    every: pa.Table
    """All rows, oldest first, with the columns of COLUMNS."""
    in_force: pa.Table
    """The newest row of each feature and kind, where it was not taken back."""
    lists: FeatureLists = field(default_factory=FeatureLists)
    explanations: Explanations = field(default_factory=Explanations)
    sentences: ScorableExplanations = field(default_factory=ScorableExplanations)
    """The explanations, and beside them people's labels: what is scored."""
    scores: Scores = field(default_factory=Scores)
    best: pa.Table = field(default_factory=BEST_SCORE_SCHEMA.empty_table)
    """The score that stands for each feature in tables: see `Scores.best`."""

    @classmethod
    def empty(cls) -> "Annotations":
        """Of a store in which nobody has said anything."""
        return cls(ANNOTATION_SCHEMA.empty_table(), ANNOTATION_SCHEMA.empty_table())

    @classmethod
    def read(
        cls, db: duckdb.DuckDBPyConnection, former: "Annotations | None" = None
    ) -> "Annotations":
        """All that an open catalog holds; what did not change since `former` is taken from it."""
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
        sentences = ScorableExplanations(explanations, Explanations.of_labels(db, explanations))
        scores, best = Scores(), BEST_SCORE_SCHEMA.empty_table()
        if "score" in there:
            scores = Scores.read(db, former.scores if former else None)
        if scores.table.num_rows:
            best = scores.best(db, sentences.table, in_force)
        return cls(said, in_force, lists, explanations, sentences, scores, best)

    def values(self, dictionary: str, kind: str) -> pa.Table:
        """Columns feature and value: what is in force of one kind in a dictionary; of the kinds
        `score` and `name`, the one that stands for a feature."""
        if kind in ("score", "name"):
            rows = self.best if kind == "score" else self.names
            return rows.filter(pc.field("dictionary") == dictionary).select(["feature", "value"])
        wanted = (pc.field("dictionary") == dictionary) & (pc.field("kind") == kind)
        return self.in_force.filter(wanted).select(["feature", "value"])

    @cached_property
    def labels(self) -> LabelIndex:
        """The labels in force, to be searched."""
        rows = self.in_force.filter(pc.field("kind") == "label")
        features = zip(rows["dictionary"].to_pylist(), rows["feature"].to_pylist(), strict=True)
        return LabelIndex(list(features), rows["value"].to_pylist())

    @cached_property
    def names(self) -> pa.Table:
        """Columns dictionary, feature and value: a person's label, else the newest explanation."""
        labels = self.in_force.filter(pc.field("kind") == "label").select(NAME_COLUMNS)
        newest = self.explanations.newest
        rest = newest.join(labels, ["dictionary", "feature"], join_type="left anti")
        return pa.concat_tables([labels, rest.select(NAME_COLUMNS)])

    @property
    def called(self) -> FeatureNames:
        """The same, looked up by feature."""
        return FeatureNames(self.labels, self.explained)

    @property
    def explained(self) -> LabelIndex:
        """The explanations, to be searched like labels; a feature may have several."""
        return self.explanations.labels

    def of(self, feature: FeatureId) -> dict[str, str]:
        """Kind → value in force of one feature."""
        rows = filter_feature_rows(self.in_force, feature)
        return {row["kind"]: row["value"] for row in rows}

    def history(self, feature: FeatureId) -> list[Annotation]:
        """Everything that was said of a feature, oldest first."""
        names = ANNOTATION_SCHEMA.names[1:]
        rows = filter_feature_rows(self.every, feature)
        return [Annotation(**{name: row[name] for name in names}) for row in rows]


def filter_feature_rows(table: pa.Table, feature: FeatureId) -> list[dict]:
    """A feature's rows."""
    wanted = (pc.field("feature") == feature.index) & (pc.field("dictionary") == feature.dictionary)
    return table.filter(wanted).to_pylist()
