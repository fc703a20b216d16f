"""`saefari check`: check whether a dictionary fits a model by its reconstruction of a corpus."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from app.commands.harvest import look
from app.commands.progress import report
from app.commands.terminal import console, print_json
from app.wording import count, measure, plural
from feature_store.errors import InputError

TOKENS = 20_000
"""Tokens to read: enough for the beginnings of 50 documents."""


def check(
    *,
    model: str,
    dictionaries: tuple[str, ...],
    corpora: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
    text_column: str,
    as_json: bool,
) -> None:
    """Print the self-check of each dictionary; see `saefari check --help`."""
    dictionaries = look(model, dictionaries, corpora, text_column)

    from backend import dictionaries as loaders
    from backend.model.device import choose_placement, limit_cpu_threads
    from backend.model.language_model import LanguageModel

    placement = choose_placement(device, dtype)
    lm = LanguageModel.load(model, placement, trust_remote_code=trust_remote_code)
    limit_cpu_threads(placement, lm.d_model)
    loaded = []
    for text in dictionaries:
        name, spec = loaders.parse_spec(text)
        loaded.append(loaders.load(spec, name=name, placement=placement, width=lm.width))
    found: dict[str, dict[str, Any]] = {}
    report(measure_all(lm, loaded, corpora, text_column, found))
    in_order = [(one.name, found[one.name]) for one in loaded]
    if as_json:
        print_json(dict(in_order))
    else:
        print_checks(in_order, lm.name)


def measure_all(
    lm: Any,
    dictionaries: Sequence[Any],
    corpora: tuple[str, ...],
    text_column: str,
    found: dict[str, dict[str, Any]],
) -> Iterator[Any]:
    """Fill `found` with each dictionary's self-check as plain data and yield progress. Dictionaries
    that expect BOS are measured apart from those that don't."""
    from backend.corpus import chat_renderer, open_corpora, plan_sequences, token_decoder
    from backend.evaluation import reconstruction_check
    from backend.evaluation.reconstruction_measurement import check_reconstructions
    from backend.harvest.dictionary_measurements import select_check_pieces
    from backend.harvest.shard_run import HarvestProgress

    render = chat_renderer(lm.tokenizer) if lm.tokenizer.chat_template else None
    for with_bos in (True, False):
        group = [one for one in dictionaries if reconstruction_check.expects_bos(one) is with_bos]
        if not group:
            continue
        yield HarvestProgress("read corpus", 0, 1, "")
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_sequences(
                open_corpora(
                    list(corpora),
                    text_column=text_column,
                    render=render,
                    decode=token_decoder(lm.tokenizer),
                ),
                lm.tokenizer,
                Path(folder),
                tokens=TOKENS,
                context_size=min(128, lm.n_ctx),
                bos=reconstruction_check.choose_bos_token(lm, group),
                special_ids=lm.special_ids,
                d_vocab=lm.d_vocab,
            )
            pieces = select_check_pieces(plan)
        steps = check_reconstructions(lm, group, pieces)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                for one in group:
                    result = end.value[one.name]
                    words = {
                        "words": reconstruction_check.describe_check_problems(result),
                        "notes": list(one.notes),
                    }
                    found[one.name] = result.plain() | words
                break
            yield HarvestProgress("self-check", step.done, step.total, "passes")


def print_checks(found: list[tuple[str, dict[str, Any]]], model: str) -> None:
    """Print a table of numbers and warnings for each dictionary."""
    out = console()
    for name, numbers in found:
        if not numbers["n_tokens"]:
            raise InputError(
                "The corpus has no token other than special tokens. Give another --corpus."
            )
        out.print(f"{name} on {model}", style="bold", markup=False)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for label, value in rows(numbers):
            table.add_row(label, value)
        out.print(table)
        for note in numbers["notes"]:
            out.print(note, markup=False)
        for sentence in numbers["words"] or ["No problem found."]:
            style = "yellow" if numbers["words"] else "green"
            out.print(sentence, style=style, markup=False)
        out.print()


def rows(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of a self-check as (label, value)."""
    pieces = plural(numbers["n_pieces"], "piece")
    n = f"{plural(numbers['n_tokens'], 'token')} in {pieces} of "
    n += plural(numbers["n_documents"], "document")
    l0, published = measure(numbers["l0"]), numbers["published_l0"]
    delta, margin = measure(numbers["delta_ce"]), numbers["delta_ce_margin"]
    if margin is not None:
        delta += f" ± {measure(margin, 2)}"
    return [
        ("measured on", n),
        (
            "loss of the model",
            f"{measure(numbers['ce_clean'])} nats per token; from the tokens' frequencies alone "
            f"{measure(numbers['ce_unigram'])}",
        ),
        ("explained variance", measure(numbers["explained_variance"])),
        ("L0", f"{l0} (published {measure(published)})" if published else l0),
        ("ΔCE", f"{delta} nats per token (95 %, {count(numbers['delta_ce_pieces'])} pieces)"),
        (
            "loss recovered",
            f"{measure(numbers['recovery_mean'])} against mean ablation, "
            f"{measure(numbers['recovery_zero'])} against zero",
        ),
        (
            "silent so far",
            f"{100 * numbers['dead_share']:.1f} % of features; such a feature is "
            f"rarer than {measure(numbers['dead_bound'])} (95 %)",
        ),
    ]
