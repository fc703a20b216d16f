"""Next-token losses of a reconstruction check: sums by piece, their differences with confidence
intervals, and stopping rules."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from backend.evaluation.reconstruction_batches import CountedMasks
from feature_store.statistics.student_t import student_t_quantile

WANTED_MARGIN = 0.01
"""Margin in nats to which ΔCE is measured, and margin to which the share of recovered loss is
measured."""
WANTED_MARGIN_SHARE = 0.1
"""Share of ΔCE that is accepted as its margin, where that is more than WANTED_MARGIN."""
DECISIVE_DELTA_CE = 1.0
"""Value of ΔCE in nats at which a reconstruction is judged: a check does not stop while the
interval contains it."""
MIN_PIECES = 20
MIN_DOCUMENTS = 10
"""Number of documents from which confidence intervals of losses are taken over documents; with
fewer, over pieces."""


class SummedLosses:
    """Next-token losses in one kind of run of the reconstruction check (clean, spliced or ablated),
    summed over each piece of text."""

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._counts: list[int] = []
        self._documents: list[int] = []

    def add(
        self, losses: Float[Tensor, "batch pos-1"], masks: CountedMasks, documents: Sequence[int]
    ) -> None:
        """Add the losses of a batch of text pieces at its scored positions. All kinds of run must
        add batches in the same order."""
        scored = losses.double().where(masks.scored, losses.new_zeros(()).double())
        self._sums += scored.sum(1).tolist()
        self._counts += masks.n_scored
        self._documents += list(documents)

    @property
    def n(self) -> int:
        """Number of next-token losses that were summed."""
        return sum(self._counts)

    @property
    def n_pieces(self) -> int:
        """Number of text pieces whose losses were added so far."""
        return len(self._sums)

    def mean(self) -> float:
        """Return the mean of the summed losses, in nats per token."""
        return math.fsum(self._sums) / self.n

    def difference(self, clean: "SummedLosses") -> tuple[float, float | None]:
        """Return the mean difference of the loss per token to that of the clean run (ΔCE for the
        spliced run), and half the width of its 95 % interval.

        It is taken over the pieces that both runs have. The interval is that of a ratio of sums
        with documents (pieces, where there are fewer than ten documents) as sampling units. The
        half-width is None with one unit, or where both are the same run.
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


def is_difference_precise(losses: SummedLosses, clean: SummedLosses) -> bool:
    """Return whether the loss difference ΔCE is known to 0.01 nats or a tenth of itself, and on
    which side of 1 nat it is."""
    if losses.n_pieces < MIN_PIECES:
        return False
    delta, margin = losses.difference(clean)
    if margin is None or abs(delta - DECISIVE_DELTA_CE) <= margin:
        return False
    return margin <= max(WANTED_MARGIN, WANTED_MARGIN_SHARE * abs(delta))


def is_recovery_precise(ablated: SummedLosses, spliced: SummedLosses, clean: SummedLosses) -> bool:
    """Return whether the losses under zero or mean ablation are known well enough for the share of
    loss that the reconstruction recovers to be known to 0.01.

    The recovery is 1 - ΔCE/damage: an error of the damage counts ΔCE/damage² of itself.
    """
    if ablated.n_pieces < MIN_PIECES:
        return False
    delta, _ = spliced.difference(clean)
    damage, margin = ablated.difference(clean)
    if margin is None or not damage > margin:
        return False
    return abs(delta) / damage**2 * margin <= WANTED_MARGIN
