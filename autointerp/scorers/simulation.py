"""Simulation: can the activation of every token be foretold from the label?

The judge says for each token of a window how strongly the feature fires, from 0 to 10 (Bills et al.
2023). Value: Pearson's correlation with the true |activations| over all tokens of all windows,
concatenated, firing and random silent ones. Where the judge gives log probabilities of its numbers
their expected value counts, else the numbers: one of the two in a whole run (simulation_scale.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.asking.records import Failed, Reply, Request
from autointerp.contexts import Sampled
from autointerp.scorers import classes
from autointerp.scorers.questions import asker, dice, form, key_of, request
from autointerp.scorers.records import LLM, PATTERN, Judged, Scored, Scorer, Tools
from autointerp.scorers.sheets import listed, quoted, sheet
from autointerp.scorers.simulation_scale import (
    LARGEST,
    NUMBERS,
    Scale,
    SimulationScale,
    number_shares,
)
from autointerp.statistics import Estimate, correlation, explained
from autointerp.windows import Example

NAME = "simulation"
ASKED = 20
"""Windows of each kind of which a language model is asked: each is a call of its own."""
OPEN = "no probabilities"
"""What fails in a window whose numbers have no expected values, in a run that reads those."""
PER_TOKEN = 6
"""Tokens of the reply for each number, in any layout."""


@dataclass(frozen=True)
class Said:
    """What a judge said of one window's tokens: shares of the maximum, or chances to fire."""

    values: np.ndarray | None
    """[tokens] from 0 to 1; None where it failed."""
    failed: str = ""


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """The correlation with random silent windows; `hard`, `firing`, `explained variance` as parts.

    For explained variance a model's 10 is the feature's maximum over the harvest, and a pattern's
    probability to fire is multiplied by the mean over active tokens.
    """
    chosen = items(windows, tools)
    calls: tuple[str, ...] = ()
    detail: dict[str, object] = {}
    if tools.judge == PATTERN:
        said = by_pattern(label, chosen)
    else:
        said, calls, scale_used = await asked(label, chosen, tools)
        detail["prompt"] = sheet(NAME).version
        detail["scale"] = scale_used
    facts = windows.facts
    scale = (facts.mean_act if tools.judge == PATTERN else facts.max_act) or 0.0
    rows = [row(e, one, scale) for e, one in zip(chosen, said, strict=True)]
    detail["tokens"] = [
        None if one.values is None else np.round(one.values * LARGEST, 2).tolist() for one in said
    ]
    parts = figures(chosen, said, scale)
    value = parts.pop("correlation")
    failed = sum(one.values is None for one in said)
    return Scored(NAME, "correlation", value, parts, tuple(rows), failed, calls, detail)


def items(windows: Sampled, tools: Tools) -> list[Example]:
    """The windows to foretell: firing ones from the sample over the range, then silent ones."""
    ranged = [e for e in windows.positives if e.kind != classes.TOP] or list(windows.positives)
    kinds: list[Sequence[Example]] = [ranged, windows.random, windows.hard, windows.other]
    if tools.judge == PATTERN:
        return [e for kind in kinds for e in kind]
    rolled = dice(tools, windows.feature.index)
    chosen = []
    for kind in kinds:
        some = sorted(rolled.permutation(len(kind))[:ASKED].tolist())
        chosen += [kind[i] for i in some]
    return chosen


def by_pattern(label: str, chosen: list[Example]) -> list[Said]:
    """What the patterns in the label say of each token."""
    from autointerp.patterns.judge import where

    return [Said(np.asarray(where(label, example.tokens), float)) for example in chosen]


async def asked(
    label: str, chosen: list[Example], tools: Tools
) -> tuple[list[Said], tuple[str, ...], Scale | None]:
    """What a language model says of each window, one call each, equal windows once; the requests'
    keys; and the scale of the run, None where none of its questions was answered yet."""
    ask, requests = asker(tools, NAME), []
    for example in chosen:
        n = len(example.tokens)
        prompt = sheet(NAME).fill(label=quoted(label), n=n, items=listed(example.tokens))
        number = {"type": "integer", "minimum": 0, "maximum": LARGEST}
        schema = form(
            "activations", {"type": "array", "items": number, "minItems": n, "maxItems": n}
        )
        most = 32 + PER_TOKEN * n
        requests.append(request(prompt, schema, NAME, tools, max_tokens=most))
    scale = tools.scale or SimulationScale()
    had = await scale.decide(ask, requests)

    async def answer(one: Request) -> Reply | Failed:
        return had[one.key] if one.key in had else await ask.ask(one)

    replies = await asyncio.gather(*map(answer, requests))
    calls = tuple(dict.fromkeys(key_of(ask, one) for one in requests))
    return [read(reply, scale.decided or NUMBERS) for reply in replies], calls, scale.decided


def read(reply: Reply | Failed, scale: Scale) -> Said:
    """Each token's number on the scale of the run, as a share of 10; a failure where a reply does
    not allow that scale."""
    if isinstance(reply, Failed):
        return Said(None, failed=reply.kind)
    said = reply.parsed["activations"]
    if scale == NUMBERS:
        return Said(np.array(said, float) / LARGEST)
    shares = number_shares(reply, said)
    known = [each for each in shares or () if each is not None]
    if shares is None or len(known) < len(shares):
        return Said(None, failed=OPEN)
    values = [sum(int(k) * p for k, p in each.items()) for each in known]
    return Said(np.array(values) / LARGEST)


def row(example: Example, said: Said, scale: float) -> Judged:
    """A window by its largest |activation|, true and foretold."""
    silent = example.kind == classes.OTHER
    return Judged(
        example.sequence,
        example.start,
        example.document,
        example.kind,
        0.0 if silent else max(map(abs, example.activations)),
        None if said.values is None else float(said.values.max()) * scale,
        failed=said.failed,
        weight=example.weight,
    )


def figures(chosen: list[Example], said: list[Said], scale: float) -> dict[str, Estimate]:
    """All estimates, by name. Each takes the firing windows and one kind of silent ones."""
    usable = [(e, one.values) for e, one in zip(chosen, said, strict=True) if not one.failed]
    firing = [pair for pair in usable if any(pair[0].activations) and pair[0].kind != classes.OTHER]
    parts: dict[str, Estimate] = {}
    names = {classes.RANDOM: "correlation", classes.HARD: "hard", classes.OTHER: classes.OTHER}
    kinds = {e.kind for e in chosen}
    for kind, name in names.items():
        if kind == classes.RANDOM or kind in kinds:
            silent = [pair for pair in usable if pair[0].kind == kind]
            parts[name] = correlation(*columns(firing, silent))
    parts["firing"] = correlation(*columns(firing, []))
    silent = [pair for pair in usable if pair[0].kind == classes.RANDOM]
    x, y, documents, strata = columns(firing, silent)
    parts["explained variance"] = explained(x * scale, y, documents, strata)
    return parts


Pairs = Sequence[tuple[Example, np.ndarray | None]]


def columns(firing: Pairs, silent: Pairs) -> tuple[np.ndarray, ...]:
    """Of all tokens, concatenated: foretold, true |a|, document, and 1 in firing windows.

    Where just the other side of a signed feature fires, this side's activation is 0.
    """
    said: list[np.ndarray] = [np.empty(0)]
    true, documents, strata = [np.empty(0)], [np.empty(0, int)], [np.empty(0, int)]
    for number, pairs in ((1, firing), (0, silent)):
        for example, values in pairs:
            n = len(example.tokens)
            said.append(np.asarray(values, float))
            true.append(np.abs(example.activations) * number)
            documents.append(np.full(n, example.document))
            strata.append(np.full(n, number))
    return tuple(map(np.concatenate, (said, true, documents, strata)))


SCORER = Scorer(
    "Simulation",
    "The judge foretells every token's activation; the value is its correlation with the true one.",
    "correlation",
    0.0,
    score,
    frozenset((PATTERN, LLM)),
    bounds=(-1.0, 1.0),
)
