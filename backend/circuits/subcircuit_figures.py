"""What ablation says of a part of a circuit, as plain data for the page; free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from backend.circuits.records import ErrorTermMode, Faithfulness, FaithfulnessPoint


@dataclass(frozen=True)
class SubcircuitFigures:
    """What ablation says of a part of a circuit."""

    points: Mapping[ErrorTermMode, FaithfulnessPoint]
    """Shares and completeness, by the way with error terms."""
    faithfulness: Faithfulness | None
    """Error terms counted; None where the whole model is not clearly better than the empty
    circuit."""
    held: Faithfulness | None = None
    """With attention patterns and norms held, for methods that hold them."""
