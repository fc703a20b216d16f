"""Maps: every feature of a dictionary as a point in the plane, one Parquet file a dictionary.

`maps/<harvest>/<dictionary>.parquet` is written under another name and renamed when whole; its
metadata says how it was made. The same plan gives the same file on the same machine.
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
"""Of the file's metadata: JSON with the fields of About."""


@dataclass(frozen=True)
class FeatureMapPlan:
    """What decides a map, besides the dictionary."""

    neighbours: int = 15
    """Nearest features, by cosine of their decoders, that a feature is drawn to."""
    min_dist: float = 0.1
    """How close UMAP may put two points, in the map's units."""
    seed: int = 0


@dataclass(frozen=True)
class FeatureMapInfo:
    """How a map was made."""

    harvest: str
    dictionary: str
    weights_hash: str
    neighbours: int
    min_dist: float
    seed: int
    reduced_to: int | None
    """Dimensions kept by PCA before neighbours were looked for; none where all were kept."""
    left_out: int
    """Features that never fired in the harvest, or that write nothing."""
    min_cluster_size: int
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class FeatureMap:
    """The points of a dictionary's features, in order of feature."""

    about: FeatureMapInfo
    feature: np.ndarray
    """int32 [n]"""
    xy: np.ndarray
    """float32 [n 2]; only distances among near points mean something"""
    cluster: np.ndarray
    """int32 [n], the largest cluster first; -1 for points between clusters"""


class FeatureMaps:
    """The maps of a store."""

    def __init__(self, store: Path) -> None:
        self.path = store / "maps"

    def file(self, harvest: str, dictionary: str) -> Path:
        """Where the map of a dictionary lies, or would."""
        return self.path / quote(harvest, safe="") / f"{quote(dictionary, safe='')}.parquet"

    def find(self, harvest: str, dictionary: str) -> FeatureMap | None:
        """The map of a dictionary, if one was made; InputError for a file that is none."""
        path = self.file(harvest, dictionary)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path)
            about = FeatureMapInfo(**parse_json(table.schema.metadata[METADATA_KEY]))
            feature, x, y, cluster = (table.column(name).to_numpy() for name in POINT_SCHEMA.names)
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path.name} is not a map, or is damaged. Make it again.") from error
        return FeatureMap(about, feature, np.column_stack([x, y]), cluster)

    def write(self, made: FeatureMap) -> Path:
        """Publish a map, in place of an older one."""
        path = self.file(made.about.harvest, made.about.dictionary)
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
