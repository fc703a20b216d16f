"""Summed losses by piece, their differences with intervals, and when those are narrow enough."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from torch import Tensor

from backend.evaluation.reconstruction_batches import CountedMasks

WANTED_MARGIN = 0.01
"""Nats to which ΔCE, and the share to which a recovery, is wanted."""
WANTED_MARGIN_SHARE = 0.1
"""Or this part of ΔCE, where that is more."""
DECISIVE_DELTA_CE = 1.0
"""Nats at which ΔCE is judged: a run does not end while its interval holds this."""
MIN_PIECES = 20
MIN_DOCUMENTS = 10
"""Documents from which intervals are taken over documents; below, over pieces."""


class SummedLosses:
    """Next-token losses of one kind of run, summed by piece."""

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._counts: list[int] = []
        self._documents: list[int] = []

    def add(
        self, losses: Float[Tensor, "batch pos-1"], masks: CountedMasks, documents: Sequence[int]
    ) -> None:
        """Add a batch: the losses at its scored positions. Batches come in one order for all."""
        kept = losses.double().where(masks.scored, losses.new_zeros(()).double())
        self._sums += kept.sum(1).tolist()
        self._counts += masks.n_scored
        self._documents += list(documents)

    @property
    def n(self) -> int:
        """Losses that count."""
        return sum(self._counts)

    @property
    def n_pieces(self) -> int:
        """Pieces added so far."""
        return len(self._sums)

    def mean(self) -> float:
        """Nats per token."""
        return math.fsum(self._sums) / self.n

    def difference(self, clean: "SummedLosses") -> tuple[float, float | None]:
        """This loss minus the clean one, per token, over the pieces that have both; and half the
        width of its 95 % interval.

        The interval is that of a ratio of sums with documents (pieces, where there are fewer than
        ten documents) as the unit drawn. None with one unit, or where both are the same run.
        """
        done = min(len(self._sums), len(clean._sums))
        d = np.array(self._sums[:done]) - np.array(clean._sums[:done])
        n = np.array(self._counts[:done], dtype=float)
        if n.sum() == 0:
            return math.nan, None
        mean = float(d.sum() / n.sum())
        if clean is self:
            return mean, None
        units = self._documents[:done]
        if len(set(units)) < MIN_DOCUMENTS:
            units = list(range(done))
        _, index = np.unique(units, return_inverse=True)
        rest = np.bincount(index, weights=d - mean * n)
        k = len(rest)
        if k < 2:
            return mean, None
        error = math.sqrt(k / (k - 1) * float((rest**2).sum())) / float(n.sum())
        return mean, student_t_quantile(k - 1) * error


@cache
def student_t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


def is_difference_precise(losses: SummedLosses, clean: SummedLosses) -> bool:
    """Whether ΔCE is known to 0.01 nats or a tenth of it, and on which side of 1 nat it lies."""
    if losses.n_pieces < MIN_PIECES:
        return False
    delta, margin = losses.difference(clean)
    if margin is None or abs(delta - DECISIVE_DELTA_CE) <= margin:
        return False
    return margin <= max(WANTED_MARGIN, WANTED_MARGIN_SHARE * abs(delta))


def is_recovery_precise(ablated: SummedLosses, spliced: SummedLosses, clean: SummedLosses) -> bool:
    """Whether the ablation's damage is known well enough for the recovery to be known to 0.01.

    The recovery is 1 - ΔCE/damage: an error of the damage counts ΔCE/damage² of itself.
    """
    if ablated.n_pieces < MIN_PIECES:
        return False
    delta, _ = spliced.difference(clean)
    damage, margin = ablated.difference(clean)
    if margin is None or not damage > margin:
        return False
    return abs(delta) / damage**2 * margin <= WANTED_MARGIN
