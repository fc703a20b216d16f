"""The contrast of two sets of texts: a table of all features with firing counts, effect sizes, p-
and q-values and separation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np
import pyarrow as pa

from backend.contrast.contrast_texts import ContrastDocument, ReadingUnit, collect_documents
from backend.contrast.effect_sizes import EffectSizes, compute_effect_sizes
from backend.contrast.jensen_shannon import GroupSeparation, jensen_shannon_distances
from backend.contrast.permutation_tests import (
    PermutationResult,
    benjamini_hochberg,
    firing_share_test,
    rank_sum_test,
)
from backend.contrast.strongest_activations import StrongestActivations
from feature_store.errors import pick_by_name

ContrastTest = Literal["strength", "share"]
CONTRAST_TESTS: dict[str, str] = {"strength": "how strongly", "share": "how often"}
"""What a contrast tests and ranks by: "strength" (rank sum and AUC) or "share" (difference of the
shares of documents on which a feature fires).
"""
MIN_FIRING_DOCUMENTS = 5
"""Minimum number of documents on which a feature must fire to be tested."""
MIN_DOCUMENTS_PER_SIDE = 5
"""Minimum number of documents on each side for any test."""
MAX_FALSE_DISCOVERY_RATE = 0.05
"""False discovery rate (q-value) up to which a difference counts as found."""
MAX_MATRIX_ELEMENTS = 20_000_000
"""Maximum number of elements of a matrix of documents × features held in memory."""


@dataclass(frozen=True)
class TextSetContrast:
    """Result of a contrast: what separates the first set of texts (side a) from all others (side
    b).
    """

    names: list[str]
    """Names of the sets of texts. Side a is the first, side b all others."""
    documents: list[ContrastDocument]
    table: pa.Table
    """One row per feature that fires on any document, ranked.

    Columns: the fields of EffectSizes, `dictionary`, `feature`, `js` and `js_shuffled`
    (Jensen–Shannon distance and its mean over shuffled labels), `p` and `q` (null where not
    tested), `relabellings` (null where none were drawn).
    """
    separation: pa.Table
    """One row per dictionary, and one per hook point for its own coordinates (`kind` = neurons),
    with the `best` and `top` (mean of ten) Jensen–Shannon distance and their means over shuffled
    labels.
    """
    values: dict[str, StrongestActivations]
    """Strongest activations by dictionary; documents in the order of `documents`."""
    tested: int
    """Number of features with a p-value, over which q-values are computed."""
    exact: bool
    """True if every possible relabelling was counted, so that p-values are exact."""
    cut: int
    """Number of documents that were truncated."""
    repeats: int
    """Number of texts left out because they occurred twice in a set."""

    @property
    def on_a(self) -> np.ndarray:
        """Boolean array [documents]: which documents are on side a of the contrast, the first set
        of texts.
        """
        return np.array([document.group == 0 for document in self.documents])

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of documents on side a of the contrast (the first set of texts) and on side b (all
        others).
        """
        n_a = int(self.on_a.sum())
        return n_a, len(self.documents) - n_a

    def found(self) -> int:
        """Return the number of features found to differ between the sets of texts: those with a
        q-value of at most MAX_FALSE_DISCOVERY_RATE.
        """
        return (
            int((self.table["q"].to_numpy() <= MAX_FALSE_DISCOVERY_RATE).sum())
            if self.tested
            else 0
        )


def contrast_text_sets(
    engine,
    groups: Mapping[str, Sequence[str]],
    names: Sequence[str],
    *,
    unit: ReadingUnit = "document",
    by: ContrastTest = "strength",
    tick: Callable[[float], None] = lambda share: None,
) -> TextSetContrast:
    """Compare the first set of texts with all other sets, over the features of dictionaries.

    `groups` maps the name of a set to its texts. `tick` is called with the share of the work done
    (0 to 1) and may raise to stop. The result is deterministic. Raises InputError for texts that
    cannot be compared.
    """
    from backend.contrast.document_encoding import encode_documents

    pick_by_name("test", by, CONTRAST_TESTS)
    docs, repeats = collect_documents(groups, unit)
    readings = encode_documents(
        engine, docs, names, unit, lambda done: tick(0.8 * done / len(docs))
    )
    group = np.array([doc.group for doc in docs])
    group = np.array([doc.group for doc in docs])
    found = {name: measure_effects(values, group) for name, values in readings.features.items()}
    mask, test = run_significance_tests(
        found, readings.features, group == 0, by, lambda x: tick(0.8 + 0.19 * x)
    )
    apart = separation_table(engine, found, readings.neurons, group)
    tick(1.0)
    return TextSetContrast(
        names=list(groups),
        documents=docs,
        table=rank_contrast_table(found, mask, test, by),
        separation=apart,
        values=readings.features,
        tested=int(mask.sum()),
        exact=test.exact,
        cut=readings.cut,
        repeats=repeats,
    )


@dataclass(frozen=True)
class DictionaryEffects:
    """Effect sizes and separation of one dictionary's active features, before the contrast tests
    them.
    """

    features: np.ndarray
    """Feature indices in ascending order; `effects` and `apart` have one entry or column for each.
    """
    effects: EffectSizes
    separation: GroupSeparation


def measure_effects(values: StrongestActivations, group: np.ndarray) -> DictionaryEffects:
    """Compute the part of a contrast that needs no test: effect sizes and separation of every
    feature that fires on any document.
    """
    features = values.active
    room = max(MAX_MATRIX_ELEMENTS // values.documents, 1)
    parts = [features[i : i + room] for i in range(0, max(len(features), 1), room)]
    sizes, apart = [], []
    for part in parts:
        tile = values.tile(part)
        sizes.append(compute_effect_sizes(tile, group == 0))
        apart.append(jensen_shannon_distances(tile, group))
    columns = {
        field.name: np.concatenate([getattr(size, field.name) for size in sizes])
        for field in fields(EffectSizes)
    }
    distance = np.concatenate([one.distance for one in apart])
    shuffled = np.concatenate([one.shuffled for one in apart], axis=1)
    return DictionaryEffects(features, EffectSizes(**columns), GroupSeparation(distance, shuffled))


def run_significance_tests(
    found: Mapping[str, DictionaryEffects],
    values: Mapping[str, StrongestActivations],
    on_a: np.ndarray,
    by: ContrastTest,
    tick: Callable[[float], None],
) -> tuple[np.ndarray, PermutationResult]:
    """Run the contrast's tests on every feature of all dictionaries that fires on enough documents;
    return the mask of tested features and their p-values.
    """
    n_a, n_b = int(on_a.sum()), int((~on_a).sum())
    fires_a, fires_b = (
        np.concatenate([getattr(one.effects, side) for one in found.values()])
        for side in ("fires_a", "fires_b")
    )
    mask = (fires_a + fires_b >= MIN_FIRING_DOCUMENTS) & (min(n_a, n_b) >= MIN_DOCUMENTS_PER_SIDE)
    if by == "share":
        return mask, firing_share_test(fires_a[mask], fires_b[mask], n_a, n_b)
    owner = np.repeat(np.arange(len(found)), [len(one.features) for one in found.values()])[mask]
    features = np.concatenate([one.features for one in found.values()])[mask]

    def tile(columns: slice) -> np.ndarray:
        mine = owner[columns]
        parts = [
            each.tile(features[columns][mine == number])
            for number, each in enumerate(values.values())
        ]
        return np.concatenate(parts, axis=1)

    return mask, rank_sum_test(tile, len(features), on_a, tick=tick)


def rank_contrast_table(
    found: Mapping[str, DictionaryEffects],
    mask: np.ndarray,
    test: PermutationResult,
    by: ContrastTest,
) -> pa.Table:
    """Return the table of a contrast: all active features, ranked by p-value, then by effect size;
    features without a p-value come last.
    """
    parts = [
        {
            "dictionary": np.full(len(one.features), name, dtype=object),
            "feature": one.features,
            **asdict(one.effects),
            "js": one.separation.distance,
            "js_shuffled": one.separation.shuffled.mean(axis=0),
        }
        for name, one in found.items()
    ]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    p, q, drawn = (np.full(len(mask), np.nan) for _ in range(3))
    p[mask], q[mask] = test.p, benjamini_hochberg(test.p)
    drawn[mask] = np.nan if test.exact else test.relabellings
    effect = np.abs(joined["auc"] - 0.5 if by == "strength" else joined["share_difference"])
    other = np.nan_to_num(np.abs(joined["hedges_g"]))
    order = np.lexsort((-other, -effect, np.where(mask, p, 2.0)))
    joined |= {"p": p, "q": q, "relabellings": drawn}
    arrays = {key: pa.array(column[order], from_pandas=True) for key, column in joined.items()}
    return pa.table(arrays)


def separation_table(
    engine,
    found: Mapping[str, DictionaryEffects],
    neurons: Mapping[str, np.ndarray],
    group: np.ndarray,
) -> pa.Table:
    """Return the contrast's second table: how well each dictionary's features, and the coordinates
    ("neurons") of the hook point it reads, separate the sets of texts.
    """
    rows = []
    for hook, values in neurons.items():
        for name, one in found.items():
            if hook in engine.dictionaries.read_hooks(name):
                rows.append(_separation_row("features", name, hook, one.separation))
        rows.append(_separation_row("neurons", hook, hook, jensen_shannon_distances(values, group)))
    return pa.Table.from_pylist(rows)


def _separation_row(kind: str, name: str, hook: str, apart: GroupSeparation) -> dict[str, object]:
    (best, best_shuffled), (top, top_shuffled) = apart.best(), apart.top()
    return {
        "kind": kind,
        "name": name,
        "hook": hook,
        "units": len(apart.distance),
        "best": best,
        "best_shuffled": best_shuffled,
        "top": top,
        "top_shuffled": top_shuffled,
    }
