"""Keeping a run, and doing a kept run again: what pages, the list and the commands share.

A steering run is kept with `Asked.to_json()` (backend/generation/steering_request.py) as its
request and
`Story.data` (app/steer/story.py) as its result; `/steer?experiment=ID` opens it. An ablation's
spelling is backend/ablation/ablation_requests.py.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from feature_store.experiments import ExperimentKind, Experiments
from feature_store.store import Store

VERSIONED = ("saefari", "torch", "transformers", "transformer-lens", "sae-lens")


def keep(
    store: Store,
    kind: ExperimentKind,
    live: Any,
    *,
    harvest: str,
    dictionaries: Iterable[str],
    request: Mapping[str, Any],
    result: Mapping[str, Any],
) -> str:
    """Keep a run of `live` (a LocalEngine); its id.

    `dictionaries`: names of those that the run used (`Asked.dictionaries`). `harvest`: id of the
    harvest whose page it was made on, or empty. InputError where the store may not be written.
    """
    return Experiments(store.catalog).save(
        kind,
        harvest=harvest,
        model=live.lm.name,
        model_hash=live.lm.model_hash,
        dictionaries={name: live.dictionaries.weights_hash(name) for name in sorted(dictionaries)},
        request=request,
        result=result,
        versions=versions(live),
    )


def versions(live: Any) -> dict[str, str]:
    """Of the packages whose arithmetic the result is; and where and how precisely it was done."""
    placement = live.lm.placement
    return {
        **{name: version(name) for name in VERSIONED},
        "device": placement.device.type,
        "dtype": str(placement.dtype).removeprefix("torch."),
    }
