"""The store of tests.stores with weights behind it: a matrix of directions for `resid`."""

from pathlib import Path

import duckdb
import torch
from safetensors.torch import save_file

from backend.dictionaries import load
from feature_store.store import Store
from tests.dictionaries import CPU
from tests.stores import D_SAE, make_store

HOOK = "blocks.1.hook_resid_post"


def make_mapped(path: Path) -> Store:
    """Four bundles of directions, so that there is something to see; `abs` has no known place."""
    store = make_store(path)
    torch.manual_seed(0)
    middles = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    rows = middles[torch.arange(D_SAE) % 4] + 0.1 * torch.randn(D_SAE, 16)
    save_file({"W_dec": rows}, path / "directions.safetensors")
    spec = f"{path / 'directions.safetensors'}@{HOOK}"
    weights_hash = load(spec, placement=CPU).weights_hash
    for file in (path / "harvests").glob("*.duckdb"):
        with duckdb.connect(str(file)) as db:
            db.execute(
                "UPDATE dictionary SET weights_hash = ? WHERE dictionary = 'resid'", [weights_hash]
            )
    store.places.remember({weights_hash: spec})
    return Store(path)
