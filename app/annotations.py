"""What people say of features, as pages read and write it."""

from dataclasses import dataclass, field

import streamlit as st

from app import session
from feature_store import labels
from feature_store.annotations import Annotations
from feature_store.catalog import Kind
from feature_store.errors import InputError
from feature_store.records import FeatureId

READ_PATIENCE_S, WRITE_PATIENCE_S = 1.0, 5.0
"""How long a page waits for another process that has the catalog."""
UNSAVED = "annotations_unsaved"
LABEL_LENGTH, NOTE_LENGTH = labels.LABEL_LENGTH, 20_000
"""Characters at most."""


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
        return Said(catalog.last_seen(), str(error), catalog.writable)


def say(feature: FeatureId, kind: Kind, value: str) -> None:
    """Put it into the catalog; where that fails, keep it as unsaved with the reason."""
    value = cleaned(kind, value)
    waiting = st.session_state.setdefault(UNSAVED, {}).setdefault(str(feature), {})
    try:
        catalog = session.store().catalog
        catalog.annotate(feature, kind, value, patience_s=WRITE_PATIENCE_S)
    except InputError as error:
        waiting[kind] = (value, str(error))
    else:
        waiting.pop(kind, None)


def unsaved(feature: FeatureId) -> dict[Kind, tuple[str, str]]:
    """Kind → (value, why it was not saved): what this visitor said and the catalog lacks."""
    return st.session_state.get(UNSAVED, {}).get(str(feature), {})


def cleaned(kind: Kind, value: str) -> str:
    """A label on one line, a note without blank ends; both within their lengths."""
    if kind == "label":
        return labels.as_label(value)
    return value.strip()[:NOTE_LENGTH]
