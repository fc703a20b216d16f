"""Norms that keep the scale of another row: what makes an effect go straight through them.

A norm divides by the length of what enters it, so that an edit changes how everything else is
scaled. Frozen, an edited row is divided by its clean twin's length instead.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from backend.model.language_model import LanguageModel


@dataclass
class FrozenNormScales:
    """The lengths noted at each norm's entry in this pass."""

    lm: LanguageModel
    _noted: dict[str, Tensor] = field(default_factory=dict)

    def note(self, entry: str, h: Tensor) -> Tensor:
        """Remember what the norm at `entry` divides by; h goes on unchanged."""
        self._noted[entry] = self._scale(entry, h)
        return h

    def put(self, entry: str, pairs: tuple[list[int], list[int]], out: Tensor) -> Tensor:
        """The norm's output with each of the first rows divided by its twin's length."""
        rows, twins = pairs
        scale = self._noted[entry]
        bias: Any = getattr(self._norm(entry), "bias", None)
        offset = 0.0 if bias is None else bias
        new = out.clone()
        new[rows] = ((out[rows] - offset) * scale[rows] / scale[twins] + offset).to(out.dtype)
        return new

    def _scale(self, entry: str, h: Tensor) -> Float[Tensor, "row pos 1"]:
        h = h.float()
        if not self._component(entry).uses_rms_norm:
            h = h - h.mean(-1, keepdim=True)
        norm = self._norm(entry)
        eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", 1e-5)
        return (h.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def _component(self, entry: str) -> Any:
        return self.lm.component(entry.removesuffix(".hook_in"))

    def _norm(self, entry: str) -> Any:
        return self._component(entry).original_component
