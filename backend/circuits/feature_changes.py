"""Sparse lists of feature changes: the features of a dictionary that change when nodes go to their
baselines, by place, feature and amount.

An active feature changes to zero, and a feature whose baseline is not zero appears; both are lists
of (place, feature, amount) and never a dense [token, feature] array. Under a mean baseline all
tokens of a slot share one place, so that the list is as short as the slots' means.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.attribution.dictionary_activations import CHUNK_NUMBERS, DictionaryActivations
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary


@dataclass(frozen=True, eq=False)
class FeatureChanges:
    """Sparse list of feature changes: the amounts by which activations of one dictionary's features
    change, by place and feature. A place is one token, or all tokens of a slot."""

    at: Int[Tensor, "batch pos"]
    """Place of each token in the list of feature changes; −1: none."""
    slot: Int[Tensor, "places"]
    """Slot of each place that feature changes refer to; −1: none."""
    place: Int[Tensor, "n"]
    feature: Int[Tensor, "n"]
    amount: Float[Tensor, "n"]

    def select(self, chosen: Bool[Tensor, "n"]) -> "FeatureChanges":
        """Return the list of only those feature changes (place, feature, amount) for which the mask
        `chosen` is true."""
        columns = (self.place[chosen], self.feature[chosen], self.amount[chosen])
        return FeatureChanges(self.at, self.slot, *columns)

    def sum_decoder_rows(self, d: Dictionary) -> Float[Tensor, "batch pos d_out"]:
        """Return what the feature changes add at every token, Σ amount · decoder row before
        de-normalisation: [batch, position, d_out]."""
        W_dec = d.coder.W_dec
        total = W_dec.new_zeros(len(self.slot) + 1, W_dec.shape[1])
        step = max(1, CHUNK_NUMBERS // W_dec.shape[1])
        columns = (self.place, self.feature, self.amount.to(W_dec.dtype))
        for place, feature, much in zip(*(c.split(step) for c in columns), strict=True):
            total.index_add_(0, place, much[:, None] * W_dec[feature])
        return total[self.at]  # place -1 is the last row, which stays zero

    def multiply_gradients(
        self, d: Dictionary, g: Float[Tensor, "batch pos d_out"]
    ) -> Float[Tensor, "n"]:
        """Return the amount of each feature change times the gradient of the target metric with
        respect to that feature; `g` is the gradient with respect to the sum of decoder rows."""
        W_dec = d.coder.W_dec
        total = g.new_zeros(len(self.slot) + 1, g.shape[-1])
        total.index_add_(0, self.at.flatten() % len(total), g.flatten(0, 1))
        step = max(1, CHUNK_NUMBERS // W_dec.shape[1])
        columns = (self.place, self.feature, self.amount)
        parts = [
            (total[place] * W_dec[feature]).sum(-1) * much
            for place, feature, much in zip(*(c.split(step) for c in columns), strict=True)
        ]
        return torch.cat(parts) if parts else g.new_zeros(0)


@dataclass(frozen=True, eq=False)
class BaselineValues:
    """Baseline values of one dictionary, which ablated features and error terms take, stored once
    for each place (one token, or all tokens of a slot)."""

    at: Int[Tensor, "batch pos"]
    slot: Int[Tensor, "places"]
    place: Int[Tensor, "n"]
    """Place of each nonzero baseline value of a feature; values are ordered by place and then by
    feature."""
    feature: Int[Tensor, "n"]
    value: Float[Tensor, "n"]
    error: Float[Tensor, "places d_out"]
    """Baseline of the error term at each place."""

    def appearing_features(self) -> FeatureChanges:
        """Return the feature changes from zero to the nonzero baselines: the features that appear
        when a dictionary's nodes go to their baselines."""
        return FeatureChanges(self.at, self.slot, self.place, self.feature, self.value)

    def feature_values(self, features: Int[Tensor, "k"], d_sae: int) -> Float[Tensor, "places k"]:
        """Return the baseline activations of the features with the given indices at every place (a
        token, or all tokens of a slot): [place, feature]."""
        keys = self.place * d_sae + self.feature
        asked = torch.arange(len(self.slot), device=keys.device)[:, None] * d_sae + features
        found = torch.zeros(asked.shape, dtype=self.value.dtype, device=keys.device)
        if len(keys):
            index = torch.searchsorted(keys, asked).clamp_max(len(keys) - 1)
            found = torch.where(keys[index] == asked, self.value[index], found)
        return found

    def error_values(self) -> Float[Tensor, "batch pos d_out"]:
        """Return the baseline of the dictionary's error term at every token, [batch, position,
        d_out]; 0 at tokens that have none."""
        padded = torch.cat([self.error, self.error.new_zeros(1, self.error.shape[1])])
        return padded[self.at]


def deactivate_features(
    reading: DictionaryActivations, slot: Int[Tensor, "batch pos"]
) -> FeatureChanges:
    """Return the feature changes that set every active feature of a dictionary to zero, at the
    tokens with a slot (the place where a circuit's node can be)."""
    at = torch.arange(slot.numel(), device=slot.device).view(slot.shape)
    active = reading.active
    place = active.row * slot.shape[1] + active.position
    inside = slot.flatten()[place] >= 0
    return FeatureChanges(
        at, slot.flatten(), place[inside], active.feature[inside], -active.value[inside]
    )


def make_zero_baseline_values(
    reading: DictionaryActivations, slot: Int[Tensor, "batch pos"]
) -> BaselineValues:
    """Return baseline values of zero for all features and error terms of a dictionary."""
    none = torch.zeros(0, dtype=torch.long, device=slot.device)
    value = reading.active.value
    return BaselineValues(
        torch.where(slot >= 0, 0, -1),
        torch.full((1,), -1, device=slot.device),
        none,
        none,
        value.new_zeros(0),
        reading.h.new_zeros(1, reading.h.shape[-1]),
    )


def decode_without_features(
    d: Dictionary, x: Float[Tensor, "... d_in"]
) -> Float[Tensor, "... d_out"]:
    """Return decode(0, x): what a dictionary writes after feature changes have set all of its
    features to zero, which is its bias and skip connection."""
    if isinstance(d.coder, AffineCoder):
        x = x.to(d.coder.W_dec)
        _, undo = d.norm.into(x)
        bias = undo(d.coder.b_dec.expand(*x.shape[:-1], -1))
        return bias if d.W_skip is None else bias + x @ d.W_skip.T
    if d.needs_sequence:
        return torch.stack([d.decode(one.new_zeros(len(one), d.d_sae), one) for one in x])
    flat = x.flatten(0, -2).split(max(1, CHUNK_NUMBERS // d.d_sae))
    parts = [d.decode(one.new_zeros(len(one), d.d_sae), one) for one in flat]
    return torch.cat(parts).view(*x.shape[:-1], -1)


def scale_decoder_sum(
    d: Dictionary, x: Float[Tensor, "batch pos d_in"], z: Float[Tensor, "batch pos d_out"]
) -> Float[Tensor, "batch pos d_out"]:
    """Convert `z`, the sum of decoder rows of feature changes at each token, to the change of the
    model's activation, by the factor of the token's de-normalisation."""
    return z * decoder_gains(d, x)


def decoder_gains(d: Dictionary, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... 1"] | float:
    """Return the factor of each token's de-normalisation, by which feature changes' decoder rows
    are multiplied when they are added to the model's activation."""
    if not d.norm.per_token:
        return d.norm.out_scale
    # De-normalisation is affine for each token, so two points give its slope.
    x = x.to(d.coder.W_dec)
    _, undo = d.norm.into(x)
    at = x.new_zeros(*x.shape[:-1], 1)
    return undo(at + 1) - undo(at)
