"""Clusters of sparse vectors by their cosines, signs kept."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix


def normalize_rows(effects: csr_matrix) -> csr_matrix:
    """Rows of length 1; a row without effects stays empty."""
    lengths = np.sqrt(np.asarray(effects.multiply(effects).sum(axis=1)).ravel())
    lengths[lengths == 0] = 1.0
    return csr_matrix(effects.multiply(1 / lengths[:, None]))


def cosine_matrix(rows: csr_matrix) -> Float[np.ndarray, "n n"]:
    """Between all rows of length 1."""
    return np.asarray((rows @ rows.T).todense())


def cluster_rows(rows: csr_matrix, k: int, method: str, seed: int) -> Int[np.ndarray, "n"]:
    """The number of each row's cluster, the largest 0; `rows` of length 1, `k` from 2 on."""
    if method == "linkage":
        from sklearn.cluster import AgglomerativeClustering

        model = AgglomerativeClustering(k, metric="precomputed", linkage="average")
        found = model.fit_predict(1 - cosine_matrix(rows))
    elif method == "spectral":
        from sklearn.cluster import SpectralClustering

        # What points the other way is no more alike than what has nothing in common.
        alike = np.clip(cosine_matrix(rows), 0, None)
        model = SpectralClustering(k, affinity="precomputed", random_state=seed, n_init=5)
        found = model.fit_predict(alike)
    else:
        from sklearn.cluster import KMeans

        found = KMeans(k, n_init="auto", random_state=seed).fit_predict(rows)
    sizes = np.bincount(found, minlength=k)
    rank = np.empty(k, dtype=int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(k)
    return rank[found]


def cluster_tightness(
    alike: Float[np.ndarray, "n n"], found: Int[np.ndarray, "n"]
) -> dict[str, float]:
    """Mean cosine of two rows of one cluster, of two of different ones, and within clusters of the
    same sizes drawn at random (seed 0); NaN where there is no such pair."""
    shuffled = np.random.default_rng(0).permutation(found)
    pairs = ~np.eye(len(found), dtype=bool)
    inside = (found[:, None] == found) & pairs
    chance = (shuffled[:, None] == shuffled) & pairs
    return {
        "inside": _mean_or_nan(alike[inside]),
        "outside": _mean_or_nan(alike[~inside & pairs]),
        "chance": _mean_or_nan(alike[chance]),
    }


def _mean_or_nan(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
