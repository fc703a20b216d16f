"""Intervention: does turning the feature up make the model write what the label says?

The model continues prompts, left alone and steered by the feature at a KL of 1 nat at the next
token; the judge is shown both continuations and picks the one that shows more of the label. Each
pair is asked in both orders, so a judge that always says A has one half. Value: the share of
answers that pick the steered one; pairs that missed the KL are left out and counted as failed.
"""

import asyncio
import math
from collections.abc import Sequence

from autointerp.asking.records import Failed, Reply
from autointerp.contexts import Sampled
from autointerp.scorers.questions import Verdict, asker, form, key_of, request, share_of, sure
from autointerp.scorers.records import LLM, PATTERN, Judged, Scored, Scorer, Steered, Tools
from autointerp.scorers.sheets import quoted, sheet
from autointerp.statistics import Answers, Estimate, mean, rate
from feature_store.errors import InputError

NAME = "intervention"
PAIRS = 20
"""Prompts that are continued."""
AIM, WITHIN = 1.0, 0.1
"""Nats."""
MISSED = "KL missed"
EDGE = 1e-4
"""Probabilities are taken for no nearer to 0 or 1: less likely candidates are not listed."""
LETTERS = ("A", "B")


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """The share of answers that pick the steered text; `log odds` as a part."""
    if tools.judge != PATTERN:
        asker(tools, NAME)  # before the model works
    if tools.steers is None:
        raise InputError(f"The scorer {NAME!r} needs the model whose feature it is.")
    pairs = await tools.steers(windows.feature, PAIRS)
    asked = [(i, first) for i, pair in enumerate(pairs) if reached(pair) for first in (True, False)]
    shown = [(pairs[i], first) for i, first in asked]
    calls: tuple[str, ...] = ()
    if tools.judge == PATTERN:
        verdicts = [by_pattern(label, pair, steered_first=first) for pair, first in shown]
    else:
        verdicts, calls = await by_model(label, shown, tools)
    rows = [
        Judged(-1, -1, i, f"steered {LETTERS[not first]}", 1.0, v.answer, v.probability, v.failed)
        for (i, first), v in zip(asked, verdicts, strict=True)
    ]
    missed = [i for i, pair in enumerate(pairs) if not reached(pair)]
    rows += [Judged(-1, -1, i, "steered", 1.0, None, failed=MISSED) for i in missed]
    good = [row for row in rows if row.answer is not None]
    value = rate(Answers.of([row.answer == 1.0 for row in good], [row.document for row in good]))
    detail: dict[str, object] = {"pairs": [vars(pair) for pair in pairs]}
    if tools.judge != PATTERN:
        detail["prompt"] = sheet(NAME).version
    parts = {"log odds": log_odds(good)}
    failed = len(rows) - len(good)
    return Scored(NAME, "steered picked", value, parts, tuple(rows), failed, calls, detail)


def reached(pair: Steered) -> bool:
    """Whether the pair was made at the KL aimed at."""
    return abs(pair.kl - AIM) <= WITHIN


def by_pattern(label: str, pair: Steered, *, steered_first: bool) -> Verdict:
    """1 if the label's patterns stand more often in the steered text; where they stand as often
    in both it picks what stands first, so that a pair without a difference has one half."""
    from autointerp.scorers.patterned import shows

    more = shows(label, pair.steered) - shows(label, pair.clean)
    return Verdict(float(more > 0 or (more == 0 and steered_first)))


async def by_model(
    label: str, shown: Sequence[tuple[Steered, bool]], tools: Tools
) -> tuple[list[Verdict], tuple[str, ...]]:
    """What a language model picks of each pair, and the requests' keys."""
    ask = asker(tools, NAME)
    schema = form("answer", {"type": "string", "enum": list(LETTERS)})
    requests = [
        request(prompt(label, pair, steered_first=first), schema, NAME, tools)
        for pair, first in shown
    ]
    replies = await asyncio.gather(*map(ask.ask, requests))
    verdicts = [
        read(reply, LETTERS[not first]) for (_, first), reply in zip(shown, replies, strict=True)
    ]
    return verdicts, tuple(dict.fromkeys(key_of(ask, one) for one in requests))


def prompt(label: str, pair: Steered, *, steered_first: bool) -> str:
    """The two texts as A and B."""
    texts = (pair.steered, pair.clean) if steered_first else (pair.clean, pair.steered)
    lines = [f"Beginning: {quoted(pair.prompt)}"]
    lines += [f"{letter}: {quoted(text)}" for letter, text in zip(LETTERS, texts, strict=True)]
    return sheet(NAME).fill(label=quoted(label), items="\n".join(lines))


def read(reply: Reply | Failed, steered: str) -> Verdict:
    """1 if the reply picks the steered text, else 0."""
    if isinstance(reply, Failed):
        return Verdict(None, failed=reply.kind)
    said = reply.parsed["answer"]
    shares = sure(reply, LETTERS, [said])
    return Verdict(float(said == steered), share_of(shares, 0, steered))


def log_odds(rows: Sequence[Judged]) -> Estimate:
    """Mean log odds that the steered text shows the label, in nats; each pair counts once, and only
    with probabilities for both orders."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.probability is not None:
            p = min(max(row.probability, EDGE), 1 - EDGE)
            found.setdefault(row.document, []).append(math.log(p / (1 - p)))
    both = {pair: sum(odds) / 2 for pair, odds in found.items() if len(odds) == len(LETTERS)}
    if rows and not found:
        return Estimate.none(0, 0, "the judge gives no probabilities")
    return mean(list(both.values()), list(both))


SCORER = Scorer(
    "Intervention",
    "Steers by the feature at 1 nat, and asks which text shows the label: steered or not.",
    "steered picked",
    0.5,
    score,
    frozenset((PATTERN, LLM)),
    needs=frozenset(("model",)),
)
