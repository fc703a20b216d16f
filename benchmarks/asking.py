"""What the client's side of a call costs: a job's pace and memory against an instant server."""

from typing import Any

from benchmarks.children import measured
from benchmarks.goals import Goal, table


def measure(n: int) -> list[dict[str, Any]]:
    """In a process of its own: `n` calls, ten times as many, and these again from the record."""
    return measured("benchmarks.one_asking", "--n", n)  # type: ignore[return-value] - a list here


def goals(facts: list[dict[str, Any]]) -> list[Goal]:
    """Pace by the clock, and what a core would bear; memory at ten times the calls."""
    first, more, _ = facts
    return [
        Goal("calls a second, instant server, by the clock", more["per_s"], 300, at_least=True),
        Goal("… a core's worth of CPU would bear", 1000 / more["cpu_ms"], 300, at_least=True),
        Goal(
            "memory after ten times the calls",
            more["resident_mb"] / first["resident_mb"],
            1.25,
            " ×",
            note=f"{more['calls']:,} calls",
        ),
        Goal("event loop held by a record, 99th percentile", more["record_p99_ms"], 5, " ms"),
    ]


def report(facts: list[dict[str, Any]]) -> str:
    """A row for each round."""
    columns = ["calls", "from the record", "per s", "cpu-ms each", "a record p99, ms", "MB"]
    names = ("calls", "cached", "per_s", "cpu_ms", "record_p99_ms", "resident_mb")
    return table("Calls to an instant server", columns, [[f[n] for n in names] for f in facts])
