"""What jobs find goes into the catalog in batches, and comes out whole."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from feature_store.catalog import Catalog, utc_now
from feature_store.errors import InputError
from feature_store.explanation_scores import SCORE_SCHEMA
from feature_store.explanations import EXPLANATION_KEY
from feature_store.records import FeatureId
from feature_store.strict_json import dump_json, parse_json

NULL_LABELS = ("borrowed", "constant", "token")
HEADLINE_COLUMNS = [name for name in SCORE_SCHEMA.names if name not in ("score", "created")]
DETAIL_COLUMNS = ["parts", "nulls", "detail", "judged"]
COLUMNS = ", ".join([*HEADLINE_COLUMNS, *DETAIL_COLUMNS])
IN_FORCE = f"""
    SELECT * FROM explanation SEMI JOIN incoming USING (dictionary, feature)
    QUALIFY row_number() OVER (PARTITION BY {EXPLANATION_KEY} ORDER BY explanation DESC) = 1
"""
INSERT_EXPLANATIONS = f"""
    INSERT INTO explanation ({EXPLANATION_KEY}, author, provenance, withdrawn, created)
    SELECT {EXPLANATION_KEY}, author, provenance, false, ? FROM (
        FROM incoming QUALIFY row_number() OVER (PARTITION BY {EXPLANATION_KEY} ORDER BY place) = 1
    ) ANTI JOIN (FROM ({IN_FORCE}) WHERE NOT withdrawn) USING ({EXPLANATION_KEY}) ORDER BY place
"""
EXPLANATION_NUMBERS = f"""
    SELECT now.explanation FROM incoming JOIN ({IN_FORCE}) AS now USING ({EXPLANATION_KEY}) ORDER
    BY place
"""
YES_SHARES = """
    SELECT score, yes FROM (
        SELECT score, (parts->>'$.firing.value')::DOUBLE / 2
            + (1 - (parts->>'$."silent random".value')::DOUBLE) / 2 AS yes
        FROM score WHERE dictionary = ?
    ) WHERE yes IS NOT NULL
"""
EstimateJson = Mapping[str, Any]
"""`value`, `low`, `high` (None where there is none), `n`, `n_documents`, `note`."""


@dataclass(frozen=True)
class NewExplanation:
    """A sentence that is to be kept."""

    feature: FeatureId
    text: str
    explainer: str
    model: str = ""
    author: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NewScore:
    """A score that is to be kept."""

    explanation: int
    feature: FeatureId
    scorer: str
    measure: str
    judge: str
    estimate: EstimateJson
    parts: Mapping[str, EstimateJson]
    nulls: Mapping[str, Mapping[str, Any]]
    """Null → an Estimate with `label`, `failed`, and for the borrowed one `lender`."""
    judged: Sequence[Mapping[str, Any]]
    failed: int
    detail: Mapping[str, Any]
    harvest: str
    job: str


@dataclass(frozen=True)
class ScoreDetails:
    """What stands behind a score's headline."""

    parts: dict[str, dict[str, Any]]
    nulls: dict[str, dict[str, Any]]
    detail: dict[str, Any]
    judged: list[dict[str, Any]]
    """An item each: `sequence`, `start`, `document`, `kind`, `truth`, `answer`, `probability`,
    `failed`, `weight`."""


def save_explanations(catalog: Catalog, rows: Sequence[NewExplanation]) -> list[int]:
    """Keep sentences in one transaction; their numbers, in order.

    What is in force word for word, by the same explainer and model, keeps its number, and with it
    its scores.
    """
    if not rows:
        return []
    columns = {
        "place": list(range(len(rows))),
        "dictionary": [row.feature.dictionary for row in rows],
        "feature": pa.array([row.feature.index for row in rows], pa.int32()),
        **{
            name: [getattr(row, name) for row in rows]
            for name in ("text", "explainer", "model", "author")
        },
        "provenance": [encode_json(row.provenance) for row in rows],
    }
    with catalog.transaction() as db, incoming_table(db, pa.table(columns)):
        db.execute(INSERT_EXPLANATIONS, [utc_now()])
        return [number for (number,) in db.execute(EXPLANATION_NUMBERS).fetchall()]


def save_scores(catalog: Catalog, rows: Sequence[NewScore]) -> None:
    """Keep scores in one transaction."""
    if not rows:
        return
    types = {f.name: f.type for f in SCORE_SCHEMA} | dict.fromkeys(DETAIL_COLUMNS, pa.string())
    types["judged"] = pa.binary()
    found = [score_row(row) for row in rows]
    columns = {
        n: pa.array([row[n] for row in found], types[n])
        for n in [*HEADLINE_COLUMNS, *DETAIL_COLUMNS]
    }
    with catalog.transaction() as db, incoming_table(db, pa.table(columns)):
        db.execute(
            f"INSERT INTO score ({COLUMNS}, created) SELECT {COLUMNS}, ? FROM incoming", [utc_now()]
        )


def read_score_details(
    catalog: Catalog, score: int, *, patience_s: float | None = None
) -> ScoreDetails:
    """Everything behind one score; InputError when there is none of that number."""
    if catalog.path.exists():
        with catalog.reading(patience_s) as db:
            row = db.execute(
                f"SELECT {', '.join(DETAIL_COLUMNS)} FROM score WHERE score = ?", [score]
            ).fetchone()
        if row:
            parts, nulls, detail, judged = row
            rows = parse_json(zlib.decompress(judged))
            items = [dict(zip(rows["columns"], one, strict=True)) for one in rows["rows"]]
            return ScoreDetails(parse_json(parts), parse_json(nulls), parse_json(detail), items)
    raise InputError(f"There is no score {score} in this store.")


def read_yes_shares(
    catalog: Catalog, dictionary: str, *, patience_s: float | None = None
) -> dict[int, float]:
    """Return, by score number, how often the judge said yes over as many firing as silent windows.

    Only of scores whose judge says yes or no: those with both rates among their parts.
    """
    if not catalog.path.exists():
        return {}
    with catalog.reading(patience_s) as db:
        return dict(db.execute(YES_SHARES, [dictionary]).fetchall())


def score_row(row: NewScore) -> dict[str, Any]:
    """A score as the columns of its table."""
    said = row.estimate
    return {
        "explanation": row.explanation,
        "dictionary": row.feature.dictionary,
        "feature": row.feature.index,
        "scorer": row.scorer,
        "measure": row.measure,
        "judge": row.judge,
        "hard": row.parts.get("hard", {}).get("value"),
        **{name: said.get(name) for name in ("value", "low", "high")},
        "n": said["n"],
        "n_documents": said["n_documents"],
        "note": said.get("note", ""),
        **{name: row.nulls.get(name, {}).get("value") for name in NULL_LABELS},
        "failed": row.failed,
        "parts": encode_json(row.parts),
        "nulls": encode_json(row.nulls),
        "detail": encode_json(row.detail),
        "judged": compress_judgements(row.judged),
        "harvest": row.harvest,
        "job": row.job,
    }


def compress_judgements(judged: Sequence[Mapping[str, Any]]) -> bytes:
    """Items as JSON in zlib: their keys once, a row each."""
    columns = list(judged[0]) if judged else []
    rows = [[item[name] for name in columns] for item in judged]
    return zlib.compress(encode_json({"columns": columns, "rows": rows}).encode("utf-8"))


def encode_json(value: Mapping[str, Any]) -> str:
    """Compact JSON; ValueError for a number that is none."""
    return dump_json(value, compact=True)


@contextmanager
def incoming_table(db: duckdb.DuckDBPyConnection, table: pa.Table) -> Iterator[None]:
    """The rows under that name, until the block ends."""
    db.register("incoming", table)
    try:
        yield
    finally:
        db.unregister("incoming")
