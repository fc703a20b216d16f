"""Feature summaries: a few facts about many features of several dictionaries, read from a
harvest file in one query."""

from collections.abc import Sequence

from feature_store.harvest_reader import HarvestFile


def read_promoted_tokens(
    file: HarvestFile, features: Sequence[tuple[str, int]], n: int
) -> dict[tuple[str, int], list[int]]:
    """Read the `n` tokens that each feature promotes most: (dictionary, index) -> token ids,
    strongest first."""
    names, numbers = ([feature[i] for feature in features] for i in (0, 1))
    found = file.rows(
        "SELECT dictionary, feature, promoted_tokens[:?] AS tokens FROM feature JOIN (SELECT "
        "unnest(?::VARCHAR[]) AS dictionary, unnest(?::INTEGER[]) AS feature) "
        "USING (dictionary, feature)",
        [n, names, numbers],
    )
    return {(row["dictionary"], row["feature"]): row["tokens"] or [] for row in found.to_pylist()}
