"""`saefari check`: does this dictionary fit this model?"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from app.commands.harvest import look
from app.commands.terminal import console, print_json
from app.wording import count, measure
from feature_store.errors import InputError

TOKENS = 20_000
"""Enough for 50 documents' beginnings."""


def check(
    *,
    model: str,
    dictionaries: tuple[str, ...],
    corpora: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Print the self-check of each dictionary, in numbers and in words."""
    dictionaries = look(model, dictionaries, corpora, "text")

    from backend import dictionaries as loaders
    from backend.device import choose_placement, settle_threads
    from backend.lm import Lm

    placement = choose_placement(device, dtype)
    lm = Lm.load(model, placement, trust_remote_code=trust_remote_code)
    settle_threads(placement, lm.d_model)
    found = []
    for text in dictionaries:
        name, spec = loaders.parse_spec(text)
        one = loaders.load(spec, name=name, placement=placement, width=lm.width)
        found.append((one.name, measured(lm, one, corpora)))
    if as_json:
        print_json(dict(found))
    else:
        print_checks(found, lm.name)


def measured(lm: Any, dictionary: Any, corpora: tuple[str, ...]) -> dict[str, Any]:
    """The self-check as plain data, its words among them."""
    from backend import selfcheck
    from backend.corpus import chat_renderer, open_corpora, plan_sequences
    from backend.harvest.probe import first_of_documents

    render = chat_renderer(lm.tokenizer) if lm.tokenizer.chat_template else None
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_sequences(
            open_corpora(list(corpora), render=render), lm.tokenizer, Path(folder), tokens=TOKENS,
            context_size=min(128, lm.n_ctx), bos=selfcheck.bos_for(lm, [dictionary]),
            special_ids=lm.special_ids, d_vocab=lm.d_vocab,
        )  # fmt: skip
        result = selfcheck.check(lm, dictionary, first_of_documents(plan))
    return {**asdict(result), "words": selfcheck.words(result), "notes": list(dictionary.notes)}


def print_checks(found: list[tuple[str, dict[str, Any]]], model: str) -> None:
    """A table for each dictionary."""
    out = console()
    for name, numbers in found:
        if not numbers["n_tokens"]:
            raise InputError("The corpus has no token that counts.")
        out.print(f"{name} on {model}", style="bold", markup=False)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for label, value in rows(numbers):
            table.add_row(label, value)
        out.print(table)
        for note in numbers["notes"]:
            out.print(note, markup=False)
        for sentence in numbers["words"] or ["Nothing suspicious."]:
            style = "yellow" if numbers["words"] else "green"
            out.print(sentence, style=style, markup=False)
        out.print()


def rows(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of each line."""
    n = f"{count(numbers['n_tokens'])} tokens of {count(numbers['n_documents'])} documents"
    l0, published = measure(numbers["l0"]), numbers["published_l0"]
    return [
        ("measured on", n),
        ("explained variance", measure(numbers["explained_variance"])),
        ("L0", f"{l0} (published {measure(published)})" if published else l0),
        ("ΔCE", f"{measure(numbers['delta_ce'])} nats per token"),
        ("loss recovered", f"{measure(numbers['recovery_mean'])} against mean ablation, "
         f"{measure(numbers['recovery_zero'])} against zero"),
        ("silent so far", f"{100 * numbers['dead_share']:.1f} % of features; such a feature is "
         f"rarer than {measure(numbers['dead_bound'])} (95 %)"),
    ]  # fmt: skip
