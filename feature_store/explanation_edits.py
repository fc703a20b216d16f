"""Explanation edits: a person writes an explanation of a feature or withdraws one."""

from collections.abc import Mapping
from typing import Any

from feature_store.catalog import Catalog, utc_now
from feature_store.errors import InputError
from feature_store.explanations import EXPLANATION_KEY, PERSON
from feature_store.records import FeatureId
from feature_store.score_storage import NewExplanation, save_explanations

MAX_CHARACTERS = 2_000
"""Maximum number of characters of an explanation that a person writes."""
WITHDRAW = f"""
    INSERT INTO explanation ({EXPLANATION_KEY}, author, provenance, withdrawn, created)
    SELECT {EXPLANATION_KEY}, author, provenance, true, ? FROM explanation WHERE explanation = ?
"""


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
