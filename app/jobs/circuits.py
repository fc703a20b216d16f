"""The job `circuit`: a circuit, found and kept in the catalog."""

from typing import Any

from feature_store.job_process import JobProcess
from feature_store.store import Store


def arguments(harvest: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a circuit job; `request` is `CircuitRequest.to_json()`."""
    return {"harvest": harvest, "request": request}


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Find it; its id is the job's result."""
    from app.circuits import keeping, running
    from app.circuits.asked import CircuitRequest
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement

    work.progress(0, 1, "loading the model")
    asked = CircuitRequest.from_json(work.arguments["request"]).check()
    file = store.harvest(work.arguments["harvest"])
    engine = LocalEngine.load(file, store.places.read_all(), choose_placement())
    circuit = running.find(engine, asked, work.progress)
    name = keeping.keep(store, file.record.id, engine, asked, circuit)
    return {"experiment": name, "nodes": len(circuit.nodes), "edges": len(circuit.edges)}
