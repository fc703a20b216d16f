"""Keeping a circuit with what it takes to find it again."""

from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from app.experiments.keeping import versions
from backend.circuits.records import Circuit
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def keep(
    store: Store, harvest: str, live: "LocalEngine", asked: CircuitRequest, circuit: Circuit
) -> str:
    """Its id. InputError where the store may not be written."""
    used = [name for name in circuit.dictionaries if name in live.dictionaries]
    return SavedCircuits(store.catalog).save(
        circuit.to_json(),
        harvest=harvest,
        model=live.lm.name,
        model_hash=live.lm.model_hash,
        dictionaries={name: live.dictionaries.weights_hash(name) for name in sorted(used)},
        request=asked.to_json(),
        versions=versions(live),
    )
