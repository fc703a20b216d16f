"""Selection of the surviving activations of an encoder tile with torch, on any device."""

import torch
from torch import Tensor

from backend.dictionaries.activation_rules import (
    ActivationRule,
    GroupMaxRule,
    ThresholdRule,
    TopKRule,
)
from backend.dictionaries.base import Triples


class TorchSelector:
    """Selects with torch on an accelerator which pre-activations of an encoder tile (some tokens)
    stay non-zero under the activation rule; gives the same triples as `NumpySelector`."""

    def __init__(self, rule: ActivationRule, rows: int, d_sae: int) -> None:
        self.rule = rule
        self.d_sae = d_sae
        self.blocks: list[tuple[Tensor, Tensor, Tensor]] = []
        """(token, feature, value) tensors of each block's survivors."""
        self.best: tuple[Tensor, Tensor] | None = None
        """TopK so far: values [rows ≤k] with sign, and their features."""

    def add_block(self, pre: Tensor, start: int) -> None:
        """Find with torch the surviving activations in a block of pre-activations [rows width],
        those of the features from `start` on; `pre` is not kept."""
        if isinstance(self.rule, TopKRule):
            self._take_top(pre, start, self.rule)
            return
        dense = self.rule.keep(pre) if isinstance(self.rule, GroupMaxRule) else pre
        token, feature = self._mask(dense, start).nonzero(as_tuple=True)
        self.blocks.append((token, feature + start, dense[token, feature]))

    def _mask(self, block: Tensor, start: int) -> Tensor:
        """Return, as a torch mask, which pre-activations of a block survive the activation rule."""
        match self.rule:
            case ThresholdRule(threshold=None):
                return block > 0
            case ThresholdRule(threshold=Tensor() as threshold):
                return block > threshold[start : start + block.shape[1]]
        return block != 0

    def _take_top(self, pre: Tensor, start: int, rule: TopKRule) -> None:
        """Merge a block's k largest pre-activations (TopK) with those of earlier blocks, on the
        device."""
        feature = _strongest_features(pre, rule)
        value = pre.gather(1, feature)
        feature = feature + start
        if self.best is not None:
            value = torch.cat([self.best[0], value], dim=1)
            feature = torch.cat([self.best[1], feature], dim=1)
            at = _strongest_features(value, rule)
            value, feature = value.gather(1, at), feature.gather(1, at)
        self.best = value, feature

    def collect(self) -> Triples:
        """Return the activations that survive in all torch blocks of the tile as triples."""
        if self.best is not None:
            value, feature = self.best
            feature, order = feature.sort(dim=1)
            value = value.gather(1, order)
            live = value != 0 if self.rule.signed else value > 0
            # One nonzero: a mask as an index would have the host wait for the device once more.
            token, place = live.nonzero(as_tuple=True)
            return Triples(token.int(), feature[token, place].int(), value[token, place])
        token, feature, value = (torch.cat(column) for column in zip(*self.blocks, strict=True))
        if len(self.blocks) > 1:  # each block is in order; together they are not
            order = (token * self.d_sae + feature).argsort()
            token, feature, value = token[order], feature[order], value[order]
        return Triples(token.int(), feature.int(), value)


def _strongest_features(values: Tensor, rule: TopKRule) -> Tensor:
    """Return for TopK the column indices of each token's k strongest pre-activations in a torch
    tensor, or of all in a shorter row."""
    ranked = values.abs() if rule.by_magnitude else values
    return ranked.topk(min(rule.k, values.shape[1]), dim=1, sorted=False).indices
