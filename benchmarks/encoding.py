"""Forward and encode against the libraries underneath, in one process."""

from typing import Any

from benchmarks.children import measured
from benchmarks.goals import Goal, table
from benchmarks.workload import Workload

GOALS = {4096: 0.95, 16_384: 1.3}
"""Width → the speed that is asked for, times sae-lens' dense encode."""


def measure(work: Workload, rounds: int) -> dict[str, Any]:
    """Medians of interleaved rounds of one forward batch each."""
    pairs = [("--dictionary", work.dictionary(width)) for width in work.size.widths[:2]]
    return measured(
        "benchmarks.one_encode",
        "--model",
        work.model,
        "--hook",
        work.size.hook,
        "--layer",
        work.size.layer,
        "--context",
        work.size.context,
        "--rounds",
        rounds,
        *(argument for pair in pairs for argument in pair),
    )


def report(facts: dict[str, Any]) -> str:
    """One line a comparison."""
    rows = [line("forward to the hook | bare Hugging Face trunk", facts["forward"])]
    for name, one in facts["encode"].items():
        rows.append(line(f"{name} encode | sae-lens, whole batch", one["whole"]))
        rows.append(line(f"{name} encode | sae-lens, tiles", one["tiled"]))
    columns = ["ours | theirs", "ours, cpu-ms", "theirs, cpu-ms", "speed ×", "ours, tokens/cpu-s"]
    return table("Forward and encode, medians of interleaved rounds", columns, rows)


def line(what: str, one: dict[str, float]) -> list[Any]:
    """A row of the table."""
    return [
        what,
        one["ours_ms"],
        one["theirs_ms"],
        one["speed"],
        1000 * one["rows"] / one["ours_ms"],
    ]


def goals(work: Workload, facts: dict[str, Any]) -> list[Goal]:
    """Speed of both, and equality of the encodings."""
    found = [
        Goal(
            "forward to the hook, speed over a bare trunk",
            facts["forward"]["speed"],
            0.95,
            "×",
            at_least=True,
        ),
    ]
    for width, (name, one) in zip(work.size.widths[:2], facts["encode"].items(), strict=True):
        bound = GOALS.get(width, 0.95)
        found.append(Goal(f"{name}, speed over sae-lens' encode", one["speed"], bound, "×", True))
        found.append(Goal(f"{name}, largest difference to sae-lens", one["apart"], 1e-4))
        note = f"of {one['compared']:,}; ties: {one['ties']}, sae-lens' own: {one['their_ties']}"
        found.append(Goal(f"{name}, tokens of another support", one["other_support"], 0, note=note))
    return found
