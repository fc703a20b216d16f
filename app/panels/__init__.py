"""The boxes of the feature page. To add one: a file with TITLE and draw, and a line in PANELS."""

from types import ModuleType

from app.panels import activations, contexts, facts, logits, neighbours

PANELS: dict[str, tuple[ModuleType, ...]] = {
    "left": (contexts, facts),
    "right": (activations, logits, neighbours),
}
"""Panels in page order, by the part of the page they stand in."""
