"""A person's changes to what is said of a feature: a sentence of their own, one taken back."""

from collections.abc import Mapping
from typing import Any

from feature_store.catalog import Catalog, utc_now
from feature_store.errors import InputError
from feature_store.explanations import EXPLANATION_KEY, PERSON
from feature_store.records import FeatureId
from feature_store.score_storage import NewExplanation, save_explanations

MAX_CHARACTERS = 2_000
"""Characters at most."""
WITHDRAW = f"""
    INSERT INTO explanation ({EXPLANATION_KEY}, author, provenance, withdrawn, created)
    SELECT {EXPLANATION_KEY}, author, provenance, true, ? FROM explanation WHERE explanation = ?
"""


def write_explanation(
    catalog: Catalog, feature: FeatureId, text: str, provenance: Mapping[str, Any] | None = None
) -> int:
    """Keep a person's sentence about a feature; its number. InputError for an empty one."""
    text = " ".join(text.split())
    if not text:
        raise InputError("An explanation needs words. Withdraw it to take it back.")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"An explanation has at most {MAX_CHARACTERS} characters, not {len(text)}."
        )
    told = {"source": "saefari", **(provenance or {})}
    row = NewExplanation(feature, text, PERSON, author=PERSON, provenance=told)
    (number,) = save_explanations(catalog, [row])
    return number


def withdraw_explanation(
    catalog: Catalog, explanation: int, *, patience_s: float | None = None
) -> None:
    """Take one explanation back; it stays as history. InputError where there is none such.

    Who writes the same sentence again brings it back, without its scores.
    """
    with catalog.transaction(patience_s) as db:
        ((rows,),) = db.execute(WITHDRAW, [utc_now(), explanation]).fetchall()
    if not rows:
        raise InputError(f"There is no explanation {explanation} in this store.")
