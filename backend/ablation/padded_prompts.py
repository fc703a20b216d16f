"""Several prompts as one batch of token ids, padded on the right, with masks of the real and the
counted tokens.
"""

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
    """Tokenized prompts as one padded batch for ablations, with masks of real and counted tokens.
    Padding is on the right, where causal attention cannot see it.
    """

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    counted: Bool[Tensor, "batch pos"]
    """Mask of real tokens that are neither BOS nor special: where parts are ablated."""
    last: Int[Tensor, "batch"]
    """Position of each prompt's last token."""

    @classmethod
    def of(cls, texts: Sequence[TokenizedText]) -> "PaddedPrompts":
        """Build a padded batch from tokenized texts. Raises InputError if there is none."""
        if not texts:
            raise InputError("There is no prompt: give at least one.")
        tokens, real = pad_right([text.token_ids for text in texts])
        counted = torch.zeros_like(real)
        for row, text in enumerate(texts):
            counted[row, : len(text.counted)] = torch.tensor(text.counted)
        return cls(tokens, real, counted, real.sum(-1) - 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, chosen: slice) -> "PaddedPrompts":
        """Return the padded batch of some of the prompts, a slice of its rows, with the same
        padding.
        """
        return PaddedPrompts(
            *(t[chosen] for t in (self.tokens, self.real, self.counted, self.last))
        )

    def check_pair(self, other: "PaddedPrompts") -> None:
        """Check that another padded batch has as many prompts, each as long as its partner.

        Raises InputError otherwise: activations are patched position by position.
        """
        if len(self) != len(other):
            raise InputError(
                f"{len(self)} prompts and {len(other)} partner prompts: give one partner for each."
            )
        for row, (a, b) in enumerate(zip(self.last.tolist(), other.last.tolist(), strict=True)):
            if a != b:
                raise InputError(
                    f"Prompt {row + 1} has {a + 1} tokens and its partner {b + 1}. Patching goes "
                    "position by position: make them equally long."
                )
