"""Feature statistics of a harvest, derived from accumulated sums: density, moments of the
activations, trimmed histograms, top tokens, and the most co-active features by φ."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from backend.harvest.accumulator import Accumulator
from backend.harvest.activation_sums import N_BINS
from backend.harvest.coactivation import JointCounts
from backend.harvest.context_reservoir import rank_within_groups
from backend.harvest.pair_counts import PairCounts

MAX_COACTIVE = 10
"""Number of co-active features listed for a feature."""
MIN_JOINT_FIRINGS = 5
"""Joint firings below which the correlation φ of two features is not shown."""

PHI_ROWS = 256
"""Features whose φ with all others is held in memory at a time."""
MIN_RELATIVE_VARIANCE = 1e-6
"""Ratio of variance to mean square below which float64 power sums hold no third and fourth
moment."""


@dataclass(frozen=True)
class FeatureSums:
    """Power sums, counts and histograms of n features as numpy arrays on the host, from which
    feature statistics are derived."""

    n_active: np.ndarray
    n_windows: np.ndarray
    position_sum: np.ndarray
    powers: np.ndarray
    largest: np.ndarray
    histogram: np.ndarray
    window_histogram: np.ndarray

    def __add__(self, other: "FeatureSums") -> "FeatureSums":
        """Add the sums of the features' negative activations to those of their positive ones.
        Windows where both signs fire are then counted twice in `n_windows`."""
        return FeatureSums(
            self.n_active + other.n_active,
            self.n_windows + other.n_windows,
            self.position_sum + other.position_sum,
            self.powers + other.powers,
            np.maximum(self.largest, other.largest),
            self.histogram + other.histogram,
            self.window_histogram + other.window_histogram,
        )


def slot_sums(accumulator: Accumulator, step: slice) -> FeatureSums:
    """Return the accumulated sums of all features, or with `step` those of their positive or
    negative activations only, from which feature statistics are derived."""
    sums = accumulator.statistics
    arrays = {name: value.cpu().numpy() for name, value in sums.state().items()}
    return FeatureSums(
        arrays["n_active"][step],
        arrays["n_windows"][step],
        arrays["position_sum"][step],
        arrays["powers"][:, step],
        arrays["largest"][step],
        arrays["histogram"].reshape(-1, N_BINS)[step],
        arrays["window_histogram"].reshape(-1, N_BINS)[step],
    )


def activation_moments(sums: FeatureSums) -> dict[str, np.ndarray]:
    """Return mean, standard deviation, skew and kurtosis of the activation magnitudes where a
    feature is active; NaN where they are undefined.

    Kurtosis is the fourth standardised moment (3 for a normal distribution). With one active token,
    or activations within a thousandth of their mean, skew and kurtosis are undefined: a float64
    power sum holds sixteen digits, and (mean ÷ std)⁴ of them cancel.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        m1, m2, m3, m4 = sums.powers / sums.n_active
        variance = m2 - m1**2
        # Below this ratio the difference is rounding error of the power sums: the variance is 0.
        variance = np.where(variance > 1e-10 * m2, variance, np.where(m2 > 0, 0.0, np.nan))
        std = np.sqrt(variance)
        skew = (m3 - 3 * m1 * m2 + 2 * m1**3) / std**3
        kurtosis = (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / variance**2
    undefined = ~(variance > MIN_RELATIVE_VARIANCE * m2)
    skew[undefined], kurtosis[undefined] = np.nan, np.nan
    return {"mean_act": m1, "std_act": std, "skew": skew, "kurtosis": kurtosis}


def build_sign_columns(
    sums: FeatureSums, tokens: int, windows: int, first_bin: int
) -> dict[str, pa.Array]:
    """Build the statistics columns that exist for each sign and for both signs together: counts,
    densities, maximum, histogram and moments."""
    fired = sums.n_active > 0
    start, histogram = trim_histograms(sums.histogram, first_bin)
    columns = {
        "n_active": pa.array(sums.n_active),
        "density": pa.array(sums.n_active / tokens),
        "window_density": pa.array(sums.n_windows / windows),
        "max_act": pa.array(sums.largest, mask=~fired),
        "histogram_start": start,
        "histogram": histogram,
    }
    return columns | {
        name: nullable_array(values) for name, values in activation_moments(sums).items()
    }


def nullable_array(values: np.ndarray) -> pa.Array:
    """Return a feature statistic as an Arrow array in which NaN and infinite values are null."""
    return pa.array(values, mask=~np.isfinite(values))


def trim_histograms(histogram: np.ndarray, first_bin: int) -> tuple[pa.Array, pa.Array]:
    """Trim the empty bins at both ends of each feature's histogram. Returns the number of the first
    bin kept and the list of counts."""
    filled = histogram > 0
    any_filled = filled.any(axis=1)
    low = np.where(any_filled, filled.argmax(axis=1), 0)
    high = np.where(any_filled, N_BINS - filled[:, ::-1].argmax(axis=1), 0)
    length = high - low
    flat = histogram[bin_mask(low, high)]
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(flat.astype(np.int32)), mask=pa.array(~any_filled)
    )
    return pa.array((low + first_bin).astype(np.int16), mask=~any_filled), lists


def bin_mask(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which histogram bins lie in [low, high) of each feature: bool [n, N_BINS]."""
    bins = np.arange(N_BINS)
    return (bins >= low[:, None]) & (bins < high[:, None])


def list_array(lengths: np.ndarray, values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Build an Arrow list column, such as each feature's co-active features, from the length of
    each row and all values in order."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, type=kind))


def top_token_columns(sampled: PairCounts, d_sae: int) -> dict[str, pa.Array]:
    """Return each feature's most frequent token in the token sample, and that token's share of the
    feature's total activation."""
    feature, token = sampled.left, sampled.right
    n = np.bincount(feature, weights=sampled.count, minlength=d_sae).astype(np.int64)
    mass = np.bincount(feature, weights=sampled.weight, minlength=d_sae)
    order = np.lexsort((token, -sampled.count, feature))
    best = order[rank_within_groups(feature[order]) == 0]
    top, share = np.full(d_sae, -1), np.full(d_sae, np.nan)
    top[feature[best]] = token[best]
    share[feature[best]] = sampled.weight[best] / mass[feature[best]]
    return {
        "top_token": pa.array(top.astype(np.int32), mask=top < 0),
        "top_token_share": nullable_array(share),
        "top_token_n": pa.array(n),
    }


def coactive_columns(joint: JointCounts, tokens: int) -> dict[str, pa.Array]:
    """Return for each feature the features of highest φ with it, where `tokens` tokens were
    counted.

    φ = (n·n₁₁ − n₁n₂) ÷ √(n₁(n − n₁) n₂(n − n₂)), over pairs with at least MIN_JOINT_FIRINGS joint
    firings. Features that are active on every token have none.
    """
    pairs = (
        pairs_from_list(joint, tokens) if joint.table is None else pairs_from_table(joint, tokens)
    )
    feature, other, phi, count = pairs
    lengths = np.bincount(feature, minlength=len(joint.active))
    return {
        "coactive": list_array(lengths, other, pa.int32()),
        "coactive_phi": list_array(lengths, phi, pa.float32()),
        "coactive_count": list_array(lengths, count, pa.int32()),
    }


def phi_coefficient(joint: np.ndarray, n1: np.ndarray, n2: np.ndarray, tokens: int) -> np.ndarray:
    """Return the correlation φ of two features' firing, or 0 where φ is undefined, not positive, or
    rests on too few joint firings."""
    n1, n2 = n1.astype(np.float64), n2.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = (tokens * joint - n1 * n2) / np.sqrt(n1 * (tokens - n1) * n2 * (tokens - n2))
    return np.where((joint >= MIN_JOINT_FIRINGS) & (phi > 0) & np.isfinite(phi), phi, 0.0)


CoactivePairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Feature, other feature, φ and joint firings of co-active pairs, by feature and falling φ, at most
MAX_COACTIVE per feature."""


def pairs_from_list(joint: JointCounts, tokens: int) -> CoactivePairs:
    """Return the co-active pairs of highest φ from joint counts that are a list of sampled
    pairs."""
    a, b, count = joint.left, joint.right, joint.count
    phi = phi_coefficient(count, joint.active[a], joint.active[b], tokens)
    good = phi > 0
    feature, other_feature = np.concatenate([a[good], b[good]]), np.concatenate([b[good], a[good]])
    return keep_best_pairs(feature, other_feature, np.tile(phi[good], 2), np.tile(count[good], 2))


def pairs_from_table(joint: JointCounts, tokens: int) -> CoactivePairs:
    """Return the co-active pairs of highest φ from the table of all joint counts, PHI_ROWS features
    at a time."""
    assert joint.table is not None, "these are the counts of a table"
    d_sae, parts = len(joint.active), []
    for low in range(0, d_sae, PHI_ROWS):
        count = joint.table[low : low + PHI_ROWS]
        phi = phi_coefficient(count, joint.active[low : low + PHI_ROWS, None], joint.active, tokens)
        if d_sae > MAX_COACTIVE:  # pairs that tie with the last listed one stay in
            phi[
                phi
                < -np.partition(-phi, MAX_COACTIVE - 1, axis=1)[:, MAX_COACTIVE - 1 : MAX_COACTIVE]
            ] = 0
        feature, other_feature = phi.nonzero()
        parts.append(
            keep_best_pairs(
                feature,
                other_feature,
                phi[feature, other_feature],
                count[feature, other_feature],
                low,
            )
        )
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore


def keep_best_pairs(
    feature: np.ndarray,
    other_feature: np.ndarray,
    phi: np.ndarray,
    count: np.ndarray,
    first: int = 0,
) -> CoactivePairs:
    """Keep the MAX_COACTIVE pairs of largest φ for each feature; feature numbers count from
    `first`."""
    order = np.lexsort((other_feature, -phi, feature))
    order = order[rank_within_groups(feature[order]) < MAX_COACTIVE]
    return feature[order] + first, other_feature[order], phi[order], count[order]
