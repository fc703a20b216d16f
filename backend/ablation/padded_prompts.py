"""Several prompts as one padded batch, with what counts in each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from backend.engine_protocol import TokenizedText
from backend.model.counted_positions import pad_right
from feature_store.errors import InputError


@dataclass(frozen=True, eq=False)
class PaddedPrompts:
    """Padding stands on the right, where causal attention cannot see it."""

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    counted: Bool[Tensor, "batch pos"]
    """Real, and neither BOS nor special: where parts are taken away."""
    last: Int[Tensor, "batch"]
    """Each prompt's last position."""

    @classmethod
    def of(cls, texts: Sequence[TokenizedText]) -> "PaddedPrompts":
        """From texts as the engine reads them."""
        if not texts:
            raise InputError("There is no prompt. Give at least one.")
        tokens, real = pad_right([text.token_ids for text in texts])
        counted = torch.zeros_like(real)
        for row, text in enumerate(texts):
            counted[row, : len(text.counted)] = torch.tensor(text.counted)
        return cls(tokens, real, counted, real.sum(-1) - 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, chosen: slice) -> "PaddedPrompts":
        """Some of them, still padded alike."""
        return PaddedPrompts(
            *(t[chosen] for t in (self.tokens, self.real, self.counted, self.last))
        )

    def check_pair(self, other: "PaddedPrompts") -> None:
        """InputError unless the other has as many prompts, each as long as its partner."""
        if len(self) != len(other):
            raise InputError(
                f"{len(self)} prompts and {len(other)} to patch from: give one for each."
            )
        for row, (a, b) in enumerate(zip(self.last.tolist(), other.last.tolist(), strict=True)):
            if a != b:
                raise InputError(
                    f"Prompt {row + 1} has {a + 1} tokens and its partner {b + 1}. Patching goes "
                    "position by position: make them equally long."
                )
