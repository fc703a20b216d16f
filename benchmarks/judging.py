"""Explaining and scoring a wide dictionary: pace, memory however many features, estimates."""

from typing import Any

from benchmarks.children import measured
from benchmarks.goals import Goal, table


def measure(features: int, scored: int) -> dict[str, Any]:
    """In a process of its own, by an instant server in another one."""
    return measured("benchmarks.one_judging", "--features", features, "--scored", scored)


def goals(facts: dict[str, Any]) -> list[Goal]:
    """Memory at ten times the features; calls a second; an estimate that is near."""
    few, many = facts["explain"]
    score = facts["score"][-1]
    return [
        Goal(
            "memory of explaining after ten times the features",
            many["peak_mb"] / few["peak_mb"],
            1.25,
            " ×",
            note=f"{many['features']:,} features, {many['peak_mb']:.0f} MB",
        ),
        Goal(
            "explaining: calls a second, instant server, by the clock",
            many["per_s"],
            300,
            at_least=True,
        ),
        Goal(
            "scoring: calls a second, instant server, by the clock",
            score["per_s"],
            300,
            at_least=True,
        ),
        Goal("… a core's worth of CPU would bear", 1000 / score["cpu_ms"], 300, at_least=True),
        Goal("estimate of calls off by", score["off"]["calls"], 0.15),
        Goal("estimate of tokens off by", score["off"]["tokens"], 0.15),
    ]


def report(facts: dict[str, Any]) -> str:
    """A row for each job."""
    names = ("features", "calls", "failed", "per_s", "cpu_ms", "peak_mb")
    columns = ["job", "features", "calls", "failed", "per s", "cpu-ms a call", "MB"]
    rows = [
        [kind, *(row[name] for name in names)]
        for kind in ("explain", "score")
        for row in facts[kind]
    ]
    return table("Explaining and scoring by an instant server", columns, rows)
