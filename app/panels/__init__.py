"""The boxes of the feature page. To add one: a file with TITLE and draw, and a line in PANELS."""

from types import ModuleType

from app.panels import (
    activations,
    contexts,
    explanations,
    facts,
    family,
    logits,
    neighbours,
    neurons,
    notes,
    removal_effect,
    similar_features,
    try_text,
)

PANELS: dict[str, tuple[ModuleType, ...]] = {
    "left": (contexts, try_text, facts),
    "right": (activations, logits, neighbours, similar_features),
    "below": (removal_effect, family, neurons, explanations, notes),
}
"""Panels in page order, by the part of the page they stand in. Those below are tabs: only the one
that is open is drawn, so what it costs is paid by who asked for it. The last is open at first."""
