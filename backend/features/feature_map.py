"""Feature map of a dictionary: decoder directions laid out in the plane by UMAP and clustered by
HDBSCAN.

1. Directions: the rows of W_dec of the features that fired in a harvest, at unit length.
2. Neighbours: the nearest directions of each by cosine, exact, in tiles. (UMAP's own search is
   approximate and compiles for seconds.)
3. Layout: UMAP (McInnes, Healy & Melville 2018, arXiv:1802.03426), initialised with the first two
   principal axes, seeded, on one thread: the same plan gives the same map on the same machine.
4. Clusters: HDBSCAN (Campello et al. 2013) on the plane. They describe the picture only: in the
   full space, directions have no useful density.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor

from backend import dictionaries as loaders
from backend.model.device import choose_placement
from feature_store.errors import InputError
from feature_store.feature_maps import FeatureMap, FeatureMapInfo, FeatureMapPlan
from feature_store.harvest_reader import HarvestFile
from feature_store.records import DictionaryInfo

MapProgressCallback = Callable[[int, int, str], None]
"""Progress callback of a feature map: (steps done, steps in all, name of the stage). An exception
that it raises ends the computation."""
MIN_MAP_FEATURES = 10
"""Smallest number of features that a feature map is drawn of."""
MAX_FULL_WIDTH_FEATURES, REDUCED_WIDTH = 100_000, 50
"""Above this number of features, nearest neighbours of the feature map are searched in
REDUCED_WIDTH principal axes (1 minute instead of 10)."""
COSINES_PER_TILE = 1 << 25
"""Number of cosines between decoder directions that are held in memory at once (128 MB)."""


def compute_feature_map(
    file: HarvestFile,
    dictionary: str,
    places: Mapping[str, str],
    plan: FeatureMapPlan,
    report: MapProgressCallback,
) -> FeatureMap:
    """Compute the feature map of a dictionary: positions in the plane and clusters of its features
    that fired in a harvest.

    `places` maps a hash of weights to the path of the weights on this machine. Raise InputError
    when the weights of the dictionary are not on this machine, or when fewer than MIN_MAP_FEATURES
    features can be drawn.
    """
    started = time.monotonic()
    info = file.dictionary(dictionary)
    report(0, 1, "reading the decoder")
    rows = load_decoder_directions(info, places)
    fired_features = file.feature_table(dictionary, between={"n_active": (1, float("inf"))})
    features = torch.from_numpy(fired_features.column("feature").to_numpy().astype(np.int64))
    features = features[rows[features].norm(dim=1) > 0]
    if len(features) < MIN_MAP_FEATURES:
        raise InputError(
            f"{dictionary} has {len(features)} features that fired and have a decoder direction; "
            f"a map needs {MIN_MAP_FEATURES}."
        )
    units, n_axes = project_on_main_axes(torch.nn.functional.normalize(rows[features], dim=1))
    xy = compute_umap_layout(units, plan, report)
    report(0, 1, "clusters")
    size = max(5, len(features) // 400)
    about = FeatureMapInfo(
        harvest=file.record.id,
        dictionary=dictionary,
        weights_hash=info.weights_hash,
        neighbours=plan.neighbours,
        min_dist=plan.min_dist,
        seed=plan.seed,
        reduced_to=n_axes,
        left_out=info.d_sae - len(features),
        min_cluster_size=size,
        seconds=round(time.monotonic() - started, 1),
        versions={name: version(name) for name in ("umap-learn", "scikit-learn", "torch")},
    )
    return FeatureMap(about, features.numpy().astype(np.int32), xy, cluster_map_points(xy, size))


def load_decoder_directions(
    info: DictionaryInfo, places: Mapping[str, str]
) -> Float[Tensor, "d_sae d_out"]:
    """Load the decoder W_dec, in units of its hook point, of the dictionary whose features a map
    shows.

    Raise InputError when the weights are not on this machine, have changed since the harvest, or
    are the identity (a layer's own neurons).
    """
    name, spec = info.dictionary, places.get(info.weights_hash)
    if spec is None:
        raise InputError(
            f"This machine does not know where the dictionary {name} lies. Run a harvest with it "
            "here once, and its path will be known."
        )
    if spec.startswith("identity:"):
        raise InputError(
            f"{name} holds a layer's neurons, whose directions are all orthogonal: a map would "
            "show no structure."
        )
    loaded = loaders.load(spec, name=name, placement=choose_placement("cpu"))
    if loaded.weights_hash != info.weights_hash:
        raise InputError(
            f"The dictionary {name} has changed on disk since it was harvested. Harvest it again."
        )
    return loaded.W_dec.detach().float()


def project_on_main_axes(units: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n r"], int | None]:
    """Project more than MAX_FULL_WIDTH_FEATURES unit directions onto their principal axes and
    normalise them again, for a feature map.

    Return the directions and the number of axes; fewer directions are returned as they are, with
    None.
    """
    if len(units) <= MAX_FULL_WIDTH_FEATURES or units.shape[1] <= REDUCED_WIDTH:
        return units, None
    torch.manual_seed(0)  # the search for the axes is randomised
    axes = torch.pca_lowrank(units, q=REDUCED_WIDTH, center=False, niter=2)[2]
    return torch.nn.functional.normalize(units @ axes, dim=1), REDUCED_WIDTH


def find_nearest_directions(
    units: Float[Tensor, "n d"], k: int, report: MapProgressCallback
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Find the k nearest directions of each direction by cosine distance, for the layout of a
    feature map.

    Return indices and distances; each direction comes first in its own row, at distance 0.
    """
    n, indices, distances = len(units), [], []
    tile = max(16, COSINES_PER_TILE // n)
    for start in range(0, n, tile):
        report(start, n, "nearest neighbours")
        cosines = units[start : start + tile] @ units.T
        rows = torch.arange(len(cosines))
        cosines[rows, start + rows] = (
            2.0  # above any cosine: each direction comes first in its row, even among copies
        )
        values, columns = cosines.topk(k, dim=1)
        tile_distances = (1.0 - values).clamp(0.0, 2.0)
        tile_distances[:, 0] = 0.0
        indices.append(columns)
        distances.append(tile_distances)
    return torch.cat(indices).numpy(), torch.cat(distances).numpy()


def compute_umap_layout(
    units: Float[Tensor, "n d"], plan: FeatureMapPlan, report: MapProgressCallback
) -> Float32[np.ndarray, "n 2"]:
    """Lay directions out in the plane with UMAP, so that neighbours in the feature map are
    neighbours by cosine."""
    k = min(plan.neighbours, len(units) - 1)
    indices, distances = find_nearest_directions(units, k, report)
    report(0, 1, "starting UMAP")
    from umap import UMAP  # seconds to import: numba

    model = UMAP(
        n_neighbors=k,
        min_dist=plan.min_dist,
        metric="cosine",
        init="pca",
        n_jobs=1,
        random_state=plan.seed,
        precomputed_knn=(indices, distances, None),
        tqdm_kwds={
            "disable": False,
            "file": UmapProgressStream(report),
            "bar_format": "{n}/{total}",
        },
    )
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # UMAP warns of its own internals
            positions = model.fit_transform(units.numpy())
    finally:
        # UMAP gives OpenMP every core; a second thread makes torch's small steps 50 × slower.
        torch.set_num_threads(threads)
    return np.asarray(positions, dtype=np.float32)


class UmapProgressStream:
    """Text stream that UMAP writes its progress bar to; it passes the epochs on to the feature
    map's progress callback."""

    def __init__(self, report: MapProgressCallback) -> None:
        self.tell = report

    def write(self, text: str) -> None:
        """Parse `12/500` in the text of UMAP's progress bar and report that epoch of the layout."""
        done, slash, total = text.strip().partition("/")
        if slash and done.isdecimal() and total.isdecimal():
            self.tell(int(done), int(total), "layout")

    def flush(self) -> None:
        """Do nothing: UMAP's progress stream has no buffer."""


def cluster_map_points(xy: Float32[np.ndarray, "n 2"], size: int) -> Int32[np.ndarray, "n"]:
    """Cluster the points of a feature map with HDBSCAN; return the cluster of each, the largest
    numbered 0, and -1 for points in none."""
    from sklearn.cluster import HDBSCAN

    labels = HDBSCAN(
        min_cluster_size=size,
        cluster_selection_method="leaf",
        copy=True,  # type: ignore[reportArgumentType]  # scikit-learn annotates it as a string
    ).fit_predict(xy)
    counts = np.bincount(labels[labels >= 0], minlength=1)
    rank = np.empty(len(counts) + 1, dtype=np.int32)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    rank[-1] = -1  # label -1 (no cluster) indexes the last entry
    return rank[labels]
