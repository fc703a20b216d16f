"""What people say of features, as pages read and write it."""

from dataclasses import dataclass, field

import streamlit as st

from app import session
from app.wording import count
from feature_store import label_index
from feature_store.annotations import Annotations
from feature_store.catalog import AnnotationKind
from feature_store.errors import InputError
from feature_store.records import FeatureId

READ_PATIENCE_S, WRITE_PATIENCE_S = 1.0, 5.0
"""How long a page waits for another process that has the catalog."""
UNSAVED = "annotations_unsaved"
MOST = {"label": label_index.LABEL_LENGTH, "note": 20_000}
"""Characters at most, by kind."""


@dataclass(frozen=True)
class Said:
    """The annotations, and what stands in the way of reading or writing them."""

    annotations: Annotations = field(default_factory=Annotations.empty)
    problem: str = ""
    """Why they could not be read just now; then they are what was last seen."""
    writable: bool = True


def read() -> Said:
    """All annotations of the store. Call it once a page run: a locked catalog costs a wait."""
    catalog = session.store().catalog
    try:
        return Said(catalog.snapshot(READ_PATIENCE_S), "", catalog.writable)
    except InputError as error:
        return Said(catalog.last_snapshot(), str(error), catalog.writable)


def say(feature: FeatureId, kind: AnnotationKind, value: str) -> None:
    """Put it into the catalog; where that fails, keep it as unsaved with the reason."""
    value = cleaned(kind, value)
    waiting = st.session_state.setdefault(UNSAVED, {}).setdefault(str(feature), {})
    try:
        fits(kind, value)
        catalog = session.store().catalog
        catalog.annotate(feature, kind, value, patience_s=WRITE_PATIENCE_S)
    except InputError as error:
        waiting[kind] = (value, str(error))
    else:
        waiting.pop(kind, None)


def unsaved(feature: FeatureId) -> dict[AnnotationKind, tuple[str, str]]:
    """Kind → (value, why it was not saved): what this visitor said and the catalog lacks."""
    return st.session_state.get(UNSAVED, {}).get(str(feature), {})


def cleaned(kind: AnnotationKind, value: str) -> str:
    """A label on one line, a note without blank ends."""
    return " ".join(value.split()) if kind == "label" else value.strip()


def fits(kind: AnnotationKind, value: str) -> None:
    """Raises InputError for a text that is too long: nothing is cut without being said. (A field
    with a limit of its own would drop a paste that is too long, and say nothing.)"""
    most = MOST.get(kind)
    if most is not None and len(value) > most:
        raise InputError(
            f"A {kind} has at most {count(most)} characters, this one has {count(len(value))}: "
            "shorten it."
        )
