"""Where the nodes of a dictionary go when effects are estimated: nothing, means, or other values.

A feature that is silent on a prompt moves as well where its baseline is not zero, so nodes are
those of the prompts together with those of the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.ablated_forward import AblatedForward
from backend.ablation.harvest_means import FeatureMeans
from backend.ablation.model_parts import AblationKind, ModelPart
from backend.ablation.part_edits import locate_part, record_part_values
from backend.ablation.prompt_targets import TargetedPrompts
from backend.attribution.dictionary_activations import (
    ActiveFeatures,
    DictionaryActivations,
    read_dictionary_activations,
)
from backend.attribution.effect_estimates import AttributionBaseline, make_zero_baseline
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from feature_store.errors import InputError

MAX_NODES = 1 << 22
"""Nodes of one block, where every feature has one at every token."""


@dataclass(frozen=True)
class RankingBaseline:
    """What stands in a part's place, over all prompts."""

    engine: LocalEngine
    how: AblationKind
    laid: TargetedPrompts
    """With partners where values come from other prompts: the pairs, or those drawn."""
    means: FeatureMeans | None = None

    @classmethod
    def of(
        cls,
        engine: LocalEngine,
        how: AblationKind,
        laid: TargetedPrompts,
        means: FeatureMeans | None,
        seed: int,
    ) -> "RankingBaseline":
        """InputError where there is nothing to take values from."""
        if how == "resample":
            drawn = AblatedForward(engine.lm, engine.dictionaries, how, seed=seed).drawn(
                laid.prompts
            )
            laid = replace(laid, partners=drawn)
        return cls(engine, how, laid, means)

    def ablation(self, some: TargetedPrompts) -> AblatedForward:
        """The same for exact runs of a block."""
        lm, dictionaries = self.engine.lm, self.engine.dictionaries
        if self.how == "mean":
            return AblatedForward(lm, dictionaries, "mean", self.means, self.laid.prompts)
        if self.how == "zero":
            return AblatedForward(lm, dictionaries, "zero")
        return AblatedForward(lm, dictionaries, "pair", donors=some.partners)

    def baseline(
        self, reading: DictionaryActivations, some: TargetedPrompts, *, everywhere: bool
    ) -> tuple[DictionaryActivations, AttributionBaseline]:
        """The reading with every node that moves, and where each goes.

        `everywhere`: features go at all tokens, those on which they are silent among them.
        InputError for a mean that is not known, and for more nodes than can be held.
        """
        if self.how == "zero":
            return reading, make_zero_baseline(reading, errors=True)
        if self.how == "mean":
            return self._mean(reading, everywhere)
        assert some.partners is not None
        (other,) = read_dictionary_activations(
            self.engine.lm, [reading.dictionary], some.partners.tokens, some.prompts.counted
        )
        both, value = join_nodes(reading, other)
        return both, AttributionBaseline(value, other.error())

    def _mean(
        self, reading: DictionaryActivations, everywhere: bool
    ) -> tuple[DictionaryActivations, AttributionBaseline]:
        name = reading.dictionary.name
        if everywhere:
            reading = add_silent_nodes(reading)
        ids, which = reading.active.feature.unique(return_inverse=True)
        known = [self._known(ModelPart("feature", name, int(i))) for i in ids.tolist()]
        value = reading.active.value.new_tensor(known)[which]
        missed = self._error_mean(reading.dictionary).to(reading.h)
        return reading, AttributionBaseline(value, missed * reading.counted[..., None])

    def _known(self, part: ModelPart) -> float:
        found = None if self.means is None else self.means(part)
        if found is None:
            raise InputError(f"The mean of {part} comes from a harvest, and there is none here.")
        return found

    def _error_mean(self, one: Dictionary) -> Float[Tensor, "d_out"]:
        """Over the counted tokens of all prompts."""
        lm, prompts = self.engine.lm, self.laid.prompts
        at = locate_part(lm, self.engine.dictionaries, ModelPart("error", one.name))
        (missed,) = record_part_values(lm, [at], prompts.tokens, prompts.counted).values()
        return missed[prompts.counted.to(missed.device)].mean(0)


def join_nodes(
    reading: DictionaryActivations, other: DictionaryActivations
) -> tuple[DictionaryActivations, Float[Tensor, "n"]]:
    """The nodes of either, with the first one's values; and the other's values of each."""
    size = (reading.h.shape[1], reading.dictionary.d_sae)
    keys = [node_keys(one.active, size) for one in (reading, other)]
    every = torch.cat(keys).unique()
    mine, theirs = (
        one.active.value.new_zeros(len(every)).index_put_(
            (torch.searchsorted(every, key),), one.active.value
        )
        for one, key in zip((reading, other), keys, strict=True)
    )
    return replace(reading, active=ActiveFeatures(*split_node_keys(every, size), mine)), theirs


def add_silent_nodes(reading: DictionaryActivations) -> DictionaryActivations:
    """With every feature that is active anywhere at every counted token, 0 where it is silent."""
    features = reading.active.feature.unique()
    row, position = reading.counted.nonzero(as_tuple=True)
    if len(features) * len(row) > MAX_NODES:
        raise InputError(
            f"{len(features):,} features at {len(row):,} tokens are too many to estimate with "
            "means at every token: take fewer or shorter prompts, or single tokens."
        )
    n = len(features)
    columns = (row.repeat_interleave(n), position.repeat_interleave(n), features.repeat(len(row)))
    silent = ActiveFeatures(*columns, reading.active.value.new_zeros(len(columns[0])))
    return join_nodes(reading, replace(reading, active=silent))[0]


def node_keys(active: ActiveFeatures, size: Sequence[int]) -> Tensor:
    """A number for each place and feature, in the order of nodes."""
    positions, d_sae = size
    return (active.row * positions + active.position) * d_sae + active.feature


def split_node_keys(keys: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Row, position, feature."""
    positions, d_sae = size
    at = keys // d_sae
    return at // positions, at % positions, keys % d_sae
