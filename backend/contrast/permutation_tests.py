"""Permutation tests of the difference between two sides, with whole documents relabelled at random.

Two statistics: the rank sum of one side, in which silent documents are ties at 0, so that it
reflects both how often and how strongly a feature fires; and the difference of firing shares.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

MAX_EXACT_RELABELLINGS = 20_000
"""Number of possible relabellings up to which all are counted and the permutation test is exact."""
MIN_RELABELLINGS, MAX_RELABELLINGS = 2_000, 1_000_000
"""Minimum and maximum number of random relabellings of a feature."""
ENOUGH_MATCHES = 20
"""Number of relabellings at least as extreme as the real labels after which a feature's p-value is
final.
"""
MAX_MULTIPLICATIONS = 4e10
"""Maximum number of multiplications for the additional relabellings: some seconds of computation.
"""
MAX_MATRIX_ELEMENTS = 20_000_000
"""Maximum number of elements of a matrix held in memory by the permutation tests."""
RELABELLINGS_PER_CHUNK = 1_000
"""Number of random relabellings drawn in one chunk."""


@dataclass(frozen=True)
class PermutationResult:
    """Result of permutation tests of m features: their two-sided p-values, and the number of
    relabellings of the documents that each is taken from.
    """

    p: Float[np.ndarray, "m"]
    relabellings: Int[np.ndarray, "m"]
    """Number of random relabellings for each p-value, which cannot be below 1 / (relabellings + 1);
    0 if `exact`.
    """
    exact: bool
    """True if every possible relabelling was counted."""


def rank_scores(tile: Float32[np.ndarray, "n m"]) -> Float32[np.ndarray, "n m"]:
    """Return the rank scores of the rank-sum permutation test by column: twice the midrank minus (n
    + 1), integers that sum to 0.

    Sums over one side stay below 2**24 up to 4,000 documents, so float32 represents them exactly.
    """
    from scipy.stats import rankdata  # slow to import

    return (2 * rankdata(tile, axis=0) - (len(tile) + 1)).astype(np.float32)


def rank_sum_test(
    values: Callable[[slice], Float32[np.ndarray, "n m"]],
    m: int,
    on_a: Bool[np.ndarray, "n"],
    seed: int = 0,
    tick: Callable[[float], None] = lambda share: None,
) -> PermutationResult:
    """Run a permutation test of the rank sum for m features; `values(columns)` returns the values
    of some of them.

    The test is exact if there are at most MAX_EXACT_RELABELLINGS relabellings. Otherwise
    MIN_RELABELLINGS random ones are drawn for every feature, and repeatedly ten times as many for
    features that fewer than ENOUGH_MATCHES have matched, which spends the work on small p-values,
    as in sequential Monte Carlo tests (Besag and Clifford 1991). p = (matched + 1) / (drawn + 1).
    `tick` is called with the share done and may raise to stop.
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
    """Run a permutation test sequentially: return, for each column, the number of random
    relabellings that match the real rank sum, and the number drawn.

    The number drawn is limited to what a single one of `family` features needs to reach q = 0.05.
    """
    n, m = scores.shape
    rng = np.random.default_rng(seed)
    hits, drawn = np.zeros(m, np.int64), np.zeros(m, np.int64)
    remaining, more = np.arange(m), MIN_RELABELLINGS
    wanted = min(max(40 * family, MIN_RELABELLINGS), MAX_RELABELLINGS)
    while len(remaining):
        hits[remaining] += count_matching_relabellings(
            scores[:, remaining], on_a, random_relabellings(n, int(on_a.sum()), more, rng)
        )
        drawn[remaining] += more
        remaining = remaining[hits[remaining] < ENOUGH_MATCHES]
        total = int(drawn.max())
        more = int(min(9 * total, wanted - total, work / (n * max(len(remaining), 1))))
        work -= more * n * len(remaining)
        if more < total:  # not worth another round
            break
    return hits, drawn


def count_matching_relabellings(
    scores: Float32[np.ndarray, "n m"],
    on_a: Bool[np.ndarray, "n"],
    dealt: Iterator[Float32[np.ndarray, "r n"]],
) -> Int[np.ndarray, "m"]:
    """Count, for each column of a permutation test, the relabellings whose |rank sum| is at least
    that of the real labels.
    """
    found = np.abs(on_a.astype(np.float32) @ scores)
    hits = np.zeros(scores.shape[1], np.int64)
    for labels in dealt:
        hits += (np.abs(labels @ scores) >= found).sum(axis=0)
    return hits


def all_relabellings(n: int, n_a: int) -> Iterator[Float32[np.ndarray, "r n"]]:
    """Yield every relabelling of an exact permutation test: each way to put n_a of n documents on
    side a, as rows of 0 and 1.
    """
    chosen = np.array(list(combinations(range(n), n_a)))
    labels = np.zeros((len(chosen), n), np.float32)
    np.put_along_axis(labels, chosen, 1, axis=1)
    yield labels


def random_relabellings(
    n: int, n_a: int, count: int, rng: np.random.Generator
) -> Iterator[Float32[np.ndarray, "r n"]]:
    """Yield `count` random relabellings for a permutation test, as rows of 0 and 1, in chunks."""
    for first in range(0, count, RELABELLINGS_PER_CHUNK):
        draws = rng.random((min(RELABELLINGS_PER_CHUNK, count - first), n), dtype=np.float32)
        chosen = np.argpartition(draws, n_a - 1, axis=1)[:, :n_a]
        labels = np.zeros(draws.shape, np.float32)
        np.put_along_axis(labels, chosen, 1, axis=1)
        yield labels


def firing_share_test(
    fires_a: Int[np.ndarray, "m"], fires_b: Int[np.ndarray, "m"], n_a: int, n_b: int
) -> PermutationResult:
    """Run an exact permutation test of the difference of firing shares.

    Over all relabellings the number of firing documents on side a is hypergeometric, so nothing is
    drawn at random.
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
        distances = np.abs(x * n - k * n_a)  # integers, so ties are exact
        mine = total == k
        seen = np.abs(fires_a[mine] * n - k * n_a)
        p[mine] = np.minimum((np.exp(logs) * (distances >= seen[:, None])).sum(axis=1), 1.0)
    return PermutationResult(p, np.zeros(len(p), np.int64), True)


def _log_binomial(gammaln: Callable, n: int, k: np.ndarray | int) -> np.ndarray:
    """Return the logarithm of the binomial coefficient n over k, for the exact permutation test of
    firing shares.
    """
    k = np.asarray(k)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def benjamini_hochberg(p: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """Return the q-values of permutation tests' p-values (Benjamini and Hochberg 1995): the
    smallest false discovery rate at which each counts as a discovery.
    """
    m = len(p)
    order = np.argsort(p)[::-1]
    q = np.empty(m)
    q[order] = np.minimum.accumulate(p[order] * m / np.arange(m, 0, -1))
    return np.minimum(q, 1.0)
