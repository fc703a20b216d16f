"""A page of the table of features, at the width of common dictionaries and at a million features.

CPU milliseconds of this process: what the page asks of the store, without the browser.
"""

import random
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import synthetic
from benchmarks.goals import Goal, table
from benchmarks.synthetic import DICTIONARY
from feature_store.feature_table import (
    NUMBER_COLUMNS,
    SORT_COLUMNS,
    FeatureQuery,
    order_features,
    read_feature_rows,
)

PAGE = 100
WIDTHS = {16_384: 150.0, 1_000_000: 1000.0}
"""Features → CPU milliseconds that a page may take."""
READ = ("feature", "star", "label", "promoted", "top_token", *list(NUMBER_COLUMNS)[2:9])
ALIVE = ("n_active", 1, None)
CASES = {
    **{
        f"by {column}": FeatureQuery((ALIVE,), order=column, descending=True)
        for column in SORT_COLUMNS
    },
    "labels with “park”": FeatureQuery(
        (ALIVE,), name_contains="park", order="max_act", descending=True
    ),
    "starred": FeatureQuery((ALIVE,), required_annotations=("star",)),
    "two bounds": FeatureQuery(
        (ALIVE, ("density", 1e-4, 1e-2), ("max_act", 8, None)), order="skew"
    ),
}


def measure(folder: Path) -> list[dict[str, Any]]:
    """Every case at every width: its first page, and a page of the order that is then known."""
    return [at_width(folder / str(width), width) for width in WIDTHS]


def at_width(path: Path, width: int) -> dict[str, Any]:
    """CPU milliseconds for one store, built where it is missing."""
    store = synthetic.build(path, width)
    file, said, drawn = store.harvest(), store.catalog.snapshot(), random.Random(0)
    first, later = {}, []
    read_feature_rows(file, DICTIONARY, [0], READ, said)
    for name, wanted in CASES.items():
        start = time.process_time()
        order = order_features(file, DICTIONARY, wanted, said)
        read_feature_rows(file, DICTIONARY, order[:PAGE], READ, said)
        first[name] = (time.process_time() - start) * 1000
        at = drawn.randrange(max(1, len(order) - PAGE))
        start = time.process_time()
        read_feature_rows(file, DICTIONARY, order[at : at + PAGE], READ, said)
        later.append((time.process_time() - start) * 1000)
    return {
        "features": width,
        "first_median_ms": median(first.values()),
        "first_worst_ms": max(first.values()),
        "worst": max(first, key=lambda name: first[name]),
        "later_median_ms": median(later),
        "later_worst_ms": max(later),
        "first_ms": first,
    }


def report(results: list[dict[str, Any]]) -> str:
    """One line a width."""
    columns = ["features", "first page, median", "worst", "which", "other pages, median", "worst"]
    names = ["features", "first_median_ms", "first_worst_ms", "worst", "later_median_ms"]
    lines = [[one[name] for name in [*names, "later_worst_ms"]] for one in results]
    title = f"A page of {PAGE} features, cpu-ms, over {len(CASES)} orders and filters"
    return table(title, columns, lines)


def goals(results: list[dict[str, Any]]) -> list[Goal]:
    """The worst page of each width."""
    return [
        Goal(
            f"table page, {one['features']:,} features, worst first page",
            one["first_worst_ms"],
            WIDTHS[one["features"]],
            " cpu-ms",
        )
        for one in results
    ]
