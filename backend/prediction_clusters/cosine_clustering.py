"""Clustering of sparse effect vectors by cosine similarity, with signs kept."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix


def normalize_rows(effects: csr_matrix) -> csr_matrix:
    """Scale the rows of a sparse matrix (one effect vector each) to length 1, so that their dot
    products are cosines; empty rows stay empty.
    """
    lengths = np.sqrt(np.asarray(effects.multiply(effects).sum(axis=1)).ravel())
    lengths[lengths == 0] = 1.0
    return csr_matrix(effects.multiply(1 / lengths[:, None]))


def cosine_matrix(rows: csr_matrix) -> Float[np.ndarray, "n n"]:
    """Return the cosine similarity [n, n] of all pairs of rows, which must have length 1."""
    return np.asarray((rows @ rows.T).todense())


def cluster_rows(rows: csr_matrix, k: int, method: str, seed: int) -> Int[np.ndarray, "n"]:
    """Cluster rows of length 1 into `k` ≥ 2 clusters by linkage, spectral clustering or k-means,
    and return each row's cluster number; the largest cluster is 0.
    """
    if method == "linkage":
        from sklearn.cluster import AgglomerativeClustering

        model = AgglomerativeClustering(k, metric="precomputed", linkage="average")
        found = model.fit_predict(1 - cosine_matrix(rows))
    elif method == "spectral":
        from sklearn.cluster import SpectralClustering

        # Affinities must not be negative: opposite rows count as unrelated.
        similarities = np.clip(cosine_matrix(rows), 0, None)
        model = SpectralClustering(k, affinity="precomputed", random_state=seed, n_init=5)
        found = model.fit_predict(similarities)
    else:
        from sklearn.cluster import KMeans

        found = KMeans(k, n_init="auto", random_state=seed).fit_predict(rows)
    sizes = np.bincount(found, minlength=k)
    rank = np.empty(k, dtype=int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(k)
    return rank[found]


def cluster_tightness(
    similarities: Float[np.ndarray, "n n"], found: Int[np.ndarray, "n"]
) -> dict[str, float]:
    """Return the mean cosine of pairs within a cluster (`inside`), between clusters (`outside`),
    and within random groups of the same sizes (`chance`, seed 0).

    NaN where there is no such pair.
    """
    shuffled = np.random.default_rng(0).permutation(found)
    pairs = ~np.eye(len(found), dtype=bool)
    inside = (found[:, None] == found) & pairs
    chance = (shuffled[:, None] == shuffled) & pairs
    return {
        "inside": _mean_or_nan(similarities[inside]),
        "outside": _mean_or_nan(similarities[~inside & pairs]),
        "chance": _mean_or_nan(similarities[chance]),
    }


def _mean_or_nan(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
