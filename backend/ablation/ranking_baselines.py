"""Baselines for the ranking of effects: the value (zero, a mean, or another prompt's value) that
every feature of a dictionary takes when its effect is estimated.

With a nonzero baseline a feature also changes where it is silent, so the ranked nodes are those
that are active on the prompts or nonzero in the baseline.
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
"""Maximum number of nodes in one block when every feature has a node at every token."""


@dataclass(frozen=True)
class RankingBaseline:
    """Baseline of an effect ranking: the values that replace an ablated feature or error term on
    each prompt (zero, a mean, or the values on another prompt).
    """

    engine: LocalEngine
    how: AblationKind
    targeted: TargetedPrompts
    """The prompts; with partner prompts where values come from other prompts (kinds "pair" and
    "resample").
    """
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
        """Build the baseline for a ranking, drawing a donor prompt for each prompt if `how` is
        "resample".

        Raises InputError where no prompt is long enough to take values from.
        """
        if how == "resample":
            drawn = AblatedForward(engine.lm, engine.dictionaries, how, seed=seed).draw_donors(
                laid.prompts
            )
            laid = replace(laid, partners=drawn)
        return cls(engine, how, laid, means)

    def forward_pass(self, batch: TargetedPrompts) -> AblatedForward:
        """Return the ablated forward pass that measures effects exactly, with parts replaced by
        this baseline, on one block of prompts.
        """
        lm, dictionaries = self.engine.lm, self.engine.dictionaries
        if self.how == "mean":
            return AblatedForward(lm, dictionaries, "mean", self.means, self.targeted.prompts)
        if self.how == "zero":
            return AblatedForward(lm, dictionaries, "zero")
        return AblatedForward(lm, dictionaries, "pair", donors=batch.partners)

    def node_baseline(
        self, reading: DictionaryActivations, batch: TargetedPrompts, *, everywhere: bool
    ) -> tuple[DictionaryActivations, AttributionBaseline]:
        """Return the activations of a dictionary on a block of prompts, with a node (one feature at
        one token) for each that the baseline changes, and the baseline value of every node.

        With `everywhere`, features are replaced at all tokens, including those where they are
        silent. Raises InputError if a feature's mean is unknown or if there are too many nodes.
        """
        if self.how == "zero":
            return reading, make_zero_baseline(reading, errors=True)
        if self.how == "mean":
            return self._mean(reading, everywhere)
        assert batch.partners is not None
        (other,) = read_dictionary_activations(
            self.engine.lm, [reading.dictionary], batch.partners.tokens, batch.prompts.counted
        )
        both, value = join_nodes(reading, other)
        return both, AttributionBaseline(value, other.error_term())

    def _mean(
        self, reading: DictionaryActivations, everywhere: bool
    ) -> tuple[DictionaryActivations, AttributionBaseline]:
        name = reading.dictionary.name
        if everywhere:
            reading = add_silent_nodes(reading)
        ids, which = reading.active.feature.unique(return_inverse=True)
        known = [self._known_mean(ModelPart("feature", name, int(i))) for i in ids.tolist()]
        value = reading.active.value.new_tensor(known)[which]
        missed = self._error_mean(reading.dictionary).to(reading.h)
        return reading, AttributionBaseline(value, missed * reading.counted[..., None])

    def _known_mean(self, part: ModelPart) -> float:
        found = None if self.means is None else self.means(part)
        if found is None:
            raise InputError(
                f"The mean of {part} is read from a harvest. Name a store that has one."
            )
        return found

    def _error_mean(self, one: Dictionary) -> Float[Tensor, "d_out"]:
        """Return the baseline of a dictionary's error term under mean ablation: its mean over the
        counted tokens of all prompts, shape [d_out].
        """
        lm, prompts = self.engine.lm, self.targeted.prompts
        at = locate_part(lm, self.engine.dictionaries, ModelPart("error", one.name))
        (missed,) = record_part_values(lm, [at], prompts.tokens, prompts.counted).values()
        return missed[prompts.counted.to(missed.device)].mean(0)


def join_nodes(
    reading: DictionaryActivations, other: DictionaryActivations
) -> tuple[DictionaryActivations, Float[Tensor, "n"]]:
    """Join the nodes (features active at one token) of the ranked prompts with those of the prompts
    that give the baseline: return all of them with their activations on the ranked prompts, and the
    activation of each on the baseline's prompts; 0 where silent.
    """
    size = (reading.h.shape[1], reading.dictionary.d_sae)
    keys = [node_keys(one.active, size) for one in (reading, other)]
    every = torch.cat(keys).unique()
    own_values, baseline_values = (
        one.active.value.new_zeros(len(every)).index_put_(
            (torch.searchsorted(every, key),), one.active.value
        )
        for one, key in zip((reading, other), keys, strict=True)
    )
    return replace(
        reading, active=ActiveFeatures(*split_node_keys(every, size), own_values)
    ), baseline_values


def add_silent_nodes(reading: DictionaryActivations) -> DictionaryActivations:
    """Add, to a dictionary's activations on ranked prompts, a node with value 0 at every counted
    token where a feature is silent that is active anywhere else, since a mean baseline changes it
    there too.

    Raises InputError if that makes more than MAX_NODES nodes.
    """
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
    """Return one integer for each node (row, position, feature), by which the nodes of ranked
    prompts and of their baseline are matched; it grows with the order of nodes.

    `size` is (positions, d_sae). Inverse of `split_node_keys`.
    """
    positions, d_sae = size
    return (active.row * positions + active.position) * d_sae + active.feature


def split_node_keys(keys: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, position and feature of each node from its key, an integer that `node_keys` has
    made.
    """
    positions, d_sae = size
    at = keys // d_sae
    return at // positions, at % positions, keys % d_sae
