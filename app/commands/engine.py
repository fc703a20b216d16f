"""The engine that `steer`, `ablate` and `circuit` run: model, dictionaries, and the matching
harvest of a store."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from app.commands.harvest import look_at_weights
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def loaded(
    model: str,
    dictionaries: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
) -> "LocalEngine":
    """Load the model and its dictionaries into an engine."""
    dictionaries = look_at_weights(model, dictionaries)
    from backend.dictionaries import check_source, parse_spec
    from backend.engine_from_weights import load_engine_from_weights
    from backend.model.device import choose_placement

    specs = [parse_spec(text) for text in dictionaries]
    named = {name or check_source(spec).default_name: spec for name, spec in specs}
    placement = choose_placement(device, dtype)
    return load_engine_from_weights(model, named, placement, trust_remote_code=trust_remote_code)


def hashes(live: "LocalEngine", names: Iterable[str]) -> dict[str, str]:
    """Return the weights' hash of each loaded dictionary among `names`."""
    known = live.dictionaries
    return {name: known.weights_hash(name) for name in sorted(set(names)) if name in known}


def harvest_of(store: Store, live: "LocalEngine", names: Iterable[str]) -> HarvestFile | None:
    """Return the newest harvest with the same model and dictionary weights, or None."""
    want = hashes(live, names)
    fitting = (file for file in store.harvests() if file.has_weights(live.lm.model_hash, want))
    return next(fitting, None)


def kept(file: HarvestFile | None, keep: Callable[[HarvestFile], str]) -> tuple[str, str]:
    """Save a run and return (id, ""), or ("", why it could not be saved)."""
    if file is None:
        return (
            "",
            "the store has no harvest of this model and these dictionaries.",
        )
    try:
        return keep(file), ""
    except InputError as error:
        return "", str(error)


def made_by(live: "LocalEngine", request: Any, experiment: str) -> dict[str, Any]:
    """Return what a command's JSON output records about the run: request, model, versions, id."""
    from app.experiments.keeping import versions

    return {
        "request": request,
        "model": live.lm.name,
        "model_hash": live.lm.model_hash,
        "versions": versions(live),
        "experiment": experiment or None,
    }
