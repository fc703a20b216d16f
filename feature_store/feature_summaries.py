"""Feature summaries: promoted tokens, density and largest activation of many features of several
dictionaries, read from a harvest file in one query."""

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


def read_feature_facts(
    file: HarvestFile, features: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], dict]:
    """Read density and max_act of features of a harvest: (dictionary, index) -> row."""
    names, numbers = ([f[i] for f in features] for i in (0, 1))
    found = file.rows(
        "SELECT dictionary, feature, density, max_act FROM feature JOIN (SELECT "
        "unnest(?::VARCHAR[]) AS dictionary, unnest(?::INTEGER[]) AS feature) "
        "USING (dictionary, feature)",
        [names, numbers],
    )
    return {(row["dictionary"], row["feature"]): row for row in found.to_pylist()}
