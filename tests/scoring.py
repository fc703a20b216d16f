"""A feature that fires on « cat», its windows made by hand, and judges that answer by rules."""

import asyncio
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from autointerp.contexts import FeatureSample
from autointerp.llm import CallBudget, CallLog, LlmServer, open_asker
from autointerp.scorers import SCORERS
from autointerp.scorers.scorer_interface import LLM_JUDGE, LabelScore, ScorerTools
from autointerp.text_windows import TextWindow
from feature_store.activation_histogram import bin_number
from feature_store.records import FeatureFacts, FeatureId
from tests import openai_server
from tests.asking import QUICK
from tests.openai_server import Body, Rule, Said, asked

CAT = " cat"
ITEM = re.compile(r"^\d+\. (.*)$", re.M)


def facts(**changes: Any) -> FeatureFacts:
    """A feature of maximum 10 whose windows peak evenly in 1 … 10; it fires in a tenth of them."""
    start = bin_number(1.0)
    histogram = [0] * (bin_number(10.0) - start + 1)
    for value in range(1, 11):
        histogram[bin_number(float(value)) - start] += 10
    known: dict[str, Any] = {field.name: None for field in fields(FeatureFacts)}
    known |= {
        "dictionary": "d",
        "feature": 3,
        "n_active": 1000,
        "density": 0.02,
        "window_density": 0.1,
        "max_act": 10.0,
        "mean_act": 5.0,
        "window_histogram_start": start,
        "window_histogram": histogram,
    }
    return FeatureFacts(**(known | changes))


def window(
    number: int,
    kind: str,
    value: float = 0.0,
    *,
    weight: float | None = None,
    word: str | None = None,
    at: int | None = None,
) -> TextWindow:
    """Six tokens with a number that tells it from others; one token is `word` (` cat` if it
    fires), which has the activation `value`."""
    at = 1 + number % 4 if at is None else at
    tokens = [f"Text {kind[0]}{number}", " the", " old", " grey", " big", " sat"]
    tokens[at] = word or (CAT if value else " dog")
    acts = [value if i == at else 0.0 for i in range(6)]
    return TextWindow(
        tuple(range(6)),
        tuple(tokens),
        tuple(acts),
        at if value else -1,
        number,
        "score",
        kind,
        weight,
        sequence=number,
        start=0,
    )


def windows(
    n: int = 20,
    *,
    n_random: int = 21,
    hard: Sequence[TextWindow] = (),
    top: int = 4,
    **changes: Any,
) -> FeatureSample:
    """`n` firing windows over ten deciles, some top ones, and silent ones in further documents."""
    ranged = [
        window(i, f"decile {1 + i % 10}", 1.0 + i % 10, weight=2.0 if i % 10 < 5 else 6.0)
        for i in range(n)
    ]
    tops = [window(100 + i, "top", 10.0) for i in range(top)]
    random = [window(200 + i, "random") for i in range(n_random)]
    rest = {
        "promoted": ("mat", "purr", "fur", "paw", "claw"),
        "suppressed": ("sea", "salt", "ship", "sail", "fish"),
    } | changes
    return FeatureSample(
        FeatureId("d", 3),
        facts(),
        explain=(),
        positives=(*ranged, *tops),
        random=tuple(random),
        hard=tuple(hard),
        **rest,
    )


def hard(n: int = 20) -> list[TextWindow]:
    """Silent windows that hold the word."""
    plain = [window(300 + i, "hard", word=CAT) for i in range(n)]
    return [replace(one, shared=one.tokens.index(CAT)) for one in plain]


def lines(body: Body) -> list[Any]:
    """The numbered pieces of a prompt, as JSON holds them; marks stand in the text."""
    return [json.loads(line) for line in ITEM.findall(asked(body))]


def holds_cat(body: Body) -> list[bool]:
    """What is right of plain pieces."""
    return [CAT in text for text in lines(body)]


def marked_cat(body: Body) -> list[bool]:
    """What is right of marked ones."""
    return [re.findall("«(.*?)»", text) == [CAT] for text in lines(body)]


def play(
    name: str,
    rule: Rule,
    sampled: FeatureSample,
    label: str = "cats",
    *,
    thinker: Callable[[openai_server.Server], None] = lambda server: None,
    **tools: Any,
) -> LabelScore:
    """A score by a language model that plays a rule."""

    async def run(base_url: str, folder: str) -> LabelScore:
        with CallLog(Path(folder) / "calls.duckdb") as calls:
            async with open_asker(
                LlmServer("test", base_url), "m", calls, CallBudget(), retry_policy=QUICK
            ) as ask:
                settings = {"judge": LLM_JUDGE, "ask": ask} | tools
                return await SCORERS[name].score(label, sampled, ScorerTools(**settings))

    with openai_server.serve(rule) as server, tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(server.base_url, folder))
        thinker(server)
    return found


def alone(name: str, sampled: FeatureSample, label: str = "cats", **tools: Any) -> LabelScore:
    """A score that asks no language model."""
    return asyncio.run(SCORERS[name].score(label, sampled, ScorerTools(**tools)))


def said(answers: Sequence[tuple[str, dict[str, float]]], text: str) -> Said:
    """A reply with log probabilities of its digits."""
    return Said(text, openai_server.logprobs(answers))
