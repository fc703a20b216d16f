"""Score storage: save the scores of explanations in the catalog and read a score's details back."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from feature_store.catalog import Catalog, incoming_table, utc_now
from feature_store.errors import InputError
from feature_store.explanation_scores import SCORE_SCHEMA
from feature_store.records import FeatureId
from feature_store.strict_json import dump_json, parse_json

NULL_LABELS = ("borrowed", "constant", "token")
HEADLINE_COLUMNS = [name for name in SCORE_SCHEMA.names if name not in ("score", "created")]
DETAIL_COLUMNS = ["parts", "nulls", "detail", "judged"]
COLUMNS = ", ".join([*HEADLINE_COLUMNS, *DETAIL_COLUMNS])
YES_SHARES = """
    SELECT score, yes FROM (
        SELECT score, (parts->>'$.firing.value')::DOUBLE / 2
            + (1 - (parts->>'$."silent random".value')::DOUBLE) / 2 AS yes
        FROM score WHERE dictionary = ?
    ) WHERE yes IS NOT NULL
"""
EstimateJson = Mapping[str, Any]
"""JSON form of an estimate: `value`, `low`, `high` (None if there is none), `n`, `n_documents`,
`note`."""


@dataclass(frozen=True)
class NewScore:
    """A score of an explanation that is to be saved, with its details."""

    explanation: int
    feature: FeatureId
    scorer: str
    measure: str
    judge: str
    estimate: EstimateJson
    parts: Mapping[str, EstimateJson]
    nulls: Mapping[str, Mapping[str, Any]]
    """Baseline label -> its estimate with `label`, `failed`, and for the borrowed label also
    `lender`."""
    judged: Sequence[Mapping[str, Any]]
    failed: int
    detail: Mapping[str, Any]
    harvest: str
    job: str


@dataclass(frozen=True)
class ScoreDetails:
    """Details of a stored score: its parts, baseline labels and single judgements."""

    parts: dict[str, dict[str, Any]]
    nulls: dict[str, dict[str, Any]]
    detail: dict[str, Any]
    judged: list[dict[str, Any]]
    """Judged items, each with `sequence`, `start`, `document`, `kind`, `truth`, `answer`,
    `probability`, `failed`, `weight`."""


def save_scores(catalog: Catalog, rows: Sequence[NewScore]) -> None:
    """Save scores of explanations in one catalog transaction."""
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
    """Read the details of one stored score; InputError if there is no score of that number."""
    if catalog.path.exists():
        with catalog.read_transaction(patience_s) as db:
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
    """Read the share of windows on which the judge of each stored score answered yes, with firing
    and silent windows weighted equally: score number -> share.

    Only scores whose judge answers yes or no are returned: those whose details have both rates.
    """
    if not catalog.path.exists():
        return {}
    with catalog.read_transaction(patience_s) as db:
        return dict(db.execute(YES_SHARES, [dictionary]).fetchall())


def score_row(row: NewScore) -> dict[str, Any]:
    """Return a new score as a row of the catalog's score table."""
    estimate = row.estimate
    return {
        "explanation": row.explanation,
        "dictionary": row.feature.dictionary,
        "feature": row.feature.index,
        "scorer": row.scorer,
        "measure": row.measure,
        "judge": row.judge,
        "hard": row.parts.get("hard", {}).get("value"),
        **{name: estimate.get(name) for name in ("value", "low", "high")},
        "n": estimate["n"],
        "n_documents": estimate["n_documents"],
        "note": estimate.get("note", ""),
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
    """Return a score's judged items as compressed JSON (zlib): the keys once, then a row per
    item."""
    columns = list(judged[0]) if judged else []
    rows = [[item[name] for name in columns] for item in judged]
    return zlib.compress(encode_json({"columns": columns, "rows": rows}).encode("utf-8"))


def encode_json(value: Mapping[str, Any]) -> str:
    """Return compact JSON for the score table; ValueError for a number that is not finite."""
    return dump_json(value, compact=True)
