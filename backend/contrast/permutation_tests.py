"""How surprising a difference between two sides is, if the labels meant nothing.

Labels are dealt out anew over whole documents. Two statistics: the rank sum of one side (silent
documents are ties at 0, so it holds both how often and how strongly a feature fires), and the
difference of firing shares.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

MAX_EXACT_RELABELLINGS = 20_000
"""Up to so many ways to deal out the labels, all of them are counted."""
MIN_RELABELLINGS, MAX_RELABELLINGS = 2_000, 1_000_000
"""Random relabellings of a feature."""
ENOUGH_MATCHES = 20
"""Relabellings as extreme as the real labels, after which a feature's p-value stands."""
MAX_MULTIPLICATIONS = 4e10
"""Multiplications that the further relabellings may cost: some seconds."""
MAX_MATRIX_ELEMENTS = 20_000_000
"""Numbers of a matrix held at once."""
RELABELLINGS_PER_CHUNK = 1_000
"""Relabellings drawn at once."""


@dataclass(frozen=True)
class PermutationResult:
    """Two-sided p-values, and how they were had."""

    p: Float[np.ndarray, "m"]
    relabellings: Int[np.ndarray, "m"]
    """How many were drawn for each p-value, which cannot be below 1 / (this + 1); 0 if `exact`."""
    exact: bool
    """Every way to deal out the labels was counted."""


def rank_scores(tile: Float32[np.ndarray, "n m"]) -> Float32[np.ndarray, "n m"]:
    """Twice the midrank less (n + 1), by column: whole numbers that sum to 0.

    Sums over a side stay below 2**24 up to 4,000 documents, so float32 holds them exactly.
    """
    from scipy.stats import rankdata  # here, since it takes a while to import

    return (2 * rankdata(tile, axis=0) - (len(tile) + 1)).astype(np.float32)


def rank_sum_test(
    values: Callable[[slice], Float32[np.ndarray, "n m"]],
    m: int,
    on_a: Bool[np.ndarray, "n"],
    seed: int = 0,
    tick: Callable[[float], None] = lambda share: None,
) -> PermutationResult:
    """Permutation test of the rank sum for m features; `values(columns)` gives some of them.

    Exact when the labels can be dealt out in at most EXACT ways. Else FEWEST random relabellings
    for every feature and ten times as many, again and again, for those that fewer than ENOUGH
    relabellings have matched: that spends the work on the small p-values, as sequential Monte
    Carlo tests do (Besag and Clifford, 1991). p = (matched + 1) / (drawn + 1). `tick` is called
    with the share done, and may raise to stop.
    """
    n, n_a = len(on_a), int(on_a.sum())
    exact = comb(n, n_a) <= MAX_EXACT_RELABELLINGS
    hits, drawn = np.zeros(m, np.int64), np.zeros(m, np.int64)
    room = max(MAX_MATRIX_ELEMENTS // n, 1)
    for first in range(0, m, room):
        columns = slice(first, min(first + room, m))
        scores = rank_scores(values(columns))
        if exact:
            hits[columns] = count_matching_relabellings(scores, on_a, all_relabellings(n, n_a))
        else:
            work = MAX_MULTIPLICATIONS * scores.shape[1] / m
            hits[columns], drawn[columns] = relabel_sequentially(scores, on_a, seed, m, work)
        tick(columns.stop / m)
    p = hits / comb(n, n_a) if exact else (hits + 1) / (drawn + 1)
    return PermutationResult(p, drawn, exact)


def relabel_sequentially(
    scores: Float32[np.ndarray, "n m"],
    on_a: Bool[np.ndarray, "n"],
    seed: int,
    family: int,
    work: float,
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """How many relabellings match each column, and how many were drawn.

    No more are drawn than let a single one of `family` features pass q = 0.05.
    """
    n, m = scores.shape
    rng = np.random.default_rng(seed)
    hits, drawn = np.zeros(m, np.int64), np.zeros(m, np.int64)
    still, more = np.arange(m), MIN_RELABELLINGS
    wanted = min(max(40 * family, MIN_RELABELLINGS), MAX_RELABELLINGS)
    while len(still):
        hits[still] += count_matching_relabellings(
            scores[:, still], on_a, random_relabellings(n, int(on_a.sum()), more, rng)
        )
        drawn[still] += more
        still = still[hits[still] < ENOUGH_MATCHES]
        total = int(drawn.max())
        more = int(min(9 * total, wanted - total, work / (n * max(len(still), 1))))
        work -= more * n * len(still)
        if more < total:  # not worth another round
            break
    return hits, drawn


def count_matching_relabellings(
    scores: Float32[np.ndarray, "n m"],
    on_a: Bool[np.ndarray, "n"],
    dealt: Iterator[Float32[np.ndarray, "r n"]],
) -> Int[np.ndarray, "m"]:
    """Relabellings whose |rank sum| is at least that of the real labels."""
    found = np.abs(on_a.astype(np.float32) @ scores)
    hits = np.zeros(scores.shape[1], np.int64)
    for labels in dealt:
        hits += (np.abs(labels @ scores) >= found).sum(axis=0)
    return hits


def all_relabellings(n: int, n_a: int) -> Iterator[Float32[np.ndarray, "r n"]]:
    """Every way to put n_a of n documents on one side, as rows of 0 and 1."""
    chosen = np.array(list(combinations(range(n), n_a)))
    labels = np.zeros((len(chosen), n), np.float32)
    np.put_along_axis(labels, chosen, 1, axis=1)
    yield labels


def random_relabellings(
    n: int, n_a: int, count: int, rng: np.random.Generator
) -> Iterator[Float32[np.ndarray, "r n"]]:
    """So many random ways, in chunks."""
    for first in range(0, count, RELABELLINGS_PER_CHUNK):
        draws = rng.random((min(RELABELLINGS_PER_CHUNK, count - first), n), dtype=np.float32)
        chosen = np.argpartition(draws, n_a - 1, axis=1)[:, :n_a]
        labels = np.zeros(draws.shape, np.float32)
        np.put_along_axis(labels, chosen, 1, axis=1)
        yield labels


def firing_share_test(
    fires_a: Int[np.ndarray, "m"], fires_b: Int[np.ndarray, "m"], n_a: int, n_b: int
) -> PermutationResult:
    """Permutation test of the difference of firing shares, exact at every size.

    Over all relabellings the firing documents on side a are hypergeometric, so nothing is drawn.
    """
    from scipy.special import gammaln

    n = n_a + n_b
    p = np.ones(len(fires_a))
    total = fires_a + fires_b
    for k in np.unique(total):
        x = np.arange(max(0, k - n_b), min(k, n_a) + 1)
        logs = (
            _log_binomial(gammaln, n_a, x)
            + _log_binomial(gammaln, n_b, k - x)
            - _log_binomial(gammaln, n, k)
        )
        away = np.abs(x * n - k * n_a)  # whole numbers, so ties are ties
        mine = total == k
        seen = np.abs(fires_a[mine] * n - k * n_a)
        p[mine] = np.minimum((np.exp(logs) * (away >= seen[:, None])).sum(axis=1), 1.0)
    return PermutationResult(p, np.zeros(len(p), np.int64), True)


def _log_binomial(gammaln: Callable, n: int, k: np.ndarray | int) -> np.ndarray:
    """The logarithm of the number of ways to choose k of n."""
    k = np.asarray(k)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def benjamini_hochberg(p: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """Benjamini and Hochberg's q-values (1995): the smallest false discovery rate at which each
    would be called a discovery."""
    m = len(p)
    order = np.argsort(p)[::-1]
    q = np.empty(m)
    q[order] = np.minimum.accumulate(p[order] * m / np.arange(m, 0, -1))
    return np.minimum(q, 1.0)
