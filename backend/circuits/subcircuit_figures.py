"""Figures of a subcircuit (the shown part of a circuit), measured by ablation, as plain data for
the page. This module does not load torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from backend.circuits.records import ErrorTermMode, Faithfulness, FaithfulnessPoint


@dataclass(frozen=True)
class SubcircuitFigures:
    """Faithfulness and completeness of a subcircuit: those nodes of a circuit that the Circuits
    page shows after a person has pruned it."""

    points: Mapping[ErrorTermMode, FaithfulnessPoint]
    """Curve points of the subcircuit with shares and completeness, by the treatment of error
    terms."""
    faithfulness: Faithfulness | None
    """Faithfulness of the subcircuit with error terms counted; None if the whole model is not
    clearly better than the empty circuit."""
    held: Faithfulness | None = None
    """Faithfulness of the subcircuit with attention patterns and norms frozen, for methods that
    freeze them."""
