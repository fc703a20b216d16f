"""`saefari ablate`: the effect on a prompt's answer when parts of the model are ablated."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from app.commands.engine import harvest_of, hashes, kept, loaded, made_by
from app.commands.terminal import console, print_json
from app.wording import measure, signed
from backend.ablation.ablation_requests import AblationRequest, PromptCase
from backend.ablation.harvest_means import FeatureMeans, read_harvest_means, refuse_without_harvest
from backend.ablation.model_parts import ModelPart, check_ablation_kind
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def ablate(
    *,
    model: str,
    dictionaries: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
    features: tuple[str, ...],
    parts: tuple[str, ...],
    mode: str,
    prompt: str,
    answer: str,
    wrong: str,
    pair: str,
    positions: str,
    seed: int,
    store: Path | None,
    as_json: bool,
) -> None:
    """Run an ablation, print it, and save it if a store is given; see `saefari ablate --help`."""
    taken = tuple(ModelPart.parse(text) for text in (*features, *parts))
    case = PromptCase(prompt, answer, wrong, pair)
    asked = AblationRequest(
        (case,), taken, check_ablation_kind(mode), seed, positions=positions
    ).check()
    if mode == "mean" and store is None and (feature := first_feature(taken)):
        refuse_without_harvest(feature)
    kept_in = Store(store) if store else None
    live = loaded(model, dictionaries, device, dtype, trust_remote_code)
    file = harvest_of(kept_in, live, named(taken)) if kept_in else None

    from backend.ablation.prompt_ablation import ablate_prompts

    result = ablate_prompts(live, asked, means_of(file, kept_in))
    name = unkept = ""
    if kept_in:
        name, unkept = kept(file, partial(keep, kept_in, live, asked, result))
    if as_json:
        about = made_by(live, asked.to_json(), name)
        weights = hashes(live, named(asked.parts))
        print_json({**result, **about, "dictionaries": weights})
    else:
        show(result, name)
    if unkept:
        console(stderr=True).print(Text(f"Not saved: {unkept}", style="yellow"))


def first_feature(parts: Iterable[ModelPart]) -> ModelPart | None:
    """Return the first part that is a feature, or None."""
    return next((part for part in parts if part.feature), None)


def named(parts: Iterable[ModelPart]) -> set[str]:
    """Return the names of the dictionaries that the parts belong to."""
    return {part.dictionary for part in parts if part.dictionary}


def means_of(file: HarvestFile | None, store: Store | None) -> FeatureMeans:
    """Return the function that reads features' means from a harvest; without one it raises
    InputError for a feature."""
    if file is not None:
        return read_harvest_means(file)
    if store is None:
        return refuse_without_harvest

    def unknown(part: ModelPart) -> float | None:
        if part.feature is None:
            return None
        raise InputError(
            f"The store has no harvest of this model with {part.dictionary}: harvest it, name "
            "the dictionary as in the store (--dictionary NAME=…), or choose --mode zero."
        )

    return unknown


def keep(
    store: Store, live: "LocalEngine", asked: AblationRequest, result: Any, file: HarvestFile
) -> str:
    """Save the ablation as an experiment of the store and return its id."""
    from app.experiments.keeping import keep

    return keep(
        store,
        "ablate",
        live,
        harvest=file.record.id,
        dictionaries=named(asked.parts),
        request=asked.to_json(),
        result=result,
    )


def show(result: dict[str, Any], kept: str) -> None:
    """Print a table of the target and the loss, and each part's effect."""
    out = console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "clean", "ablated", "change"):
        table.add_column(name, justify="left" if not name else "right")
    target = "logit difference" if result["target"] == "logit_diff" else "log probability"
    for name, field in ((target, "value"), ("loss, nats a token", "loss")):
        a, b = result["clean"][field], result["ablated"][field]
        change = signed(b - a, 3) if a is not None else ""
        table.add_row(name, measure(a), measure(b), change)
    out.print(table)
    out.print()
    for one in result["features"]:
        out.print(Text(f"{signed(one['effect'], 3):>9}  {one['part']}"))
    if len(result["features"]) > 1:
        out.print(Text(f"{signed(result['joint'], 3):>9}  together"))
    if kept:
        out.print(Text(f"kept as {kept}"))
