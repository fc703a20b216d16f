"""A store with a harvest of each of two models, for tests in which both are wanted at once."""

from pathlib import Path

from feature_store.store import Store
from tests.harvests import harvest_on_disk

BOTH = 50_000
"""Bytes into which one of the models fits, and not both."""


def store_of_two_models(folder: Path) -> Store:
    """Two random models of the same kind, each with one dictionary, `resid`."""
    for seed in (1, 2):
        home = folder / f"model{seed}"
        home.mkdir()
        harvest_on_disk(home, tokens=600, seed=seed, store=folder / "store")
    return Store(folder / "store")
