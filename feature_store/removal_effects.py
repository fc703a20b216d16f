"""Removal effects: how ablating a feature changes losses and probabilities in its contexts,
stored in the catalog so that they are computed once."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import duckdb

from feature_store.catalog import Catalog, utc_now
from feature_store.records import Context, FeatureId


@dataclass(frozen=True)
class RemovalEffect:
    """Effect of setting a feature to zero at all counted positions of one context: losses in
    nats, and probabilities; differences are ablated minus unmodified."""

    sequence: int
    start: int
    """Position in the sequence of the window's first token; `peak` is a sequence position too."""
    peak: int
    next_loss: float | None
    """Δ loss in nats of the token after the peak; None if the sequence ends there or the token
    is special."""
    window_loss: float
    """Δ loss in nats summed over the predictions made in the context's window."""
    window_n: int
    """Number of predictions that `window_loss` sums over."""
    tokens: list[int]
    """Next tokens at the peak whose probability changes most when the feature is removed,
    largest change first."""
    before: list[float]
    after: list[float]

    @property
    def key(self) -> tuple[int, int, int]:
        """Key of the context that the removal effect belongs to: sequence, start and peak."""
        return (self.sequence, self.start, self.peak)


COLUMNS = ", ".join(field.name for field in fields(RemovalEffect))


def context_key(context: Context) -> tuple[int, int, int]:
    """Return a context's key for its removal effect: sequence, start and peak."""
    return (context.sequence, context.start, context.peak)


def read_removal_effects(
    catalog: Catalog, harvest: str, feature: FeatureId, *, patience_s: float | None = None
) -> dict[tuple[int, int, int], RemovalEffect]:
    """Read the stored removal effects of a feature by context. InputError if the catalog is not
    available."""
    if not catalog.path.exists():
        return {}
    with catalog.read_transaction(patience_s) as db:
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
    """Save removal effects of a feature in the catalog in one transaction, replacing older ones."""
    where, now = (harvest, feature.dictionary, feature.index), utc_now()
    rows = [[*where, *astuple(one), now] for one in found]
    if not rows:
        return
    marks = ", ".join("?" * len(rows[0]))
    with catalog.transaction(patience_s) as db:
        db.executemany(f"INSERT OR REPLACE INTO removal VALUES ({marks})", rows)
