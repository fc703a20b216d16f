"""What happens to a dictionary's features when they go to their baseline: sparse lists of moves.

A feature leaves where it is active and arrives where its baseline is not zero; both are lists of
(place, feature, amount) and never a dense [tokens features]. Under a mean baseline all tokens of a
slot share one place, so that the list is as short as the slots' means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.nodes import CHUNK, Reading
from backend.circuits.examples import Examples
from backend.circuits.records import Baseline
from backend.dictionaries.affine import Affine
from backend.dictionaries.base import Dictionary
from feature_store.errors import InputError

FEWEST = 5
"""Prompts from which a mean over prompts is taken."""


@dataclass(frozen=True, eq=False)
class Moves:
    """Features and by how much they change, at places that tokens refer to."""

    at: Int[Tensor, "batch pos"]
    """A token's place; -1: none."""
    slot: Int[Tensor, "places"]
    """Of each place; -1: none."""
    place: Int[Tensor, "n"]
    feature: Int[Tensor, "n"]
    amount: Float[Tensor, "n"]

    def spread(self, d: Dictionary, amount: Float[Tensor, "n"]) -> Float[Tensor, "batch pos d_out"]:
        """Σ amount · decoder row at every token, as the coder writes it."""
        W_dec = d.coder.W_dec
        total = W_dec.new_zeros(len(self.slot) + 1, W_dec.shape[1])
        step = max(1, CHUNK // W_dec.shape[1])
        columns = (self.place, self.feature, amount.to(W_dec.dtype))
        for place, feature, much in zip(*(c.split(step) for c in columns), strict=True):
            total.index_add_(0, place, much[:, None] * W_dec[feature])
        return total[self.at]  # -1 is the last row, which stays zero

    def pull(self, d: Dictionary, g: Float[Tensor, "batch pos d_out"]) -> Float[Tensor, "n"]:
        """amount · derivative by each moved feature, `g` being by what the coder writes."""
        W_dec = d.coder.W_dec
        total = g.new_zeros(len(self.slot) + 1, g.shape[-1])
        total.index_add_(0, self.at.flatten() % len(total), g.flatten(0, 1))
        step = max(1, CHUNK // W_dec.shape[1])
        columns = (self.place, self.feature, self.amount)
        parts = [
            (total[place] * W_dec[feature]).sum(-1) * much
            for place, feature, much in zip(*(c.split(step) for c in columns), strict=True)
        ]
        return torch.cat(parts) if parts else g.new_zeros(0)


@dataclass(frozen=True, eq=False)
class Ground:
    """Where the nodes of one dictionary go, at places that tokens refer to."""

    at: Int[Tensor, "batch pos"]
    slot: Int[Tensor, "places"]
    place: Int[Tensor, "n"]
    """The baseline's non-zero features, ordered by place, then by feature."""
    feature: Int[Tensor, "n"]
    value: Float[Tensor, "n"]
    error: Float[Tensor, "places d_out"]
    """What an error term becomes."""

    def moves(self) -> Moves:
        """The features that arrive."""
        return Moves(self.at, self.slot, self.place, self.feature, self.value)

    def values(self, features: Int[Tensor, "k"], d_sae: int) -> Float[Tensor, "places k"]:
        """The baseline of some features at every place."""
        keys = self.place * d_sae + self.feature
        asked = torch.arange(len(self.slot), device=keys.device)[:, None] * d_sae + features
        found = torch.zeros(asked.shape, dtype=self.value.dtype, device=keys.device)
        if len(keys):
            index = torch.searchsorted(keys, asked).clamp_max(len(keys) - 1)
            found = torch.where(keys[index] == asked, self.value[index], found)
        return found

    def errors(self) -> Float[Tensor, "batch pos d_out"]:
        """What the error term of every token becomes."""
        padded = torch.cat([self.error, self.error.new_zeros(1, self.error.shape[1])])
        return padded[self.at]


def leaving(reading: Reading, slot: Int[Tensor, "batch pos"]) -> Moves:
    """Every active feature to zero."""
    at = torch.arange(slot.numel(), device=slot.device).view(slot.shape)
    active = reading.active
    place = active.row * slot.shape[1] + active.position
    inside = slot.flatten()[place] >= 0
    return Moves(at, slot.flatten(), place[inside], active.feature[inside], -active.value[inside])


def zero(reading: Reading, slot: Int[Tensor, "batch pos"]) -> Ground:
    """Everything to nothing."""
    none = torch.zeros(0, dtype=torch.long, device=slot.device)
    value = reading.active.value
    return Ground(
        torch.where(slot >= 0, 0, -1),
        torch.full((1,), -1, device=slot.device),
        none, none, value.new_zeros(0), reading.h.new_zeros(1, reading.h.shape[-1]),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Donors:
    """Readings of one dictionary on the prompts that values are taken from."""

    reading: Reading
    error: Float[Tensor, "batch pos d_out"]
    slot: Int[Tensor, "batch pos"]

    def mean(self, slots: int) -> Ground:
        """The mean of every feature, and of the error term, over the tokens of each slot."""
        d_sae = self.reading.dictionary.d_sae
        flat = self.slot.flatten()
        tokens = torch.bincount(flat[flat >= 0], minlength=slots).clamp_min(1)
        active = self.reading.active
        at = self.slot[active.row, active.position]
        inside = at >= 0
        keys, which = (at * d_sae + active.feature)[inside].unique(return_inverse=True)
        value = active.value.new_zeros(len(keys)).index_add_(0, which, active.value[inside])
        place = keys // d_sae
        error = self.error.new_zeros(slots, self.error.shape[-1])
        error.index_add_(0, flat[flat >= 0], self.error.flatten(0, 1)[flat >= 0])
        return Ground(
            self.slot, torch.arange(slots, device=flat.device), place, keys % d_sae,
            value / tokens[place], error / tokens[:, None],
        )  # fmt: skip

    def taken(self, donor: Int[Tensor, "batch pos"], slot: Int[Tensor, "batch pos"]) -> Ground:
        """Each token takes what `donor` (a flat token number, -1: none) has."""
        active, width = self.reading.active, self.slot.shape[1]
        token = active.row * width + active.position  # ordered
        counts = torch.bincount(token, minlength=self.slot.numel())
        starts = counts.cumsum(0) - counts
        chosen = donor.flatten()
        many = torch.where(chosen >= 0, counts[chosen.clamp_min(0)], 0)
        place = torch.repeat_interleave(torch.arange(len(chosen), device=many.device), many)
        within = torch.arange(len(place), device=many.device) - (many.cumsum(0) - many)[place]
        source = starts[chosen[place]] + within
        error = self.error.flatten(0, 1)[chosen.clamp_min(0)] * (chosen >= 0)[:, None]
        at = torch.arange(len(chosen), device=many.device).view(slot.shape)
        return Ground(
            torch.where(slot >= 0, at, -1), slot.flatten(), place,
            active.feature[source], active.value[source], error,
        )  # fmt: skip


def drawn(
    source: Int[Tensor, "batch pos"],
    slot: Int[Tensor, "batch pos"],
    names: Sequence[str],
    seed: int,
    *,
    same: bool,
) -> Int[Tensor, "batch pos"]:
    """For each token a random one of its slot in `source`; of another prompt where the two are the
    same prompts. InputError for a slot that no other prompt has."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.full_like(slot, -1)
    row_of = torch.arange(len(source)).repeat_interleave(source.shape[1])
    flat = source.flatten().cpu()
    for name in slot[slot >= 0].unique().tolist():
        pool = (flat == name).nonzero()[:, 0]
        wanted = (slot.cpu() == name).nonzero()
        for row, position in wanted.tolist():
            others = pool[row_of[pool] != row] if same else pool
            if not len(others):
                raise InputError(
                    f"No other prompt has the place {names[name]!r}: there is nothing to draw from."
                )
            pick = int(torch.randint(len(others), (1,), generator=generator))
            found[row, position] = others[pick]
    return found


def on(ground: Ground, slot: Int[Tensor, "batch pos"]) -> Ground:
    """A slot's mean, for other prompts with the same slots."""
    return Ground(slot, ground.slot, ground.place, ground.feature, ground.value, ground.error)


def check_baseline(baseline: Baseline, examples: Examples, donors: Examples | None) -> None:
    """InputError for a baseline that these prompts do not have."""
    if baseline == "pair" and examples.laid.partners is None:
        raise InputError("A baseline of pairs takes a corrupt prompt of equal length for each.")
    source = examples if donors is None else donors
    if baseline in ("mean", "resample") and len(source) < FEWEST:
        raise InputError(
            f"The baseline {baseline!r} is taken from at least {FEWEST} prompts; here are "
            f"{len(source)}. Give more prompts, or choose zero or pair."
        )


def floor(d: Dictionary, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
    """decode(0, x): what stays when every feature and the error term are nothing."""
    if isinstance(d.coder, Affine):
        x = x.to(d.coder.W_dec)
        _, undo = d.norm.into(x)
        bias = undo(d.coder.b_dec.expand(*x.shape[:-1], -1))
        return bias if d.W_skip is None else bias + x @ d.W_skip.T
    if d.needs_sequence:
        return torch.stack([d.decode(one.new_zeros(len(one), d.d_sae), one) for one in x])
    flat = x.flatten(0, -2).split(max(1, CHUNK // d.d_sae))
    parts = [d.decode(one.new_zeros(len(one), d.d_sae), one) for one in flat]
    return torch.cat(parts).view(*x.shape[:-1], -1)


def written(
    d: Dictionary, x: Float[Tensor, "batch pos d_in"], z: Float[Tensor, "batch pos d_out"]
) -> Float[Tensor, "batch pos d_out"]:
    """What a sum of decoder rows adds to the stream at these tokens."""
    if not d.norm.per_token and d.norm.out_scale == 1.0:
        return z
    _, undo = d.norm.into(x.to(z))
    return undo(z) - undo(torch.zeros_like(z))
