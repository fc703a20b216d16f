"""Dictionary activations on prompts: the active features of each dictionary, what it reads, and its
error term. Active features and error terms are the nodes of an attribution."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from feature_store.hook_sites import check_single_sites

CHUNK_NUMBERS = 1 << 24
"""Maximum size of a block of decoder rows that is gathered for the active features of a dictionary:
64 MB in float32."""


class ActiveFeatures(NamedTuple):
    """Active features of one dictionary as columns (prompt, position, feature, activation), ordered
    by prompt, position and feature."""

    row: Int[Tensor, "n"]
    position: Int[Tensor, "n"]
    feature: Int[Tensor, "n"]
    value: Float[Tensor, "n"]


@dataclass(frozen=True)
class DictionaryActivations:
    """Activations of one dictionary on a batch of prompts: its active features, its input, and the
    model's activation at its output hook point."""

    dictionary: Dictionary
    x: Float[Tensor, "batch pos d_in"]
    """Input of the dictionary at every token, processed (centred, scaled) as in its training."""
    h: Float[Tensor, "batch pos d_out"]
    """Activation of the model at the dictionary's output hook point."""
    active: ActiveFeatures
    counted: Bool[Tensor, "batch pos"]
    """Whether a token counts; False at BOS, special tokens and padding, where the dictionary has no
    active features."""

    def decoder_sum_gradient(
        self, g: Float[Tensor, "batch pos d_out"]
    ) -> Float[Tensor, "batch pos d_out"]:
        """Convert the gradient `g` with respect to the model's activation at the dictionary's
        output hook point into the gradient with respect to the dictionary's sum of decoder rows.

        The two differ by the token's de-normalisation, which is linear for a given token.
        """
        norm, coder = self.dictionary.norm, self.dictionary.coder
        with torch.enable_grad():
            _, undo = norm.into(self.x.detach())
            zero = self.x.new_zeros(*g.shape[:-1], coder.W_dec.shape[1]).requires_grad_()
            (found,) = torch.autograd.grad(undo(zero), zero, g.to(self.x.dtype))
        return found

    def feature_gradients(self, g: Float[Tensor, "batch pos d_out"]) -> Float[Tensor, "n"]:
        """Return the gradient of the metric with respect to each active feature of the dictionary:
        the dot product of its decoder row and the gradient `g`."""
        W_dec, pulled = self.dictionary.coder.W_dec, self.decoder_sum_gradient(g)
        step = max(1, CHUNK_NUMBERS // W_dec.shape[1])
        parts = [
            (pulled[row, position] * W_dec[feature]).sum(-1)
            for row, position, feature in zip(
                *(column.split(step) for column in self.active[:3]), strict=True
            )
        ]
        return torch.cat(parts) if parts else pulled.new_zeros(0)

    def decode_feature_values(self, value: Float[Tensor, "n"]) -> Float[Tensor, "batch pos d_out"]:
        """Return what the dictionary decodes from its active features with the given values instead
        of their own activations: decode(f, x) − decode(0, x), [batch, position, d_out]."""
        W_dec = self.dictionary.coder.W_dec
        z = W_dec.new_zeros(*self.x.shape[:2], W_dec.shape[1])
        step = max(1, CHUNK_NUMBERS // W_dec.shape[1])
        columns = (self.active.row, self.active.position, self.active.feature, value.to(z.dtype))
        for row, position, feature, v in zip(*(c.split(step) for c in columns), strict=True):
            z.index_put_((row, position), v[:, None] * W_dec[feature], accumulate=True)
        _, undo = self.dictionary.norm.into(self.x)
        return undo(z) - undo(torch.zeros_like(z))

    def error_term(self) -> Float[Tensor, "batch pos d_out"]:
        """Return the error term of the dictionary, [batch, position, d_out]: the model's activation
        minus the reconstruction decode(f, x); 0 at tokens that do not count (BOS, special tokens,
        padding)."""
        missed = (
            self.h - self._decode_without_features() - self.decode_feature_values(self.active.value)
        )
        return missed * self.counted[..., None]

    def _decode_without_features(self) -> Float[Tensor, "batch pos d_out"]:
        """Return decode(0, x), the dictionary's output without any active feature, computed a few
        tokens at a time."""
        d = self.dictionary
        if d.needs_sequence:
            return torch.stack([d.decode(x.new_zeros(len(x), d.d_sae), x) for x in self.x])
        tiles = self.x.flatten(0, 1).split(max(1, CHUNK_NUMBERS // d.d_sae))
        parts = [d.decode(x.new_zeros(len(x), d.d_sae), x) for x in tiles]
        return torch.cat(parts).view(*self.x.shape[:2], -1)


@torch.no_grad()
def read_dictionary_activations(
    lm: LanguageModel,
    dictionaries: list[Dictionary],
    tokens: Int[Tensor, "batch pos"],
    counted: Bool[Tensor, "batch pos"],
) -> list[DictionaryActivations]:
    """Run the model once on the prompts and return for every dictionary its input, its active
    features, and the model's activation at its output hook point. Raises InputError for a
    dictionary that reads or writes several hook points."""
    check_single_sites(dictionaries, "Attributions and circuits")
    hooks = [hook for d in dictionaries for hook in (d.hook_name, d.hook_out)]
    raw = lm.activations(tokens, list(dict.fromkeys(hooks)))
    counted = counted.to(lm.placement.device)
    found = []
    for d in dictionaries:
        x = lm.process(d.hook_name, raw[d.hook_name], d.processing).clone()
        x = x.to(d.coder.W_dec.dtype)
        found.append(
            DictionaryActivations(
                d, x, raw[d.hook_out].clone(), list_active_features(d, x, counted), counted
            )
        )
    return found


def list_active_features(
    d: Dictionary, x: Float[Tensor, "batch pos d_in"], counted: Bool[Tensor, "batch pos"]
) -> ActiveFeatures:
    """Encode a dictionary's input `x` and return its active features with their activations, at the
    tokens that count (not BOS, special tokens or padding)."""
    if d.needs_sequence:
        rows = [_label_with_row(i, d.encode_sparse(one[None])) for i, one in enumerate(x)]
        found = ActiveFeatures(*(torch.cat(column) for column in zip(*rows, strict=True)))
    else:
        token, feature, value = d.encode_sparse(x.flatten(0, 1))
        pos = x.shape[1]
        found = ActiveFeatures(token.long() // pos, token.long() % pos, feature.long(), value)
    kept = counted[found.row, found.position]
    return ActiveFeatures(*(column[kept] for column in found))


def _label_with_row(row: int, triples: tuple[Tensor, Tensor, Tensor]) -> ActiveFeatures:
    position, feature, value = triples
    return ActiveFeatures(
        torch.full_like(position, row).long(), position.long(), feature.long(), value
    )
