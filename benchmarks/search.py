"""What a search costs over a wide dictionary: by label, by meaning, by token."""

from typing import Any

from benchmarks.children import measured
from benchmarks.goals import Goal, table

WIDE = 131_072
"""Features, and as many labels."""


def measure(features: int) -> dict[str, Any]:
    """All three in a new process."""
    return measured("benchmarks.one_search", "--features", features)


def report(facts: dict[str, Any]) -> str:
    """Times of queries, and of what is built once."""
    labels, meaning, tokens = facts["labels"], facts["meaning"], facts["tokens"]
    rows = [
        line("label, two words", labels["exact"], labels["build_s"]),
        line("… one of them misspelled", labels["typing error"], labels["build_s"]),
        line("meaning, three words", meaning["query"], meaning["learn_s"] + meaning["build_s"]),
        line("… the bare product in it", meaning["product"], ""),
        line("token, fires or promotes", tokens["query"], tokens["build_s"]),
    ]
    title = f"Searches: {facts['features']:,} features, as many labels, cpu-ms"
    return table(title, ["", "median", "worst", "built once, cpu-s"], rows)


def line(what: str, query: dict[str, float], build: float | str) -> list[Any]:
    """A row of the table."""
    return [what, query["median_ms"], query["worst_ms"], build]


def goals(facts: dict[str, Any]) -> list[Goal]:
    """A person does not wait; meaning costs little beyond the product it rests on."""
    meaning = facts["meaning"]["query"]["median_ms"]
    return [
        Goal("search by label, median", facts["labels"]["exact"]["median_ms"], 50.0, " cpu-ms"),
        Goal("search by meaning, median", meaning, 100.0, " cpu-ms"),
        Goal("search by token, median", facts["tokens"]["query"]["median_ms"], 50.0, " cpu-ms"),
    ]
