"""What pages ask of a live model, and what they get: plain data, importable without torch."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Text:
    """A text as the model reads it."""

    token_ids: list[int]
    """BOS in front, where the dictionaries were trained with one."""
    counted: list[bool]
    """False for BOS and special tokens, which no statistic counts."""


@dataclass(frozen=True)
class Firing:
    """Non-zero activations of one dictionary on a text, ordered by position, then feature."""

    position: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    def of(self, feature: int) -> dict[int, float]:
        """One feature's activations by position."""
        mine = self.feature == feature
        return dict(zip(self.position[mine].tolist(), self.value[mine].tolist(), strict=True))


class Engine(Protocol):
    """One model with the dictionaries of a harvest."""

    def read(self, text: str) -> Text:
        """Tokenise; InputError for an empty text and for one beyond the model's context."""
        ...

    def firing(self, text: Text, names: list[str]) -> dict[str, Firing]:
        """Activations of dictionaries on a text, BOS and special tokens included."""
        ...
