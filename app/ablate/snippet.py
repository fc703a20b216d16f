"""An ablation, a ranking or a splice as the few lines of Python that do it without the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feature_store.strict_json import dump_json

FIRST = """import json
from pathlib import Path

from backend.ablation.ablation_requests import {record}
from backend.ablation.{module} import {function}
{also}from backend.engine import LocalEngine
from backend.model.device import choose_placement
from feature_store.store import Store

store = Store(Path({store!r}))
file = store.harvest({harvest!r})
engine = LocalEngine.load(file, store.places.read_all(), choose_placement())
asked = {record}.from_json(json.loads({request!r}))
answer = {function}({call})
"""
MEANS = "from backend.ablation.harvest_means import read_harvest_means\n"
FORMS = {
    "ablate": (
        "AblationRequest",
        "prompt_ablation",
        "ablate_prompts",
        MEANS,
        "engine, asked, read_harvest_means(file)",
    ),
    "dataset": (
        "AblationRequest",
        "dataset_ablation",
        "ablate_dataset",
        MEANS,
        "engine, asked, read_harvest_means(file)",
    ),
    "effects": (
        "EffectRankingRequest",
        "effect_ranking",
        "rank_effects",
        MEANS,
        "engine, asked, None, read_harvest_means(file)",
    ),
    "splice": (
        "EffectRankingRequest",
        "splice",
        "splice_losses_by_dictionary",
        "",
        "engine, asked.cases, asked.dictionaries",
    ),
}
"""What was run → record, module, function, further import, arguments."""


def form_of(kind: str, request: Mapping[str, Any]) -> str:
    """The key of FORMS for a kept run."""
    return "dataset" if request.get("over") == "dataset" else kind


def lines(store: Path, harvest: str, kind: str, request: Mapping[str, Any]) -> str:
    """Python that gives the same answer; `kind` is the experiment's."""
    record, module, function, also, call = FORMS[form_of(kind, request)]
    return FIRST.format(
        record=record,
        module=module,
        function=function,
        also=also,
        call=call,
        store=str(store),
        harvest=harvest,
        request=dump_json(request),
    )
