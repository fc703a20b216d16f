"""Requests to the judge: how scorers ask a language model about items in batches, and how its
replies are read, with failures kept apart from answers."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autointerp.llm.answer_probabilities import OptionShares, read_answer_shares
from autointerp.llm.requests_and_replies import (
    Asker,
    ChatMessage,
    ChatRequest,
    Reply,
    RequestFailure,
    is_too_long,
)
from autointerp.llm.shorter_retry import retry_shorter_if_too_long
from autointerp.scorers.prompt_templates import load_score_prompt, number_lines, quote_as_json
from autointerp.scorers.scorer_interface import ScorerTools
from feature_store.errors import InputError

ITEMS_PER_PROMPT = 5
"""Number of items that one judge request asks about."""
LOGPROB_CANDIDATES = 20
"""Number of candidates per token whose log probabilities are requested: what OpenAI and vLLM
give."""
SHORT_REPLY_TOKENS = 128
"""Number of tokens that suffice for a judge's reply of a few digits in any layout."""


@dataclass(frozen=True)
class JudgeAnswer:
    """The judge's answer on one item that a scorer asks about, such as a window, or the kind of
    failure."""

    answer: float | None
    probability: float | None = None
    """Probability of the answer that is listed first among the options; None where none is
    available."""
    failed: str = ""


def require_asker(tools: ScorerTools, scorer: str) -> Asker:
    """Return the asker of the judge's language model. Raises InputError where the scorer has
    none."""
    if tools.ask is None:
        raise InputError(f"The scorer {scorer!r} asks a language model: name one by --model.")
    return tools.ask


def make_generator(tools: ScorerTools, feature: int) -> np.random.Generator:
    """Return the random generator that orders the items of judge requests: the same for every label
    of a feature, so that labels differ in nothing else."""
    return np.random.default_rng([tools.seed, feature])


def request_key(ask: Asker, request: ChatRequest) -> str:
    """Return the key of a judge request in the call log, addressed to the server and model that
    answer it."""
    base_url = getattr(getattr(ask, "server", None), "base_url", "")
    return request.to(base_url, ask.model).key


def make_judge_request(
    prompt: str,
    schema: Mapping[str, Any],
    purpose: str,
    tools: ScorerTools,
    *,
    max_tokens: int = SHORT_REPLY_TOKENS,
    logprobs: int = LOGPROB_CANDIDATES,
    temperature: float = 0.0,
    draw: int = 0,
) -> ChatRequest:
    """Return a scorer's request to the judge, with the prompt, the JSON schema of the reply, the
    purpose for the call log and the number of candidates with log probabilities."""
    return ChatRequest(
        (ChatMessage("user", prompt),),
        schema=schema,
        purpose=purpose,
        logprobs=logprobs,
        max_tokens=max_tokens + tools.thinking,
        temperature=temperature,
        draw=draw,
    )


def object_schema(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a judge's reply with one field."""
    return {
        "type": "object",
        "properties": {name: value},
        "required": [name],
        "additionalProperties": False,
    }


def digits_schema(n: int, options: Sequence[int]) -> dict[str, Any]:
    """Return the JSON schema of a judge's reply with `n` answers, each one of `options`."""
    items = {"type": "integer", "enum": list(options)}
    return object_schema("answers", {"type": "array", "items": items, "minItems": n, "maxItems": n})


def deal_into_batches(
    names: Sequence[Hashable], size: int, generator: np.random.Generator
) -> list[list[int]]:
    """Return the item numbers 0 … n − 1 in random order, in batches of `size` for judge requests;
    the last may be shorter.

    Two items of one name (a window marked in two ways) are never in the same batch, which may
    shorten a few batches.
    """
    batches: list[list[int]] = []
    for item in generator.permutation(len(names)).tolist():
        for batch in batches:
            if len(batch) < size and names[item] not in [names[other] for other in batch]:
                batch.append(item)
                break
        else:
            batches.append([item])
    return batches


async def judge_in_batches(
    prompt: str,
    label: str,
    lines: Sequence[str],
    names: Sequence[Hashable],
    tools: ScorerTools,
    generator: np.random.Generator,
    options: tuple[int, int] = (1, 0),
) -> tuple[list[JudgeAnswer], tuple[str, ...]]:
    """Ask the judge about all items in batches; return the answer on each item, in the order given,
    and the keys of the requests.

    `options` are the two possible digits; an answer's probability is that of the first. A reply
    with too few or too many answers fails for all items of its batch. A batch that does not fit
    into the server's context is asked in halves.
    """
    ask = require_asker(tools, prompt)

    async def one_batch(batch: list[int]) -> list[tuple[list[int], Reply | RequestFailure, str]]:
        """Ask the judge about one batch, in halves where it does not fit into the server's
        context."""
        text = load_score_prompt(prompt).fill(
            label=quote_as_json(label), n=len(batch), items=number_lines([lines[i] for i in batch])
        )
        judge_request = make_judge_request(text, digits_schema(len(batch), options), prompt, tools)
        reply = None
        if len(batch) == 1:
            reply = await ask.ask(judge_request)
        elif not is_too_long(ask, judge_request):
            with retry_shorter_if_too_long():
                reply = await ask.ask(judge_request)
        # one item that does not fit is a failure; several are asked in halves
        if len(batch) > 1 and (reply is None or failed_by_context_size(reply)):
            half = len(batch) // 2
            return [*await one_batch(batch[:half]), *await one_batch(batch[half:])]
        assert reply is not None
        return [
            (
                batch,
                reply,
                (isinstance(reply, Reply) and reply.key) or request_key(ask, judge_request),
            )
        ]

    replies_by_batch = await asyncio.gather(
        *map(one_batch, deal_into_batches(names, ITEMS_PER_PROMPT, generator))
    )
    found: dict[int, JudgeAnswer] = {}
    for batch, reply, _ in (part for parts in replies_by_batch for part in parts):
        found |= zip(batch, read_judge_answers(reply, len(batch), options), strict=True)
    keys = tuple(key for parts in replies_by_batch for _, _, key in parts)
    return [found[i] for i in range(len(lines))], keys


def failed_by_context_size(reply: Reply | RequestFailure) -> bool:
    """Return whether a judge request did not fit into the server's context."""
    return isinstance(reply, RequestFailure) and reply.kind == "context size"


def read_judge_answers(
    reply: Reply | RequestFailure, n: int, options: tuple[int, int]
) -> list[JudgeAnswer]:
    """Return the `n` answers of the judge's reply, which its JSON schema guarantees to be `n`
    digits."""
    if isinstance(reply, RequestFailure):
        return [JudgeAnswer(None, failed=reply.kind)] * n
    first, digits = str(options[0]), reply.parsed["answers"]
    shares = read_option_shares(reply, [str(option) for option in options], digits)
    return [
        JudgeAnswer(float(answer), option_share(shares, i, first))
        for i, answer in enumerate(digits)
    ]


def option_share(
    shares: Sequence[OptionShares | None] | None, number: int, option: str
) -> float | None:
    """Return the probability of an option in one of the judge's answers, or None where it is not
    available."""
    here = shares[number] if shares else None
    return here[option] if here else None


def read_option_shares(
    reply: Reply, options: Sequence[str], answers: Sequence[object]
) -> list[OptionShares | None] | None:
    """Return the probability of every option for each answer of the judge's reply; None for an
    answer whose probabilities the server's candidates leave open.

    The result is None where the server gives no log probabilities, and where the option tokens are
    not the answers one by one: several in one token, or others in text around the answers.
    """
    shares = read_answer_shares(reply, options)
    words = [token.token.strip() for token in reply.logprobs or ()]
    found = [word for word in words if word in options]
    return shares if found == [str(answer) for answer in answers] else None
