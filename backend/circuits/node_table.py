"""Node table of a circuit: all nodes of all dictionaries ordered by |effect|, and sets of them as
masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.circuits.node_effects import NodeEffects


@dataclass(frozen=True, eq=False)
class NodeTable:
    """Table of a circuit's nodes (a feature or error term of a dictionary at one slot) by falling
    |effect|, with one tensor on the CPU for each column."""

    names: tuple[str, ...]
    """Names of the dictionaries in the node table, in the order of the model."""
    which: Int[Tensor, "n"]
    """Dictionary of each node in the table, as an index into `names`."""
    slot: Int[Tensor, "n"]
    feature: Int[Tensor, "n"]
    """Index of each node's feature in the table; −1 for an error term."""
    effect: Float[Tensor, "n"]
    value: Float[Tensor, "n"]
    active: Bool[Tensor, "n"]

    @classmethod
    def from_effects(cls, found: Sequence[NodeEffects]) -> "NodeTable":
        """Build the node table from every dictionary's node effects, the strongest nodes first."""
        which = torch.cat([torch.full_like(one.slot, k) for k, one in enumerate(found)])
        columns = [which] + [
            torch.cat([getattr(one, name) for one in found])
            for name in ("slot", "feature", "effect", "value", "active")
        ]
        order = columns[3].abs().argsort(descending=True, stable=True)
        return cls(tuple(one.name for one in found), *(c[order].cpu() for c in columns))

    def __len__(self) -> int:
        return len(self.which)

    @property
    def error_mask(self) -> Bool[Tensor, "n"]:
        """Return the mask of the nodes in the table that are error terms."""
        return self.feature < 0

    def select(self, chosen: Tensor) -> "NodeTable":
        """Return the rows of the node table that `chosen` selects, in its order."""
        columns = (self.which, self.slot, self.feature, self.effect, self.value, self.active)
        return NodeTable(self.names, *(column[chosen] for column in columns))

    def strongest_sets(self, sizes: Sequence[int]) -> Bool[Tensor, "sizes n"]:
        """Return node sets as masks: the strongest nodes of the table, one set for each size."""
        return torch.arange(len(self)) < torch.tensor(sizes)[:, None]

    def random_sets(
        self, chosen: Int[Tensor, "m"], draws: int, seed: int
    ) -> Bool[Tensor, "draws n"]:
        """Draw random sets of active nodes of the table with as many nodes in every dictionary and
        slot as `chosen` has.

        Error terms are drawn like any other node of their dictionary and slot.
        """
        generator = torch.Generator().manual_seed(seed)
        cell = self.which * (int(self.slot.max()) + 1) + self.slot
        found = torch.zeros(draws, len(self), dtype=torch.bool)
        for key, many in zip(*cell[chosen].unique(return_counts=True), strict=True):
            pool = ((cell == key) & (self.active | self.error_mask)).nonzero()[:, 0]
            order = torch.rand(draws, len(pool), generator=generator).argsort(1)
            found.scatter_(1, pool[order[:, : int(many)]], True)
        return found


def log_spaced_sizes(most: int, points: int = 15) -> list[int]:
    """Return sizes of node sets, from 1 to `most` nodes of the node table, evenly spaced on a
    logarithmic scale."""
    if most < 1:
        return []
    share = torch.linspace(0, 1, points, dtype=torch.double)
    return sorted({round(float(most**one)) for one in share})
