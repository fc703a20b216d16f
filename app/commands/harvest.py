"""`saefari harvest`: check the inputs before torch loads, then harvest with a progress bar."""

from pathlib import Path
from typing import Any

import click

from app.commands.progress import report
from app.commands.terminal import console, print_json
from feature_store.errors import InputError
from feature_store.null_dictionaries import parse_null_kinds
from feature_store.store import Store


def harvest(
    *,
    model: str,
    dictionaries: tuple[str, ...],
    corpora: tuple[str, ...],
    store: Path,
    tokens: int,
    context_size: int,
    forward_batch: int,
    seed: int,
    pack: bool,
    text_column: str,
    bf16_encoding: bool,
    device: str | None,
    dtype: str | None,
    shard: str | None,
    processes: int,
    again: bool,
    trust_remote_code: bool,
    as_json: bool,
    nulls: str = "",
) -> None:
    """Run a harvest and print its id; see `saefari harvest --help`."""
    from backend.harvest.harvest_plan import HarvestPlan

    plan = HarvestPlan(
        tokens=tokens, context_size=context_size, forward_batch=forward_batch, seed=seed, pack=pack
    )
    part = parse_part(shard, processes)
    kinds = parse_null_kinds(nulls)
    dictionaries = look(model, dictionaries, corpora, text_column)
    Store.create(store)

    from backend.harvest.checkpoint import Shard
    from backend.harvest.run import HarvestRequest, HarvestRun
    from backend.model.device import choose_placement

    placement = choose_placement(device, dtype)
    console(stderr=True).print(placement.why, style="dim")
    work = HarvestRun(
        HarvestRequest(
            model=model,
            dictionaries=list(dictionaries),
            corpora=list(corpora),
            store=store,
            plan=plan,
            placement=placement,
            precision="bf16" if bf16_encoding else "exact",
            text_column=text_column,
            shard=Shard(*part) if part else None,
            processes=processes,
            nulls=kinds,
            again=again,
            trust_remote_code=trust_remote_code,
        )
    )
    report(work.run(), lambda: work.id)
    say(work, store, as_json=as_json)


def look(
    model: str, dictionaries: tuple[str, ...], corpora: tuple[str, ...], text_column: str
) -> tuple[str, ...]:
    """Check model, dictionaries and corpora without torch; raises InputError in under a second.

    Returns the dictionaries; a folder of several is expanded.
    """
    from backend.corpus import check_corpus

    found = look_at_weights(model, dictionaries)
    check_corpus(list(corpora), text_column=text_column)
    return found


def look_at_weights(model: str, dictionaries: tuple[str, ...]) -> tuple[str, ...]:
    """Check model and dictionaries for a command that needs no corpus; returns the dictionaries."""
    from backend.dictionaries import check_source, expand_folders, parse_spec
    from backend.model.model_source_checks import check_model_source

    check_model_source(model)
    dictionaries = tuple(expand_folders(dictionaries))
    names: list[str] = []
    for text in dictionaries:
        name, spec = parse_spec(text)
        source = check_source(spec)
        names.append(name or source.default_name)
        if names[-1] in names[:-1]:
            raise InputError(
                f"Two dictionaries are named {names[-1]!r}. Give one another name: "
                f"--dictionary NAME={spec}"
            )
    return dictionaries


def parse_part(shard: str | None, processes: int) -> tuple[int, int] | None:
    """Return the shard of --shard as (index, count), or None for the whole harvest."""
    if processes < 1:
        raise InputError(f"--processes must be 1 or more, not {processes}.")
    part = parse_shard(shard)
    if part and processes > 1:
        raise InputError("--shard and --processes cannot be combined: give one of them.")
    return part


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """`2/4` → (1, 4): index from 0, count."""
    if text is None:
        return None
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()) or not 1 <= int(index) <= int(count):
        raise InputError(f"--shard {text} is not I/N with I from 1 to N, for example 1/4.")
    return int(index) - 1, int(count)


def say(work: Any, store: Path, *, as_json: bool) -> None:
    """Print how the harvest ended and the next step."""
    if as_json:
        facts = {
            "harvest": work.id,
            "outcome": work.outcome,
            "tokens": work.n_tokens,
            "warnings": work.warnings,
            "checks": {n: p.words for n, p in work.probes.items()},
            "cpu_s": work.stages.cpu_s,
            "wall_s": work.stages.wall_s,
        }
        print_json(facts)
        return
    out = console(stderr=True)
    for name, probe in work.probes.items():
        for words in probe.words:
            out.print(f"{name}: {words}", style="yellow", markup=False)
    for warning in work.warnings:
        out.print(warning, style="yellow", markup=False)
    endings = {
        "published": f"Harvest {work.id} is finished. Open it: saefari app --store {store}",
        "already": f"Harvest {work.id} was finished before. Open it: saefari app --store {store} "
        "(or harvest again with --again)",
        "part": f"This shard of harvest {work.id} is done. Run the other shards; the last one "
        "publishes the harvest.",
    }
    click.echo(endings[work.outcome])
