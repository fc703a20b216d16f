"""The boxes of the feature page. To add one: a file with TITLE and draw, and a line in PANELS."""

from types import ModuleType

from app.panels import activations, contexts, facts, logits, neighbours

PANELS: dict[str, tuple[ModuleType, ...]] = {
    "left": (contexts,),
    "right": (activations, logits, neighbours),
    "below": (facts,),
}
"""Panels in page order, by the part of the page they stand in."""
