"""Explanation edits: save explanations that jobs or people write, and withdraw one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from feature_store.catalog import Catalog, incoming_table, utc_now
from feature_store.errors import InputError
from feature_store.explanations import EXPLANATION_KEY, PERSON
from feature_store.records import FeatureId
from feature_store.strict_json import dump_json

MAX_CHARACTERS = 2_000
"""Maximum number of characters of an explanation that a person writes."""
WITHDRAW = f"""
    INSERT INTO explanation ({EXPLANATION_KEY}, author, provenance, withdrawn, created)
    SELECT {EXPLANATION_KEY}, author, provenance, true, ? FROM explanation WHERE explanation = ?
"""
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


@dataclass(frozen=True)
class NewExplanation:
    """An explanation of a feature that is to be saved."""

    feature: FeatureId
    text: str
    explainer: str
    model: str = ""
    author: str = "model"
    provenance: Mapping[str, Any] = field(default_factory=dict)


def save_explanations(catalog: Catalog, rows: Sequence[NewExplanation]) -> list[int]:
    """Save explanations in one catalog transaction and return their numbers, in order.

    An explanation that is already in force, with the same text, explainer and model, keeps its
    number and so its scores.
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
        "provenance": [dump_json(row.provenance, compact=True) for row in rows],
    }
    with catalog.transaction() as db, incoming_table(db, pa.table(columns)):
        db.execute(INSERT_EXPLANATIONS, [utc_now()])
        return [number for (number,) in db.execute(EXPLANATION_NUMBERS).fetchall()]


def write_explanation(
    catalog: Catalog, feature: FeatureId, text: str, provenance: Mapping[str, Any] | None = None
) -> int:
    """Save a person's explanation of a feature and return its number; InputError for an empty or
    too long one."""
    text = " ".join(text.split())
    if not text:
        raise InputError("An explanation cannot be empty. To remove one, withdraw it.")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"An explanation has at most {MAX_CHARACTERS} characters, not {len(text)}."
        )
    origin = {"source": "saefari", **(provenance or {})}
    row = NewExplanation(feature, text, PERSON, author=PERSON, provenance=origin)
    (number,) = save_explanations(catalog, [row])
    return number


def withdraw_explanation(
    catalog: Catalog, explanation: int, *, patience_s: float | None = None
) -> None:
    """Withdraw one explanation, which stays as history; InputError if its number does not exist.

    Saving the same explanation again restores it, without its scores.
    """
    with catalog.transaction(patience_s) as db:
        ((rows,),) = db.execute(WITHDRAW, [utc_now(), explanation]).fetchall()
    if not rows:
        raise InputError(f"There is no explanation {explanation} in this store.")
