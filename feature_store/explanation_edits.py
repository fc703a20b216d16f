"""A person's changes to what is said of a feature: a sentence of their own, one taken back."""

from collections.abc import Mapping
from typing import Any

from feature_store.catalog import Catalog, utc_now
from feature_store.errors import InputError
from feature_store.explanations import PERSON, SAME
from feature_store.records import FeatureId
from feature_store.scoring import NewExplanation, explain

LENGTH = 2_000
"""Characters at most."""
TURNED = f"""
    INSERT INTO explanation ({SAME}, author, provenance, withdrawn, created)
    SELECT {SAME}, author, provenance, true, ? FROM explanation WHERE explanation = ?
"""


def write(
    catalog: Catalog, feature: FeatureId, text: str, provenance: Mapping[str, Any] | None = None
) -> int:
    """Keep a person's sentence about a feature; its number. InputError for an empty one."""
    text = " ".join(text.split())
    if not text:
        raise InputError("An explanation needs words. Withdraw it to take it back.")
    if len(text) > LENGTH:
        raise InputError(f"An explanation has at most {LENGTH} characters, not {len(text)}.")
    told = {"source": "saefari", **(provenance or {})}
    row = NewExplanation(feature, text, PERSON, author=PERSON, provenance=told)
    (number,) = explain(catalog, [row])
    return number


def withdraw(catalog: Catalog, explanation: int, *, patience_s: float | None = None) -> None:
    """Take one explanation back; it stays as history. InputError where there is none such.

    Who writes the same sentence again brings it back, without its scores.
    """
    with catalog.transaction(patience_s) as db:
        ((rows,),) = db.execute(TURNED, [utc_now(), explanation]).fetchall()
    if not rows:
        raise InputError(f"There is no explanation {explanation} in this store.")
