"""Effects of removing features, kept in the catalog so that a second visit costs nothing."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import duckdb

from feature_store.catalog import Catalog, utc_now
from feature_store.records import Context, FeatureId


@dataclass(frozen=True)
class RemovalEffect:
    """What zeroing a feature at all counted positions changes in one context, in nats and
    probabilities; differences are removed minus as it is."""

    sequence: int
    start: int
    """Position in the sequence of the window's first token; `peak` likewise."""
    peak: int
    next_loss: float | None
    """Δ loss at the token after the peak; None where the sequence ends there or it is special."""
    window_loss: float
    """Δ loss summed over the predictions made in the window."""
    window_n: int
    """How many predictions those are."""
    tokens: list[int]
    """The next tokens at the peak whose probability moves most, largest change first."""
    before: list[float]
    after: list[float]

    @property
    def key(self) -> tuple[int, int, int]:
        """Which context of the feature this is about."""
        return (self.sequence, self.start, self.peak)


COLUMNS = ", ".join(field.name for field in fields(RemovalEffect))


def context_key(context: Context) -> tuple[int, int, int]:
    """What a Removal calls this context."""
    return (context.sequence, context.start, context.peak)


def read_removal_effects(
    catalog: Catalog, harvest: str, feature: FeatureId, *, patience_s: float | None = None
) -> dict[tuple[int, int, int], RemovalEffect]:
    """The effects known of a feature, by context. InputError when the catalog cannot be had."""
    if not catalog.path.exists():
        return {}
    with catalog.reading(patience_s) as db:
        try:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM removal WHERE harvest = ? AND dictionary = ? "
                "AND feature = ?",
                [harvest, feature.dictionary, feature.index],
            ).fetchall()
        except duckdb.CatalogException:  # a read-only catalog from before there were any
            return {}
    return {one.key: one for one in (RemovalEffect(*row) for row in rows)}


def save_removal_effects(
    catalog: Catalog,
    harvest: str,
    feature: FeatureId,
    found: Sequence[RemovalEffect],
    *,
    patience_s: float | None = None,
) -> None:
    """Put effects into the catalog, in one transaction; those it has already are replaced."""
    where, now = (harvest, feature.dictionary, feature.index), utc_now()
    rows = [[*where, *astuple(one), now] for one in found]
    if not rows:
        return
    marks = ", ".join("?" * len(rows[0]))
    with catalog.transaction(patience_s) as db:
        db.executemany(f"INSERT OR REPLACE INTO removal VALUES ({marks})", rows)
