"""`saefari circuit`: find the circuit of a next token and print its nodes and faithfulness."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from app.circuits.asked import CircuitRequest
from app.circuits.methods import METHODS
from app.commands.engine import harvest_of, kept, loaded, made_by
from app.commands.steer import plain
from app.commands.terminal import console, print_json
from app.wording import count, measure, signed
from backend.ablation.ablation_requests import PromptCase, read_prompt_cases
from backend.circuits.faithfulness_text import describe_effect_check, describe_faithfulness_null
from backend.circuits.records import Circuit, Faithfulness
from backend.model.run_token_counts import count_circuit_tokens
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_reader import HarvestFile
from feature_store.statistics.estimate import Estimate
from feature_store.store import Store

if TYPE_CHECKING:
    from backend.engine import LocalEngine

STABLE = 0.95
SHOWN = 20
"""Number of nodes to print."""
LARGEST = 20_000_000
"""Maximum size of a file of prompts in bytes."""


def circuit(
    *,
    model: str,
    dictionaries: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
    method: str,
    prompt: str | None,
    corrupt: str,
    prompts: Path | None,
    task: str,
    store: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Find a circuit, print it, and save it if a store is given; see `saefari circuit --help`."""
    if corrupt and prompt is None:
        raise InputError("--corrupt needs --prompt: give both.")
    if sum((prompt is not None, prompts is not None, bool(task))) != 1:
        raise InputError("Give exactly one of --prompt TEXT, --prompts FILE.jsonl and --task NAME.")
    baseline = given.pop("baseline") or ("pair" if corrupt or task else "zero")
    pick_by_name("method", method, METHODS)
    asked = CircuitRequest(
        method,
        (),
        cases_of(prompt, corrupt, prompts),
        task,
        baseline=baseline,
        **given,
    ).check()
    kept_in = Store(store) if store else None
    live = loaded(model, dictionaries, device, dtype, trust_remote_code)
    say_estimate(live, asked, kept_in)
    found = watched(live, asked, quiet=as_json)
    name = unkept = ""
    if kept_in:
        file = harvest_of(kept_in, live, found.dictionaries)
        name, unkept = kept(file, partial(keep, kept_in, live, asked, found))
    if as_json:
        print_json(as_data(live, asked, found, name))
    else:
        show(found, name)
    if unkept:
        console(stderr=True).print(Text(f"Not saved: {unkept}", style="yellow"))


def cases_of(prompt: str | None, corrupt: str, file: Path | None) -> tuple[PromptCase, ...]:
    """Return the prompt of the command line, or those of a file."""
    if prompt is not None:
        return (PromptCase(prompt, pair=corrupt),)
    if file is None:
        return ()
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file} is larger than {LARGEST // 10**6} MB. Take a sample.")
        return read_prompt_cases(file.name, file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error


def say_estimate(live: "LocalEngine", asked: CircuitRequest, store: Store | None) -> None:
    """Print on stderr how long the circuit will take, unless it is short."""
    from app.time_estimates import count_tokens_roughly, describe_estimate
    from backend.model.model_speed import measure_and_store_speed, measure_model_speed

    tokens = sum(count_tokens_roughly(case.prompt) for case in asked.cases)
    work = count_circuit_tokens(tokens, len(asked.dictionaries or live.dictionaries), asked.method)
    speed = (
        measure_and_store_speed(store.speeds, live.lm) if store else measure_model_speed(live.lm)
    )
    if said := describe_estimate(work, speed):
        console(stderr=True).print(Text(said, style="dim"))


def watched(live: "LocalEngine", asked: CircuitRequest, *, quiet: bool) -> Circuit:
    """Find the circuit; on a terminal show a progress bar."""
    from app.circuits.running import find

    out = console(stderr=True)
    columns = TextColumn("{task.description:<24}"), BarColumn(32), MofNCompleteColumn()
    hidden = quiet or not out.is_terminal
    with Progress(*columns, TimeElapsedColumn(), console=out, disable=hidden) as bar:
        task = bar.add_task("")

        def tell(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=note)

        return find(live, asked, tell)


def keep(
    store: Store, live: "LocalEngine", asked: CircuitRequest, found: Circuit, file: HarvestFile
) -> str:
    """Save the circuit in the store and return its id."""
    from app.circuits.keeping import keep

    return keep(store, file.record.id, live, asked, found)


def as_data(
    live: "LocalEngine", asked: CircuitRequest, found: Circuit, kept: str
) -> dict[str, Any]:
    """Return the circuit as plain data: estimates as numbers, with their intervals under
    `intervals`. Faithfulness is an object with its value, interval and null."""
    estimates = {name: getattr(found, name) for name in ("completeness", "clean", "empty")}
    return {
        **found.to_json(),
        **{name: one.value if one else None for name, one in estimates.items()},
        "intervals": {name: [one.low, one.high] for name, one in estimates.items() if one},
        **made_by(live, asked.to_json(), kept),
    }


def show(found: Circuit, kept: str) -> None:
    """Print the target, the faithfulness and the strongest nodes."""
    out = console()
    out.print(Text(f"{found.method}: {plain(found.target)}"))
    facts = [f"{count(len(found.nodes))} nodes, {count(len(found.edges))} edges"]
    if found.completeness:
        facts.append(f"completeness {estimate(found.completeness)}")
    out.print(Text(" · ".join(facts)))
    figures = (
        ("faithfulness", found.faithfulness),
        ("with patterns and norms frozen", found.held_faithfulness),
    )
    for name, figure in figures:
        if figure:
            style = "" if figure.better_than_random else "yellow"
            out.print(
                Text(
                    f"{name} {estimate(figure)} · {describe_faithfulness_null(figure)}", style=style
                )
            )
    stable = [edge.stability for edge in found.edges if edge.stability is not None]
    if stable:
        n = sum(one >= STABLE for one in stable)
        out.print(
            Text(
                f"{count(n)} of {count(len(stable))} edges are found in at least {STABLE:.0%} of "
                "resamples of the prompts"
            )
        )
    if found.effect_check:
        said = f"effects against exact ablation: {describe_effect_check(found.effect_check)}"
        out.print(Text(said))
    for name, share in found.error_share.items():
        out.print(Text(f"error share at {name}: {measure(share, 2)}"))
    out.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    exact = any(node.exact is not None for node in found.nodes[:SHOWN])
    columns = [("node", "left"), ("", "left"), ("effect", "right")]
    for name, side in [*columns, ("measured", "right")] if exact else columns:
        table.add_column(name, justify=side)  # type: ignore[arg-type]  # a literal
    for node in found.nodes[:SHOWN]:
        numbers = [node.effect, node.exact] if exact else [node.effect]
        cells = ["" if one is None else signed(one, 3) for one in numbers]
        table.add_row(Text(node.id), Text(plain(node.label)), *cells)
    out.print(table)
    if len(found.nodes) > SHOWN:
        out.print(
            Text(f"and {count(len(found.nodes) - SHOWN)} more; use --json to see all", style="dim")
        )
    for note in found.notes:
        out.print(Text(plain(note), style="yellow"))
    if kept:
        out.print(Text(f"kept as {kept}"))


def estimate(one: Estimate | Faithfulness) -> str:
    """Format an estimate with its confidence interval, such as `0.91 [0.86, 0.95]`."""
    if one.low is None:
        return measure(one.value, 2)
    return f"{measure(one.value, 2)} [{measure(one.low, 2)}, {measure(one.high, 2)}]"
