"""Frozen norms: an edited row's normalisation layers use the scale of its clean twin row.

A norm divides by the length of its input, so an edit changes how everything else is scaled. With a
frozen norm, an edited row is divided by the length of its clean twin instead.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from backend.model.language_model import LanguageModel


@dataclass
class FrozenNormScales:
    """Lengths by which each norm (normalisation layer) divides its input in one forward pass,
    recorded so that edited rows can use those of their clean twins (frozen norms)."""

    lm: LanguageModel
    _recorded: dict[str, Tensor] = field(default_factory=dict)

    def record(self, entry: str, h: Tensor) -> Tensor:
        """Record the length by which the norm whose input is at hook point `entry` divides h; h is
        returned unchanged."""
        self._recorded[entry] = self._scale(entry, h)
        return h

    def apply_twin_scale(
        self, entry: str, pairs: tuple[list[int], list[int]], out: Tensor
    ) -> Tensor:
        """Return a frozen norm's output with each edited row divided by the scale of its clean
        twin."""
        rows, twins = pairs
        scale = self._recorded[entry]
        bias: Any = getattr(self._norm(entry), "bias", None)
        offset = 0.0 if bias is None else bias
        new = out.clone()
        new[rows] = ((out[rows] - offset) * scale[rows] / scale[twins] + offset).to(out.dtype)
        return new

    def _scale(self, entry: str, h: Tensor) -> Float[Tensor, "row pos 1"]:
        """Return the length by which a norm divides its input, [row pos 1]."""
        h = h.float()
        if not self._component(entry).uses_rms_norm:
            h = h - h.mean(-1, keepdim=True)
        norm = self._norm(entry)
        eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", 1e-5)
        return (h.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def _component(self, entry: str) -> Any:
        """Return the bridge component of the norm whose input is at `entry`."""
        return self.lm.component(entry.removesuffix(".hook_in"))

    def _norm(self, entry: str) -> Any:
        """Return the Hugging Face module of the norm whose input is at `entry`."""
        return self._component(entry).original_component
