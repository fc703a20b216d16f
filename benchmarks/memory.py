"""Memory of a short and of a ten times longer harvest, each in a process of its own."""

from pathlib import Path
from typing import Any

from benchmarks.goals import Goal, table
from benchmarks.harvesting import Case
from benchmarks.workload import Workload


def measure(work: Workload, stores: Path, short: int, long: int) -> list[dict[str, Any]]:
    """Two harvests of the narrowest dictionary."""
    width = work.size.widths[0]
    return [
        Case(
            f"memory-{tokens}",
            work.model,
            work.dictionary(width),
            "stdlib",
            tokens,
            1.1,
            context=work.size.context,
        ).run(stores)
        for tokens in (short, long)
    ]


def report(results: list[dict[str, Any]]) -> str:
    """Resident memory before the pass, at its end and at its worst; the accumulators' own."""
    rows = [
        ["tokens", *(one["tokens"] for one in results)],
        ["resident before the pass, MB", *(one["resident_before_mb"] for one in results)],
        ["peak of the pass, MB", *(one["peak_by_stage_mb"]["harvest"] for one in results)],
        ["peak of all, MB", *(one["peak_mb"] for one in results)],
        ["accumulators, MB", *(one["state_bytes"] / 1e6 for one in results)],
        ["… kB a feature", *(one["state_bytes"] / one["d_sae"] / 1e3 for one in results)],
        ["÷ (forward + encode)", *(one["ratio"] for one in results)],
        ["cpu-µs a non-zero, loop", *(one["us_per_nonzero"] for one in results)],
    ]
    columns = ["", *(one["name"] for one in results)]
    return table(f"Memory, {results[0]['d_sae']:,} features", columns, rows)


def growth_goals(results: list[dict[str, Any]]) -> list[Goal]:
    """The long harvest's peak over the short one's: of the pass over the text, and of everything.

    Work done once per dictionary has its own peak, which does not know how long the text was.
    """
    short, long = results
    note = f"{long['tokens']:,} and {short['tokens']:,} tokens"
    of_pass = long["peak_by_stage_mb"]["harvest"] / short["peak_by_stage_mb"]["harvest"]
    return [
        Goal("peak memory of the pass, long ÷ short", of_pass, 1.05, "×", note=note),
        Goal("peak memory of all, long ÷ short", long["peak_mb"] / short["peak_mb"], 1.05, "×"),
    ]


def state_goal(one: dict[str, Any]) -> Goal:
    """What the accumulators of a harvest hold, against 1.5 kB a feature and 100 MB."""
    bound = (1500 * one["d_sae"] + 100e6) / 1e6
    return Goal(
        f"accumulators of {one['name']}",
        one["state_bytes"] / 1e6,
        bound,
        " MB",
        note="bound: 1.5 kB × d_sae + 100 MB",
    )
