"""Cost estimate of a job: how many calls and tokens it needs and what they cost, computed by a dry
run over a few of its features that asks no server.

Tokens are counted by rules of thumb, or better, as the same model's server has counted them in
earlier jobs of this store.
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
from autointerp.llm.requests_and_replies import ChatRequest, RequestFailure
from autointerp.llm.token_prices import TokenPrice
from autointerp.pipeline.feature_selection import FeatureSelection, features_with_enough_windows
from autointerp.pipeline.pausable_asker import CALL_PURPOSE
from autointerp.pipeline.time_estimate import QuestionLoad, ReplyPace
from feature_store.harvest_reader import HarvestFile
from feature_store.strict_json import parse_json

SAMPLED_FEATURES, MAX_FEATURES_TRIED = 12, 60
"""Number of features that the cost estimate works out, and how many it looks at for these at
most."""
TOKEN_PATTERN = re.compile(r"\s?[^\W\d_]+|\d|\s?[^\w\s]+|\s+|_")
LETTERS_PER_TOKEN = 6
"""Letters that one token holds; longer words count as several tokens."""
SENTENCE_TOKENS, DIGIT_TOKENS, JSON_TOKENS = 30, 3, 12
"""Estimated tokens of a sentence, of a number in a list, and of the JSON around them."""
NEWEST_JOBS = 8
"""Number of jobs whose call logs are read to learn token rates."""
REQUESTS_PER_KIND = 50
"""Number of recorded requests of each kind whose tokens are counted again by our rules."""
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
    """Estimated number of calls, tokens, US dollars and seconds of a whole job. Questions that
    depend on earlier answers are not included."""

    features: float
    """Number of features that have enough contexts, and, for scores, an explanation."""
    calls: float
    tokens_in: float
    tokens_out: float
    cost: float | None
    """US dollars; None where the price is not known."""
    sampled: int
    """Number of features that the dry run worked out."""
    learned: bool
    """Whether token counts are based on earlier calls of the model."""
    seconds: float | None = None
    """Duration of the job at the measured pace; None where no reply of this model on this server
    has been measured, and where nothing is asked."""
    measured: int = 0
    """Number of replies on which the estimate of the duration is based."""


@dataclass
class DryRunAsker:
    """Asker for a cost estimate: notes every request with its estimated tokens, and answers
    none."""

    model: str = ""
    logprobs: bool = False
    asked: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Request key → purpose, tokens of the prompt, tokens of the reply; equal requests are noted
    once."""

    async def ask(self, request: ChatRequest) -> RequestFailure:
        """Note the purpose and estimated tokens of a request for the cost estimate, and return a
        failure, since a dry run asks no server."""
        tokens = sum(estimate_tokens(message.content) + 4 for message in request.messages)
        out = min(request.max_tokens, estimate_reply_tokens(request.schema))
        kind = (CALL_PURPOSE.get() or request.purpose).split(" of ")[0]
        self.asked[request.key] = (kind, tokens, out)
        return RequestFailure("empty", "A dry run asks no server.")


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens that common vocabularies make of a text, by rules of thumb."""
    return sum(
        max(1, -(-len(piece.strip()) // LETTERS_PER_TOKEN)) for piece in TOKEN_PATTERN.findall(text)
    )


def estimate_reply_tokens(schema: Mapping[str, Any] | None) -> int:
    """Estimate the number of tokens of a reply that follows a JSON schema."""
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
    """Token counts of a model's server relative to the rules of thumb of the cost estimate."""

    prompt: Mapping[str, float] = field(default_factory=dict)
    """Kind of question → tokens counted by the server ÷ tokens estimated here; the empty key is for
    all kinds."""
    reply: Mapping[str, float] = field(default_factory=dict)
    """Kind of question → mean tokens of a reply."""


def learn_token_rates(files: Iterable[Path], model: str) -> TokenRates:
    """Return the token rates for cost estimates of a model, from the call logs of the newest jobs;
    files that are in use are skipped."""
    asked: dict[str, list[tuple[float, float]]] = {}
    replied: dict[str, list[tuple[float, float]]] = {}
    for path in list(files)[:NEWEST_JOBS]:
        try:
            with open_call_file(path, read_only=True) as db:
                db.execute(CALLS_SQL, [model])
                replies = db.execute(REPLIES_SQL).fetchall()
                requests = db.execute(REQUESTS_SQL, [REQUESTS_PER_KIND]).fetchall()
        except (duckdb.IOException, duckdb.ConnectionException, duckdb.CatalogException):
            continue  # in use by its job, or no call log
        for kind, n, tokens in replies:
            replied.setdefault(kind, []).append((tokens, n))
        for kind, request, tokens in requests:
            asked.setdefault(kind, []).append((tokens, estimate_tokens(request_text(request))))
    prompt = {kind: ratio_of_sums(pairs) for kind, pairs in asked.items()}
    if asked:
        prompt[""] = ratio_of_sums(pair for pairs in asked.values() for pair in pairs)
    return TokenRates(prompt, {kind: ratio_of_sums(pairs) for kind, pairs in replied.items()})


def request_text(request: str) -> str:
    """Return the texts of all messages of a request that a call log has as JSON, whose tokens the
    cost estimate counts by its rules of thumb."""
    return "\n".join(message["content"] for message in parse_json(request)["messages"])


def ratio_of_sums(pairs: Iterable[tuple[float, float]]) -> float:
    """Return the sum of the first numbers of all pairs divided by the sum of the second, such as
    tokens counted by a server ÷ tokens estimated for the cost estimate."""
    above, below = (sum(side) for side in zip(*pairs, strict=True))
    return above / max(below, 1e-9)


AskAboutFeature = Callable[[FeatureSample, DryRunAsker], Awaitable[object]]
"""Type of a function that asks everything a job would ask about one feature."""


def estimate_cost(
    file: HarvestFile,
    dictionary: str,
    selection: FeatureSelection,
    settings: SampleSettings,
    ask: AskAboutFeature,
    dry: DryRunAsker,
    rates: TokenRates,
    price: TokenPrice | None,
    among: Callable[[int], bool] | None = None,
    pace: ReplyPace | None = None,
    concurrency: int = 1,
) -> CostEstimate:
    """Estimate the calls, tokens, cost and duration of a job from a few of its features.

    The features are evenly spread over those that the job will process; `among` restricts them to
    features with anything to ask about. Takes about as long as sampling their windows.
    """
    taken = features_with_enough_windows(file, dictionary, selection)
    if among is not None:
        taken = taken[np.array([among(feature) for feature in taken.tolist()], bool)]
    per_feature, n_tried = dry_run_features(file, dictionary, taken, settings, ask, dry)
    n = len(per_feature)
    features = len(taken) * n / max(n_tried, 1)
    keys = [key for asked in per_feature for key in asked]
    times = {key: keys.count(key) for key in set(keys)}
    loads: dict[str, QuestionLoad] = {}
    for asked in per_feature:
        for key, (kind, size, out) in asked.items():
            # a request that several features share is asked once in the whole job
            share = 1.0 / times[key] if times[key] > 1 else features / n
            load = loads.setdefault(kind, QuestionLoad())
            load.calls += share
            load.tokens_in += share * size * rates.prompt.get(kind, rates.prompt.get("", 1.0))
            load.tokens_out += share * rates.reply.get(kind, out)
    calls, tokens_in, tokens_out = (
        sum(getattr(load, name) for load in loads.values())
        for name in ("calls", "tokens_in", "tokens_out")
    )
    cost = price.cost_of(1, 0) * tokens_in + price.cost_of(0, 1) * tokens_out if price else None
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
    settings: SampleSettings,
    ask: AskAboutFeature,
    dry: DryRunAsker,
) -> tuple[list[dict[str, tuple[str, int, int]]], int]:
    """Return the requests of a dry run for the cost estimate, for up to SAMPLED_FEATURES features,
    and how many features were looked at."""
    # evenly spaced over the order of features, which is often by density
    even = np.linspace(0, len(features) - 1, min(MAX_FEATURES_TRIED, len(features))).astype(int)
    shuffled = np.random.default_rng(settings.seed).permutation(features[np.unique(even)]).tolist()
    found, n_tried = [], 0
    for _, windows in sample_features(file, dictionary, shuffled, settings):
        n_tried += 1
        if isinstance(windows, FeatureSample):
            dry.asked = {}
            asyncio.run(ask(windows, dry))  # type: ignore[arg-type] - a coroutine
            found.append(dry.asked)
        if len(found) == SAMPLED_FEATURES:
            break
    return found, n_tried
