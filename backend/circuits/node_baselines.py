"""Baselines of a circuit's nodes: the value that an ablated node takes (zero, the mean of its slot,
a resampled prompt's value, or the value in the corrupted prompt)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.dictionary_activations import (
    DictionaryActivations,
    read_dictionary_activations,
)
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.feature_changes import (
    BaselineValues,
    deactivate_features,
    decode_without_features,
    make_zero_baseline_values,
    scale_decoder_sum,
)
from backend.circuits.records import BASELINE_KINDS, BaselineKind
from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError, pick_by_name

FEWEST_PROMPTS = 5
"""Minimum number of prompts from which a mean or a resampled baseline is taken."""
MOST_DONOR_PROMPTS = 64
"""Maximum number of prompts that baselines are resampled from."""
PROMPTS_READ_AT_ONCE = 16
"""Number of prompts that are read in one forward pass to compute baselines."""


@dataclass(frozen=True, eq=False)
class DictionaryOnPrompts:
    """One dictionary on a block of prompts: its activations, its error terms, and the baselines of
    both."""

    activations: DictionaryActivations
    slot: Int[Tensor, "batch pos"]
    error: Float[Tensor, "batch pos d_out"]
    """Error term of the dictionary at every token; 0 at tokens without a slot."""
    baseline: BaselineValues

    @property
    def dictionary(self) -> Dictionary:
        return self.activations.dictionary

    def error_change(self) -> Float[Tensor, "batch pos d_out"]:
        """Return the change of every error-term node to its baseline: [batch, position, d_out]."""
        return (self.baseline.error_values() - self.error) * (self.slot >= 0)[..., None]


def compute_error_terms(
    activations: DictionaryActivations, slot: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_out"]:
    """Compute the error terms of a dictionary, which are nodes with baselines like features: the
    model's activation minus the reconstruction at tokens with a slot, 0 elsewhere."""
    d, gone = activations.dictionary, deactivate_features(activations, slot)
    missed = (
        activations.h
        - decode_without_features(d, activations.x)
        + scale_decoder_sum(d, activations.x, gone.sum_decoder_rows(d))
    )
    return missed * (slot >= 0)[..., None]


class NodeBaselines:
    """Baselines of one kind for the nodes of all dictionaries, taken from the prompts `source` on
    which nodes are selected.

    Raises InputError if these prompts do not allow this kind of baseline.
    """

    def __init__(
        self,
        lm: LanguageModel,
        dictionaries: Sequence[Dictionary],
        kind: BaselineKind,
        source: CircuitPromptSet,
        seed: int = 0,
    ) -> None:
        pick_by_name("baseline", kind, dict.fromkeys(BASELINE_KINDS, kind))
        _check_baseline_kind(kind, source)
        self.kind: BaselineKind = kind
        self.lm = lm
        self.dictionaries = list(dictionaries)
        self.source = source.select(slice(0, MOST_DONOR_PROMPTS)) if kind == "resample" else source
        self.seed = seed
        self._means = self._compute_slot_means() if kind == "mean" else []
        self._donors = self._read_activations(self.source) if kind == "resample" else []

    @torch.no_grad()
    def read_dictionaries(self, prompts: CircuitPromptSet) -> list[DictionaryOnPrompts]:
        """Read the activations and error terms of every dictionary on a few prompts, and return
        them together with the baselines of its nodes."""
        readings = self._read_activations(prompts)
        baselines = self._build_baseline_values(prompts, readings)
        return [
            DictionaryOnPrompts(one, prompts.slot, compute_error_terms(one, prompts.slot), baseline)
            for one, baseline in zip(readings, baselines, strict=True)
        ]

    def _build_baseline_values(
        self, prompts: CircuitPromptSet, readings: Sequence[DictionaryActivations]
    ) -> list[BaselineValues]:
        """Return for every dictionary the values that ablated nodes take on these prompts: zero,
        slot means, values of resampled prompts, or values of the corrupted prompts."""
        if self.kind == "zero":
            return [make_zero_baseline_values(one, prompts.slot) for one in readings]
        if self.kind == "mean":
            return [apply_slot_means(one, prompts.slot) for one in self._means]
        if self.kind == "pair":
            partners = prompts.batch.partners
            if partners is None:
                raise InputError(
                    "The baseline 'pair' needs a corrupted prompt, and a prompt has none."
                )
            donors = read_dictionary_activations(
                self.lm, self.dictionaries, partners.tokens, partners.counted
            )
            flat = torch.arange(prompts.slot.numel(), device=prompts.slot.device).view(
                prompts.slot.shape
            )
            chosen = torch.where(prompts.slot >= 0, flat, -1)
            return [take_donor_values(one, prompts.slot, chosen, prompts.slot) for one in donors]
        chosen = draw_donor_tokens(self.source, prompts, self.seed)
        return [
            take_donor_values(one, self.source.slot, chosen, prompts.slot) for one in self._donors
        ]

    def _read_activations(self, prompts: CircuitPromptSet) -> list[DictionaryActivations]:
        counted = prompts.slot.cpu() >= 0
        tokens = prompts.batch.prompts.tokens
        return read_dictionary_activations(self.lm, self.dictionaries, tokens, counted)

    @torch.no_grad()
    def _compute_slot_means(self) -> list[BaselineValues]:
        """Compute the mean baselines: the mean activation of every feature and the mean error term
        of every slot over the source prompts."""
        sums = [_SlotSums(len(self.source.names), d) for d in self.dictionaries]
        for block in self.source.iterate_blocks(PROMPTS_READ_AT_ONCE):
            for activations, total in zip(self._read_activations(block), sums, strict=True):
                total.add(activations, block.slot)
        return [total.mean() for total in sums]


class _SlotSums:
    """Sums of feature activations and error terms over the tokens of each slot, from which mean
    baselines are computed."""

    def __init__(self, slots: int, d: Dictionary) -> None:
        self.slots, self.d_sae = slots, d.d_sae
        self.tokens = torch.zeros(slots, dtype=torch.long)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.error: Tensor | float = 0.0

    def add(self, activations: DictionaryActivations, slot: Tensor) -> None:
        active, flat = activations.active, slot.flatten()
        inside = flat >= 0
        at = slot[active.row, active.position]
        keys, which = (at * self.d_sae + active.feature).unique(return_inverse=True)
        self.keys.append(keys)
        self.values.append(active.value.new_zeros(len(keys)).index_add_(0, which, active.value))
        error = compute_error_terms(activations, slot).flatten(0, 1)
        summed = error.new_zeros(self.slots, error.shape[-1])
        self.error = self.error + summed.index_add_(0, flat[inside], error[inside])
        self.tokens = self.tokens + torch.bincount(flat[inside], minlength=self.slots).cpu()

    def mean(self) -> BaselineValues:
        keys, which = torch.cat(self.keys).unique(return_inverse=True)
        values = torch.cat(self.values)
        summed = values.new_zeros(len(keys)).index_add_(0, which, values)
        tokens = self.tokens.clamp_min(1).to(keys.device)
        place = keys // self.d_sae
        slot = torch.arange(self.slots, device=keys.device)
        assert isinstance(self.error, Tensor), "no prompt was read"
        return BaselineValues(
            slot[None, :0],
            slot,
            place,
            keys % self.d_sae,
            summed / tokens[place],
            self.error / tokens[:, None],
        )


def apply_slot_means(mean: BaselineValues, slot: Int[Tensor, "batch pos"]) -> BaselineValues:
    """Return mean baselines for other prompts: every token gets the means of its own slot (the
    place in the prompt where a node can be), which `slot` gives, [batch, position]."""
    return BaselineValues(slot, mean.slot, mean.place, mean.feature, mean.value, mean.error)


def take_donor_values(
    donor: DictionaryActivations,
    donor_slot: Int[Tensor, "donors donor_pos"],
    chosen: Int[Tensor, "batch pos"],
    slot: Int[Tensor, "batch pos"],
) -> BaselineValues:
    """Return resampled or corrupted-prompt baselines: each token takes the activations and error
    term of a donor token, given as a flat index (−1: none)."""
    active = donor.active
    token = (
        active.row * donor_slot.shape[1] + active.position
    )  # sorted, because active features are
    counts = torch.bincount(token, minlength=donor_slot.numel())
    starts = counts.cumsum(0) - counts
    source = chosen.flatten()
    many = torch.where(source >= 0, counts[source.clamp_min(0)], 0)
    place = torch.repeat_interleave(torch.arange(len(source), device=many.device), many)
    within = torch.arange(len(place), device=many.device) - (many.cumsum(0) - many)[place]
    entry = starts[source[place]] + within
    error = compute_error_terms(donor, donor_slot).flatten(0, 1)[source.clamp_min(0)]
    at = torch.arange(len(source), device=many.device).view(slot.shape)
    return BaselineValues(
        torch.where(slot >= 0, at, -1),
        slot.flatten(),
        place,
        active.feature[entry],
        active.value[entry],
        error * (source >= 0)[:, None],
    )


def draw_donor_tokens(
    source: CircuitPromptSet, prompts: CircuitPromptSet, seed: int
) -> Int[Tensor, "batch pos"]:
    """Draw for each token a random token of the same slot in another prompt, from which its
    resampled baseline is taken. Raises InputError if no other prompt has the slot."""
    generator = torch.Generator().manual_seed(seed)
    rows, width = source.slot.shape
    slots = source.slot.flatten().cpu()
    row_of = torch.arange(rows).repeat_interleave(width)
    theirs = [ids.tolist() for ids in source.batch.prompts.tokens]
    found = torch.full_like(prompts.slot.cpu(), -1)
    for row, ids in enumerate(prompts.batch.prompts.tokens.tolist()):
        other = torch.tensor([ids != one for one in theirs])[row_of]
        mine = prompts.slot[row].cpu()
        for name in mine[mine >= 0].unique().tolist():
            pool = (other & (slots == name)).nonzero()[:, 0]
            if not len(pool):
                raise InputError(
                    f"No other prompt has the place {prompts.names[name]!r}, so nothing can be "
                    "resampled there. Give more prompts, or choose zero or pair."
                )
            here = (mine == name).nonzero()[:, 0]
            picks = torch.randint(len(pool), (len(here),), generator=generator)
            found[row, here] = pool[picks]
    return found.to(prompts.slot.device)


def _check_baseline_kind(kind: BaselineKind, source: CircuitPromptSet) -> None:
    """Raise InputError if the prompts are too few for a mean or resampled baseline, or have no
    corrupted prompts."""
    if kind == "pair" and source.batch.partners is None:
        raise InputError(
            "The baseline 'pair' needs a corrupted prompt of equal length for each prompt."
        )
    if kind in ("mean", "resample") and len(source) < FEWEST_PROMPTS:
        raise InputError(
            f"The baseline {kind!r} needs at least {FEWEST_PROMPTS} prompts, and there are "
            f"{len(source)}. Give more prompts, or choose zero or pair."
        )
