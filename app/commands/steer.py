"""`saefari steer`: generate the default and the steered completion of a prompt, streaming, with
their guard rails."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

from rich.console import Group
from rich.live import Live
from rich.text import Text

from app.commands.engine import harvest_of, hashes, kept, loaded, made_by
from app.commands.terminal import console, print_json
from app.steer.story import Story, rail, warnings
from backend.generation.records import SamplingSettings
from backend.generation.steering_request import SteeringRequest
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit, EditBasis, EditCondition
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store

if TYPE_CHECKING:
    from backend.engine import LocalEngine

FROM_A_HARVEST = ("max", "mean")
"""Bases of an edit that a store's harvest provides; others work on pages and in Python."""
INSTEAD = {"add_max": "add, in activation units", "mean": "zero"}


def steer(
    *,
    model: str,
    dictionaries: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
    features: tuple[str, ...],
    mode: str,
    strength: float,
    parts: str,
    positions: str | None,
    pattern: str | None,
    prompt: str,
    store: Path | None,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Generate both completions, print them, and save the run if a store is given; see
    `saefari steer --help`."""
    edits = edits_of(features, mode, strength, where_of(parts, positions, pattern))
    check_basis(mode, store)
    drawn = SamplingSettings(**sampling)
    drawn.check()
    kept_in = Store(store) if store else None
    live = loaded(model, dictionaries, device, dtype, trust_remote_code)
    names = {feature.dictionary for edit in edits for feature in edit.features}
    file = harvest_of(kept_in, live, names) if kept_in else None
    edits = [with_basis(edit, file) for edit in edits]
    asked = SteeringRequest(prompt, tuple(edits), drawn, bos=live.bos is not None)
    story = told(live, asked, quiet=as_json)
    name = unkept = ""
    if kept_in:
        name, unkept = kept(file, partial(keep, kept_in, live, asked, story.data))
    if as_json:
        print_json(as_data(live, asked, story.data, name))
    else:
        print_rails(story.data, name)
    if unkept:
        console(stderr=True).print(Text(f"Not saved: {unkept}", style="yellow"))


def where_of(parts: str, positions: str | None, pattern: str | None) -> EditCondition:
    """Return the condition of the edits; `all` positions include BOS and special tokens."""
    every, chosen = positions == "all", None
    if positions and not every:
        words = [word.strip() for word in positions.split(",")]
        if not all(word.isascii() and word.isdecimal() for word in words):
            raise InputError(
                f"--positions {positions} is neither all nor numbers such as 0,3,4. Positions "
                "count from 0, the first token that the model reads."
            )
        chosen = tuple(map(int, words))
    known = {name: name for name in ("all", "prompt", "generated")}
    return EditCondition(
        parts=pick_by_name("--where", parts, known),  # type: ignore[arg-type]
        positions=chosen,
        pattern=pattern,
        special=every,
        bos=every,
    )


def edits_of(
    features: Sequence[str], mode: str, strength: float, where: EditCondition
) -> list[Edit]:
    """Return one edit for each dictionary, all of the same mode and strength."""
    pick_by_name("mode", mode, MODES)
    by_name: dict[str, list[FeatureId]] = {}
    for feature in map(FeatureId.parse, features):
        by_name.setdefault(feature.dictionary, []).append(feature)
    return [Edit(mode, tuple(found), strength, where=where) for found in by_name.values()]


def check_basis(mode: str, store: Path | None) -> None:
    """Raise InputError for a mode whose basis neither the options nor a store provide."""
    needs = MODES[mode].basis
    if needs in FROM_A_HARVEST and store is None:
        raise InputError(
            f"{mode} needs the features' {'maxima' if needs == 'max' else 'means'}, which a "
            f"harvest holds: give a store that has one (--store), or choose {INSTEAD[mode]}."
        )
    if needs and needs not in FROM_A_HARVEST:
        able = [name for name, one in MODES.items() if one.basis in ("", *FROM_A_HARVEST)]
        raise InputError(
            f"{mode} needs values from other texts, which no option provides: use it from Python, "
            f"or choose one of {', '.join(able)}."
        )


def with_basis(edit: Edit, file: HarvestFile | None) -> Edit:
    """Return the edit with the maxima or means that its mode takes from the harvest."""
    from dataclasses import replace

    from app.steer.link import basis_of

    needs = MODES[edit.mode].basis
    if not needs:
        return edit
    if file is None:
        raise InputError(
            f"The store has no harvest of this model with {edit.features[0].dictionary}: harvest "
            "it, name the dictionary as in the store (--dictionary NAME=…), or "
            f"choose {INSTEAD[edit.mode]}."
        )
    basis: EditBasis = basis_of(file, needs, edit.features)
    return replace(edit, basis=basis)


def told(live: "LocalEngine", asked: SteeringRequest, *, quiet: bool) -> Story:
    """Generate both completions and return their record; a terminal shows them as they grow."""
    from backend.generation.generation_run import generate_texts

    story = Story([row.name for row in asked.rows])
    out = console(stderr=quiet)
    showing = out.is_terminal and not quiet
    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as screen:
        for record in generate_texts(live.lm, live.dictionaries, asked):
            story.take(record, lambda tokens: live.text(tokens).counted)
            if showing:
                screen.update(texts(story.data), refresh=True)
    if not quiet and not showing:
        out.print(texts(story.data))
    return story


def texts(data: Mapping[str, Any]) -> Group:
    """Return both completions after their prompt, each under its name."""
    pairs = zip(data["prompt"]["pieces"], data["prompt"]["counted"], strict=True)
    prompt = plain("".join(piece for piece, shown in pairs if shown))
    blocks = []
    for name, row in data["rows"].items():
        said = plain("".join(row["pieces"]))
        blocks += [Text(name, style="bold"), Text.assemble((prompt, "dim"), said)]
    return Group(*blocks)


def plain(text: str) -> str:
    """Return a model's text without control characters."""
    return "".join(
        c if c.isprintable() or c in "\n\t" or category(c) == "Zs" else "�" for c in text
    )


def keep(
    store: Store, live: "LocalEngine", asked: SteeringRequest, result: Any, file: HarvestFile
) -> str:
    """Save the run as an experiment of the store and return its id."""
    from app.experiments.keeping import keep

    return keep(
        store,
        "steer",
        live,
        harvest=file.record.id,
        dictionaries=asked.dictionaries,
        request=asked.to_json(),
        result=result,
    )


def as_data(live: "LocalEngine", asked: SteeringRequest, story: Any, kept: str) -> dict[str, Any]:
    """Return the run as plain data: texts, KL of each token, guard rails and the request."""
    rows = story["rows"]
    return {
        **{name: row["end"]["text"] for name, row in rows.items()},
        "kl": rows["steered"]["kl"],
        "rails": {name: rails(row) for name, row in rows.items()},
        **made_by(live, asked.to_json(), kept),
        "dictionaries": hashes(live, asked.dictionaries),
        "result": story,
    }


def rails(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the guard rails of one completion."""
    return {"shift": max(row["shift"], default=0.0), **row["end"]}


def print_rails(story: Any, kept: str) -> None:
    """Print the guard rails and warnings of each completion, and the id of the saved run."""
    out = console()
    out.print()
    for name, row in story["rows"].items():
        out.print(Text(f"{name:<8} {rail(row)}"))
        for sentence in warnings(row):
            out.print(Text(f"{'':<8} {sentence}", style="yellow"))
    if kept:
        out.print(Text(f"kept as {kept}"))
