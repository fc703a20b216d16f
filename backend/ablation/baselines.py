"""Where the nodes of a dictionary go when effects are estimated: nothing, means, or other values.

A feature that is silent on a prompt moves as well where its baseline is not zero, so nodes are
those of the prompts together with those of the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.changes import site, values
from backend.ablation.laying import Laid
from backend.ablation.means import Means
from backend.ablation.parts import How, Part
from backend.ablation.run import Ablation
from backend.attribution.effects import Baseline, zero
from backend.attribution.nodes import Active, Reading, read
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from feature_store.errors import InputError

MOST = 1 << 22
"""Nodes of one block, where every feature has one at every token."""


@dataclass(frozen=True)
class Ground:
    """What stands in a part's place, over all prompts."""

    engine: LocalEngine
    how: How
    laid: Laid
    """With partners where values come from other prompts: the pairs, or those drawn."""
    means: Means | None = None

    @classmethod
    def of(
        cls, engine: LocalEngine, how: How, laid: Laid, means: Means | None, seed: int
    ) -> "Ground":
        """InputError where there is nothing to take values from."""
        if how == "resample":
            drawn = Ablation(engine.lm, engine.dictionaries, how, seed=seed).drawn(laid.prompts)
            laid = replace(laid, partners=drawn)
        return cls(engine, how, laid, means)

    def ablation(self, some: Laid) -> Ablation:
        """The same for exact runs of a block."""
        lm, dictionaries = self.engine.lm, self.engine.dictionaries
        if self.how == "mean":
            return Ablation(lm, dictionaries, "mean", self.means, self.laid.prompts)
        if self.how == "zero":
            return Ablation(lm, dictionaries, "zero")
        return Ablation(lm, dictionaries, "pair", donors=some.partners)

    def baseline(
        self, reading: Reading, some: Laid, *, everywhere: bool
    ) -> tuple[Reading, Baseline]:
        """The reading with every node that moves, and where each goes.

        `everywhere`: features go at all tokens, those on which they are silent among them.
        InputError for a mean that is not known, and for more nodes than can be held.
        """
        if self.how == "zero":
            return reading, zero(reading, errors=True)
        if self.how == "mean":
            return self._mean(reading, everywhere)
        assert some.partners is not None
        (other,) = read(
            self.engine.lm, [reading.dictionary], some.partners.tokens, some.prompts.counted
        )
        both, value = joined(reading, other)
        return both, Baseline(value, other.error())

    def _mean(self, reading: Reading, everywhere: bool) -> tuple[Reading, Baseline]:
        name = reading.dictionary.name
        if everywhere:
            reading = at_all_tokens(reading)
        ids, which = reading.active.feature.unique(return_inverse=True)
        known = [self._known(Part("feature", name, int(i))) for i in ids.tolist()]
        value = reading.active.value.new_tensor(known)[which]
        missed = self._error_mean(reading.dictionary).to(reading.h)
        return reading, Baseline(value, missed * reading.counted[..., None])

    def _known(self, part: Part) -> float:
        found = None if self.means is None else self.means(part)
        if found is None:
            raise InputError(f"The mean of {part} comes from a harvest, and there is none here.")
        return found

    def _error_mean(self, one: Dictionary) -> Float[Tensor, "d_out"]:
        """Over the counted tokens of all prompts."""
        lm, prompts = self.engine.lm, self.laid.prompts
        at = site(lm, self.engine.dictionaries, Part("error", one.name))
        (missed,) = values(lm, [at], prompts.tokens, prompts.counted).values()
        return missed[prompts.counted.to(missed.device)].mean(0)


def joined(reading: Reading, other: Reading) -> tuple[Reading, Float[Tensor, "n"]]:
    """The nodes of either, with the first one's values; and the other's values of each."""
    size = (reading.h.shape[1], reading.dictionary.d_sae)
    keys = [keys_of(one.active, size) for one in (reading, other)]
    every = torch.cat(keys).unique()
    mine, theirs = (
        one.active.value.new_zeros(len(every)).index_put_(
            (torch.searchsorted(every, key),), one.active.value
        )
        for one, key in zip((reading, other), keys, strict=True)
    )
    return replace(reading, active=Active(*places(every, size), mine)), theirs


def at_all_tokens(reading: Reading) -> Reading:
    """With every feature that is active anywhere at every counted token, 0 where it is silent."""
    features = reading.active.feature.unique()
    row, position = reading.counted.nonzero(as_tuple=True)
    if len(features) * len(row) > MOST:
        raise InputError(
            f"{len(features):,} features at {len(row):,} tokens are too many to estimate with "
            "means at every token: take fewer or shorter prompts, or single tokens."
        )
    n = len(features)
    columns = (row.repeat_interleave(n), position.repeat_interleave(n), features.repeat(len(row)))
    silent = Active(*columns, reading.active.value.new_zeros(len(columns[0])))
    return joined(reading, replace(reading, active=silent))[0]


def keys_of(active: Active, size: Sequence[int]) -> Tensor:
    """A number for each place and feature, in the order of nodes."""
    positions, d_sae = size
    return (active.row * positions + active.position) * d_sae + active.feature


def places(keys: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Row, position, feature."""
    positions, d_sae = size
    at = keys // d_sae
    return at // positions, at % positions, keys % d_sae
