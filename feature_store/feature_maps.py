"""Feature maps: every feature of a dictionary as a point in the plane (UMAP), stored as one Parquet
file per dictionary.

`maps/<harvest>/<dictionary>.parquet` is written under a temporary name and renamed when complete;
its metadata records how the map was made. The same plan gives the same file on the same machine.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.atomic_file import draft_file
from feature_store.errors import InputError
from feature_store.strict_json import dump_json, parse_json

POINT_SCHEMA = pa.schema(
    [("feature", pa.int32()), ("x", pa.float32()), ("y", pa.float32()), ("cluster", pa.int32())]
)
METADATA_KEY = b"saefari"
"""Key of the Parquet file's metadata under which the map's FeatureMapInfo is stored as JSON."""


@dataclass(frozen=True)
class FeatureMapPlan:
    """Settings of UMAP that determine a feature map, besides the dictionary."""

    neighbours: int = 15
    """Number of nearest features, by cosine of their decoder directions, that UMAP uses for each
    feature."""
    min_dist: float = 0.1
    """UMAP's minimum distance between two points of the map, in the map's units."""
    seed: int = 0


@dataclass(frozen=True)
class FeatureMapInfo:
    """Record of how a feature map was made, stored in its file."""

    harvest: str
    dictionary: str
    weights_hash: str
    neighbours: int
    min_dist: float
    seed: int
    reduced_to: int | None
    """Number of dimensions that PCA kept before neighbours were searched; None if all were kept."""
    left_out: int
    """Number of features that are not on the map: they never fired in the harvest, or write
    nothing."""
    min_cluster_size: int
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class FeatureMap:
    """Feature map of a dictionary: a point in the plane (UMAP) and a cluster for each of its
    features, in order of feature."""

    about: FeatureMapInfo
    feature: np.ndarray
    """Indices of the features on the map, int32 [n]."""
    xy: np.ndarray
    """Coordinates of the points, float32 [n 2]; only distances between near points are
    meaningful."""
    cluster: np.ndarray
    """Cluster of each point, int32 [n], numbered from the largest; -1 for points in no cluster."""


class FeatureMaps:
    """The feature maps of a store, one Parquet file per harvest and dictionary."""

    def __init__(self, store: Path) -> None:
        self.path = store / "maps"

    def file_path(self, harvest: str, dictionary: str) -> Path:
        """Return the path of a dictionary's feature map, whether it exists or not."""
        return self.path / quote(harvest, safe="") / f"{quote(dictionary, safe='')}.parquet"

    def find(self, harvest: str, dictionary: str) -> FeatureMap | None:
        """Read the feature map of a dictionary; None if there is none, InputError for a damaged
        file."""
        path = self.file_path(harvest, dictionary)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path)
            about = FeatureMapInfo(**parse_json(table.schema.metadata[METADATA_KEY]))
            feature, x, y, cluster = (table.column(name).to_numpy() for name in POINT_SCHEMA.names)
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path.name} is not a feature map, or is damaged. Compute the map again."
            ) from error
        return FeatureMap(about, feature, np.column_stack([x, y]), cluster)

    def write(self, made: FeatureMap) -> Path:
        """Write a feature map to its Parquet file, replacing an older one."""
        path = self.file_path(made.about.harvest, made.about.dictionary)
        columns = [made.feature, made.xy[:, 0], made.xy[:, 1], made.cluster]
        about = dump_json(asdict(made.about)).encode()
        table = pa.Table.from_arrays(
            [pa.array(c) for c in columns], schema=POINT_SCHEMA.with_metadata({METADATA_KEY: about})
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft_file(path) as draft:
                pq.write_table(table, draft, compression="zstd")
        except OSError as error:
            raise InputError(f"The map cannot be written: {error.strerror}.") from error
        return path
