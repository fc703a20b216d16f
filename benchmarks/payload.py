"""What opening a feature costs, and how large a harvest file is."""

from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from benchmarks.children import measured
from benchmarks.goals import Goal, table
from feature_store.harvest_writer import ROW_GROUP_SIZE

SHARED = ("sequence", "token", "document")
"""Tables whose size follows from the corpus, not from the dictionary."""
COLD = 5


def measure(harvest: Path, features: int) -> dict[str, Any]:
    """Warm over many features, cold in a new process each time, and the file's bytes."""
    warm = measured("benchmarks.one_payload", "--harvest", harvest, "--features", features)
    cold = [
        measured("benchmarks.one_payload", "--harvest", harvest, "--cold", seed)
        for seed in range(COLD)
    ]
    return {
        "warm": warm,
        "cold": {name: median(one[name] for one in cold) for name in cold[0]},
        "cold_worst_ms": max(one["wall_ms"] for one in cold),
        **sizes(harvest),
    }


def sizes(harvest: Path) -> dict[str, int]:
    """Bytes of the file, and of a file that holds only the tokens' tables of it."""
    alone = harvest.with_suffix(".tokens")
    alone.unlink(missing_ok=True)
    db = duckdb.connect(config={"threads": 1})
    db.execute(f"ATTACH '{harvest}' AS whole (READ_ONLY)")
    db.execute(f"ATTACH '{alone}' AS alone (ROW_GROUP_SIZE {ROW_GROUP_SIZE})")
    for name in SHARED:
        db.execute(f"CREATE TABLE alone.{name} AS SELECT * FROM whole.{name}")
    db.execute("CHECKPOINT alone")
    (features,) = db.execute("SELECT count(*) FROM whole.feature").fetchall()[0]
    (contexts,) = db.execute("SELECT count(*) FROM whole.context").fetchall()[0]
    db.close()
    found = {"file": harvest.stat().st_size, "tokens": alone.stat().st_size}
    alone.unlink()
    return found | {"features": features, "contexts": contexts}


def report(facts: dict[str, Any]) -> str:
    """Times and bytes."""
    warm, cold = facts["warm"], facts["cold"]
    rows = [
        [f"warm, cpu-ms, median of {warm['features']} features", warm["median_ms"]],
        ["… 95th percentile", warm["p95_ms"]],
        ["… `select 1` between them, median", warm["select_1_ms"]],
        ["contexts in a payload, mean", warm["contexts"]],
        [f"cold, ms by the clock, median of {COLD} processes", cold["wall_ms"]],
        ["… worst of them", facts["cold_worst_ms"]],
        ["… of which opening the file", cold["open_ms"]],
        ["… cpu-ms", cold["cpu_ms"]],
        ["file, MB", facts["file"] / 1e6],
        ["… of which the corpus's tables", facts["tokens"] / 1e6],
        ["kB a feature without those", kb_per_feature(facts)],
        ["contexts a feature", facts["contexts"] / facts["features"]],
    ]
    title = f"One feature's payload: {facts['features']:,} features"
    return table(title, ["", "figure"], rows)


def kb_per_feature(facts: dict[str, Any]) -> float:
    """File size for a feature, tokens apart, in kB."""
    return (facts["file"] - facts["tokens"]) / facts["features"] / 1000


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Warm, cold, and bytes."""
    return [
        Goal("payload warm, median", facts["warm"]["median_ms"], 2.0, " cpu-ms"),
        Goal("payload cold, median", facts["cold"]["wall_ms"], 250.0, " ms"),
        Goal("file without the tokens", kb_per_feature(facts), 3.0, " kB a feature"),
    ]
