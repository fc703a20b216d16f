"""A store with a tiny harvest and steering runs from the command line, for tests of kept runs."""

from pathlib import Path

from app.cli import main
from feature_store.experiments import Experiment, Experiments
from feature_store.store import Store
from tests.commands import World, make_world

PROMPT = "the cat saw"


def words(world: World, store: Path, strength: float, seed: int) -> list[str]:
    """`saefari steer`, kept in the store."""
    options = {
        "model": world.model,
        "dictionary": world.path / "top",
        "feature": "top/3",
        "strength": strength,
        "prompt": PROMPT,
        "max-new": 9,
        "seed": seed,
        "store": store,
    }
    return ["steer", *(word for k, v in options.items() for word in (f"--{k}", str(v)))]


def filled(folder: Path) -> Path:
    """The store: two runs of `top/3`, the stronger one newer."""
    world, store = make_world(folder / "world"), folder / "store"
    assert main(world.harvest(store, tokens=2000)) == 0
    for strength, seed in ((9, 2), (12, 5)):
        assert main(words(world, store, strength, seed)) == 0
    return store


def runs(store: Path) -> list[Experiment]:
    """Newest first."""
    found = Experiments(Store(store).catalog)
    return [found.open(entry.id) for entry in found.list_summaries()]
