"""What a job would ask and cost: worked out on a few of its features, without asking anybody.

Tokens are counted by rules of thumb, or better, by what the same model's server counted in calls
that jobs of this store have made.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from autointerp.contexts import FeatureSample, SampleSettings, sample_features
from autointerp.llm.call_rows import open_call_file
from autointerp.llm.records import ChatRequest, RequestFailure
from autointerp.llm.token_prices import TokenPrice
from autointerp.pipeline.feature_selection import FeatureSelection, features_with_enough_windows
from autointerp.pipeline.pausable_asker import CALL_PURPOSE
from autointerp.pipeline.time_estimate import QuestionLoad, ReplyPace
from feature_store.harvest_reader import HarvestFile
from feature_store.strict_json import parse_json

SAMPLED_FEATURES, MAX_FEATURES_TRIED = 12, 60
"""Features that are worked out, and how many are looked at for these at most."""
TOKEN_PATTERN = re.compile(r"\s?[^\W\d_]+|\d|\s?[^\w\s]+|\s+|_")
LETTERS_PER_TOKEN = 6
"""Letters of a token: longer words are several."""
SENTENCE_TOKENS, DIGIT_TOKENS, JSON_TOKENS = 30, 3, 12
"""Tokens of a sentence, of a number in a list, and of the JSON around them."""
NEWEST_JOBS = 8
"""Jobs whose calls are looked at."""
REQUESTS_PER_KIND = 50
"""Requests of a kind that are counted anew."""
CALLS_SQL = """
    CREATE TEMP TABLE call AS
    SELECT attempt, split_part(purpose, ' of ', 1) AS about, tokens_in, tokens_out
    FROM attempt JOIN outcome USING (attempt)
    WHERE model = ? AND tokens_in IS NOT NULL AND request IS NOT NULL
"""
REPLIES_SQL = (
    "SELECT about, count(*), count(*) * coalesce(avg(tokens_out), 0) FROM call GROUP BY about"
)
REQUESTS_SQL = """
    SELECT about, request, tokens_in FROM attempt JOIN (
        FROM call QUALIFY row_number() OVER (PARTITION BY about ORDER BY attempt) <= ?
    ) USING (attempt) ORDER BY attempt
"""


@dataclass(frozen=True)
class CostEstimate:
    """Of a whole job. Answers that decide what is asked next are not foreseen."""

    features: float
    """That have enough contexts, and for scores an explanation."""
    calls: float
    tokens_in: float
    tokens_out: float
    cost: float | None
    """US dollars; None where the price is not known."""
    sampled: int
    """Features that were worked out."""
    learned: bool
    """Whether earlier calls of the model say what tokens it counts."""
    seconds: float | None = None
    """How long it takes at the measured pace; None where no reply of this model on this server has
    been measured, and where nothing is asked."""
    measured: int = 0
    """Replies from which the time is known."""


@dataclass
class DryRunAsker:
    """An asker that only looks."""

    model: str = ""
    logprobs: bool = False
    asked: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Key → what for, tokens of the prompt, tokens of the reply; equal requests once."""

    async def ask(self, request: ChatRequest) -> RequestFailure:
        """Note the request."""
        tokens = sum(estimate_tokens(message.content) + 4 for message in request.messages)
        out = min(request.max_tokens, estimate_reply_tokens(request.schema))
        kind = (CALL_PURPOSE.get() or request.purpose).split(" of ")[0]
        self.asked[request.key] = (kind, tokens, out)
        return RequestFailure("empty", "A dry run asks nobody.")


def estimate_tokens(text: str) -> int:
    """About as many tokens as the usual vocabularies make of a text."""
    return sum(
        max(1, -(-len(piece.strip()) // LETTERS_PER_TOKEN)) for piece in TOKEN_PATTERN.findall(text)
    )


def estimate_reply_tokens(schema: Mapping[str, Any] | None) -> int:
    """About how long a reply of this form is."""
    if schema is None:
        return SENTENCE_TOKENS
    if schema.get("type") == "object":
        return JSON_TOKENS + sum(
            estimate_reply_tokens(part) for part in schema["properties"].values()
        )
    if schema.get("type") == "array":
        return int(schema.get("minItems", 1)) * estimate_reply_tokens(schema.get("items"))
    return SENTENCE_TOKENS if schema.get("type") == "string" else DIGIT_TOKENS


@dataclass(frozen=True)
class TokenRates:
    """What a model's server counted, against our rules of thumb."""

    prompt: Mapping[str, float] = field(default_factory=dict)
    """Kind of question → its tokens ÷ ours; `` for all."""
    reply: Mapping[str, float] = field(default_factory=dict)
    """Kind of question → tokens of a reply."""


def learn_token_rates(files: Iterable[Path], model: str) -> TokenRates:
    """From the newest jobs' files of calls; those that are in use are left out."""
    asked: dict[str, list[tuple[float, float]]] = {}
    said: dict[str, list[tuple[float, float]]] = {}
    for path in list(files)[:NEWEST_JOBS]:
        try:
            with open_call_file(path, read_only=True) as db:
                db.execute(CALLS_SQL, [model])
                replies = db.execute(REPLIES_SQL).fetchall()
                requests = db.execute(REQUESTS_SQL, [REQUESTS_PER_KIND]).fetchall()
        except (duckdb.IOException, duckdb.ConnectionException, duckdb.CatalogException):
            continue  # a job is at it, or it is no file of calls
        for kind, n, tokens in replies:
            said.setdefault(kind, []).append((tokens, n))
        for kind, request, tokens in requests:
            asked.setdefault(kind, []).append((tokens, estimate_tokens(request_text(request))))
    prompt = {kind: ratio_of_sums(pairs) for kind, pairs in asked.items()}
    if asked:
        prompt[""] = ratio_of_sums(pair for pairs in asked.values() for pair in pairs)
    return TokenRates(prompt, {kind: ratio_of_sums(pairs) for kind, pairs in said.items()})


def request_text(request: str) -> str:
    """The texts of a recorded request."""
    return "\n".join(message["content"] for message in parse_json(request)["messages"])


def ratio_of_sums(pairs: Iterable[tuple[float, float]]) -> float:
    """Sum over sum."""
    above, below = (sum(side) for side in zip(*pairs, strict=True))
    return above / max(below, 1e-9)


AskAboutFeature = Callable[[FeatureSample, DryRunAsker], Awaitable[object]]
"""Everything that a job would ask about one feature."""


def estimate_cost(
    file: HarvestFile,
    dictionary: str,
    choice: FeatureSelection,
    wanted: SampleSettings,
    ask: AskAboutFeature,
    dry: DryRunAsker,
    rates: TokenRates,
    price: TokenPrice | None,
    among: Callable[[int], bool] | None = None,
    pace: ReplyPace | None = None,
    concurrency: int = 1,
) -> CostEstimate:
    """On a few features evenly spread over those that the job will take, and of these over those
    `among` which there is anything to ask; takes about as long as to sample them."""
    taken = features_with_enough_windows(file, dictionary, choice)
    if among is not None:
        taken = taken[np.array([among(feature) for feature in taken.tolist()], bool)]
    per_feature, n_looked = dry_run_features(file, dictionary, taken, wanted, ask, dry)
    n = len(per_feature)
    features = len(taken) * n / max(n_looked, 1)
    keys = [key for asked in per_feature for key in asked]
    times = {key: keys.count(key) for key in set(keys)}
    loads: dict[str, QuestionLoad] = {}
    for asked in per_feature:
        for key, (kind, size, out) in asked.items():
            share = 1.0 / times[key] if times[key] > 1 else features / n
            load = loads.setdefault(kind, QuestionLoad())
            load.calls += share
            load.tokens_in += share * size * rates.prompt.get(kind, rates.prompt.get("", 1.0))
            load.tokens_out += share * rates.reply.get(kind, out)
    calls, tokens_in, tokens_out = (
        sum(getattr(load, name) for load in loads.values())
        for name in ("calls", "tokens_in", "tokens_out")
    )
    cost = price.of(1, 0) * tokens_in + price.of(0, 1) * tokens_out if price else None
    if price is None and not calls:
        cost = 0.0
    pace = pace or ReplyPace()
    return CostEstimate(
        features,
        calls,
        tokens_in,
        tokens_out,
        cost,
        n,
        bool(rates.prompt),
        pace.seconds(loads, concurrency) if calls else None,
        len(pace.replies),
    )


def dry_run_features(
    file: HarvestFile,
    dictionary: str,
    features: np.ndarray,
    wanted: SampleSettings,
    ask: AskAboutFeature,
    dry: DryRunAsker,
) -> tuple[list[dict[str, tuple[str, int, int]]], int]:
    """What SAMPLE of the features are asked, as `Dry.asked` has it, and how many were looked at."""
    even = np.linspace(0, len(features) - 1, min(MAX_FEATURES_TRIED, len(features))).astype(int)
    rolled = np.random.default_rng(wanted.seed).permutation(features[np.unique(even)]).tolist()
    found, n_looked = [], 0
    for _, windows in sample_features(file, dictionary, rolled, wanted):
        n_looked += 1
        if isinstance(windows, FeatureSample):
            dry.asked = {}
            asyncio.run(ask(windows, dry))  # type: ignore[arg-type] - a coroutine
            found.append(dry.asked)
        if len(found) == SAMPLED_FEATURES:
            break
    return found, n_looked
