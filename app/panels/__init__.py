"""The panels of the feature page. To add a panel: write a file with `TITLE` and `draw(panel)`, and
add the module to `PANELS`."""

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
"""Panel modules by the part of the page that they stand in, in page order. Those below are tabs:
only the open tab is drawn, so a hidden panel costs nothing. The last tab is open at first."""
