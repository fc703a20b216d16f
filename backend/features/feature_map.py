"""A map of a dictionary: decoder directions laid out in the plane, and the clusters one sees there.

1. Directions: the rows of W_dec of features that fired, at unit length.
2. Neighbours: each feature's nearest by cosine, exactly, in tiles. (UMAP's own search is
   approximate and compiles for seconds.)
3. Layout: UMAP (McInnes, Healy & Melville 2018, arXiv:1802.03426) from the two main axes, seeded,
   on one thread: the same plan gives the same map on the same machine.
4. Clusters: HDBSCAN (Campello et al. 2013) on the plane. They describe the picture, no more; in
   the full space directions have no density to speak of.
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
"""(steps done, steps in all, stage in words); what it raises ends the work."""
MIN_MAP_FEATURES = 10
"""Features that a map needs."""
MAX_FULL_WIDTH_FEATURES, REDUCED_WIDTH = 100_000, 50
"""Above so many features neighbours are looked for in so many main axes: 1 minute, not 10."""
COSINES_PER_TILE = 1 << 25
"""Cosines held at once: 128 MB."""


def compute_feature_map(
    file: HarvestFile,
    dictionary: str,
    places: Mapping[str, str],
    plan: FeatureMapPlan,
    tell: MapProgressCallback,
) -> FeatureMap:
    """The map of a dictionary's features that fired in a harvest.

    Raises InputError when this machine does not have the weights, or they are too few for a map.
    """
    began = time.monotonic()
    info = file.dictionary(dictionary)
    tell(0, 1, "reading the decoder")
    rows = load_decoder_directions(info, places)
    fired = file.feature_table(dictionary, between={"n_active": (1, float("inf"))})
    features = torch.from_numpy(fired.column("feature").to_numpy().astype(np.int64))
    features = features[rows[features].norm(dim=1) > 0]
    if len(features) < MIN_MAP_FEATURES:
        raise InputError(
            f"{dictionary} has {len(features)} features that fired and write something; a map "
            f"needs {MIN_MAP_FEATURES}."
        )
    units, kept = project_on_main_axes(torch.nn.functional.normalize(rows[features], dim=1))
    xy = compute_umap_layout(units, plan, tell)
    tell(0, 1, "clusters")
    size = max(5, len(features) // 400)
    about = FeatureMapInfo(
        harvest=file.record.id,
        dictionary=dictionary,
        weights_hash=info.weights_hash,
        neighbours=plan.neighbours,
        min_dist=plan.min_dist,
        seed=plan.seed,
        reduced_to=kept,
        left_out=info.d_sae - len(features),
        min_cluster_size=size,
        seconds=round(time.monotonic() - began, 1),
        versions={name: version(name) for name in ("umap-learn", "scikit-learn", "torch")},
    )
    return FeatureMap(about, features.numpy().astype(np.int32), xy, cluster_map_points(xy, size))


def load_decoder_directions(
    info: DictionaryInfo, places: Mapping[str, str]
) -> Float[Tensor, "d_sae d_out"]:
    """W_dec, in the hook's units, of the weights that were harvested."""
    name, spec = info.dictionary, places.get(info.weights_hash)
    if spec is None:
        raise InputError(
            f"This machine does not know where the dictionary {name} lies. Harvest with it once "
            "here, or harvest again."
        )
    if spec.startswith("identity:"):
        raise InputError(f"{name} has a layer's neurons, all at right angles: no map shows more.")
    found = loaders.load(spec, name=name, placement=choose_placement("cpu"))
    if found.weights_hash != info.weights_hash:
        raise InputError(
            f"The dictionary {name} has changed on disk since it was harvested. Harvest it again."
        )
    return found.W_dec.detach().float()


def project_on_main_axes(units: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n r"], int | None]:
    """Very many directions by their main axes, at unit length again, and how many those are."""
    if len(units) <= MAX_FULL_WIDTH_FEATURES or units.shape[1] <= REDUCED_WIDTH:
        return units, None
    torch.manual_seed(0)  # the search for the axes is randomised
    axes = torch.pca_lowrank(units, q=REDUCED_WIDTH, center=False, niter=2)[2]
    return torch.nn.functional.normalize(units @ axes, dim=1), REDUCED_WIDTH


def find_nearest_directions(
    units: Float[Tensor, "n d"], k: int, tell: MapProgressCallback
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Each row's k nearest by cosine distance, itself first with 0; indices and distances."""
    n, indices, distances = len(units), [], []
    tile = max(16, COSINES_PER_TILE // n)
    for start in range(0, n, tile):
        tell(start, n, "nearest neighbours")
        cosines = units[start : start + tile] @ units.T
        rows = torch.arange(len(cosines))
        cosines[rows, start + rows] = 2.0  # itself comes first, also among copies
        values, columns = cosines.topk(k, dim=1)
        found = (1.0 - values).clamp(0.0, 2.0)
        found[:, 0] = 0.0
        indices.append(columns)
        distances.append(found)
    return torch.cat(indices).numpy(), torch.cat(distances).numpy()


def compute_umap_layout(
    units: Float[Tensor, "n d"], plan: FeatureMapPlan, tell: MapProgressCallback
) -> Float32[np.ndarray, "n 2"]:
    """Points in the plane whose neighbours are the directions' neighbours, as far as that goes."""
    k = min(plan.neighbours, len(units) - 1)
    indices, distances = find_nearest_directions(units, k, tell)
    tell(0, 1, "starting UMAP")
    from umap import UMAP  # seconds to import: numba

    model = UMAP(
        n_neighbors=k,
        min_dist=plan.min_dist,
        metric="cosine",
        init="pca",
        n_jobs=1,
        random_state=plan.seed,
        precomputed_knn=(indices, distances, None),
        tqdm_kwds={"disable": False, "file": UmapProgressStream(tell), "bar_format": "{n}/{total}"},
    )
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own internals
            found = model.fit_transform(units.numpy())
    finally:
        # It gives OpenMP every core. A second thread makes torch's small steps 50 × slower here.
        torch.set_num_threads(threads)
    return np.asarray(found, dtype=np.float32)


class UmapProgressStream:
    """Stands where UMAP's progress bar would be written."""

    def __init__(self, tell: MapProgressCallback) -> None:
        self.tell = tell

    def write(self, text: str) -> None:
        """`12/500`, with whatever a bar puts around it."""
        done, slash, total = text.strip().partition("/")
        if slash and done.isdecimal() and total.isdecimal():
            self.tell(int(done), int(total), "layout")

    def flush(self) -> None:
        """Nothing is held back."""


def cluster_map_points(xy: Float32[np.ndarray, "n 2"], size: int) -> Int32[np.ndarray, "n"]:
    """Each point's cluster, the largest numbered 0; -1 between clusters."""
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(
        min_cluster_size=size,
        cluster_selection_method="leaf",
        copy=True,  # type: ignore[reportArgumentType]  # scikit-learn's own hint is of a string
    ).fit_predict(xy)
    counts = np.bincount(found[found >= 0], minlength=1)
    rank = np.empty(len(counts) + 1, dtype=np.int32)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    rank[-1] = -1  # where index -1 looks
    return rank[found]
