"""How scorers ask a language model: in batches, read strictly, failures kept apart from answers."""

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
from autointerp.scorers.records import ScorerTools
from feature_store.errors import InputError

ITEMS_PER_PROMPT = 5
"""Items in one prompt."""
LOGPROB_CANDIDATES = 20
"""For how many candidates per token log probabilities are asked: what OpenAI and vLLM give."""
SHORT_REPLY_TOKENS = 128
"""Tokens that suffice for a reply of a few digits in any layout."""


@dataclass(frozen=True)
class JudgeAnswer:
    """What a judge said of one item, or why it said nothing usable."""

    answer: float | None
    probability: float | None = None
    """Of the answer that stands first among the options it had; None where none is offered."""
    failed: str = ""


def require_asker(tools: ScorerTools, scorer: str) -> Asker:
    """Who answers. InputError without a language model."""
    if tools.ask is None:
        raise InputError(f"The scorer {scorer!r} asks a language model: name one by --model.")
    return tools.ask


def make_generator(tools: ScorerTools, feature: int) -> np.random.Generator:
    """What puts items in order: the same for every label of a feature, so that labels differ
    in nothing else."""
    return np.random.default_rng([tools.seed, feature])


def request_key(ask: Asker, request: ChatRequest) -> str:
    """The request's key in the call log: addressed to whoever answers."""
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
    """One question of a scorer's."""
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
    """A JSON schema of an object with one field."""
    return {
        "type": "object",
        "properties": {name: value},
        "required": [name],
        "additionalProperties": False,
    }


def digits_schema(n: int, options: Sequence[int]) -> dict[str, Any]:
    """A JSON schema of `n` answers, each one of `options`."""
    items = {"type": "integer", "enum": list(options)}
    return object_schema("answers", {"type": "array", "items": items, "minItems": n, "maxItems": n})


def deal_into_batches(
    names: Sequence[Hashable], size: int, dice: np.random.Generator
) -> list[list[int]]:
    """The numbers 0 … n − 1 in random order, in batches of `size`; the last may be shorter.

    Two items of one name (a window marked in two ways) do not meet in a batch, which may make a
    few batches shorter.
    """
    batches: list[list[int]] = []
    for item in dice.permutation(len(names)).tolist():
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
    dice: np.random.Generator,
    options: tuple[int, int] = (1, 0),
) -> tuple[list[JudgeAnswer], tuple[str, ...]]:
    """A verdict for each line of prompt pieces, in the order given, and the requests' keys.

    `options` are the two digits that may answer; a verdict's probability is that of the first.
    A reply with too few or too many answers fails for every item of its batch. A batch that does
    not fit into the server's context is asked in halves.
    """
    ask = require_asker(tools, prompt)

    async def one_batch(batch: list[int]) -> list[tuple[list[int], Reply | RequestFailure, str]]:
        text = load_score_prompt(prompt).fill(
            label=quote_as_json(label), n=len(batch), items=number_lines([lines[i] for i in batch])
        )
        asked = make_judge_request(text, digits_schema(len(batch), options), prompt, tools)
        reply = None
        if len(batch) == 1:
            reply = await ask.ask(asked)
        elif not is_too_long(ask, asked):
            with retry_shorter_if_too_long():
                reply = await ask.ask(asked)
        if len(batch) > 1 and (reply is None or failed_by_context_size(reply)):
            half = len(batch) // 2
            return [*await one_batch(batch[:half]), *await one_batch(batch[half:])]
        assert reply is not None
        return [(batch, reply, (isinstance(reply, Reply) and reply.key) or request_key(ask, asked))]

    asked = await asyncio.gather(*map(one_batch, deal_into_batches(names, ITEMS_PER_PROMPT, dice)))
    found: dict[int, JudgeAnswer] = {}
    for batch, reply, _ in (part for parts in asked for part in parts):
        found |= zip(batch, read_judge_answers(reply, len(batch), options), strict=True)
    keys = tuple(key for parts in asked for _, _, key in parts)
    return [found[i] for i in range(len(lines))], keys


def failed_by_context_size(reply: Reply | RequestFailure) -> bool:
    """Whether a question did not fit into the server's context."""
    return isinstance(reply, RequestFailure) and reply.kind == "context size"


def read_judge_answers(
    reply: Reply | RequestFailure, n: int, options: tuple[int, int]
) -> list[JudgeAnswer]:
    """The `n` answers of a reply, which its schema has already held to be `n` digits."""
    if isinstance(reply, RequestFailure):
        return [JudgeAnswer(None, failed=reply.kind)] * n
    first, said = str(options[0]), reply.parsed["answers"]
    shares = read_option_shares(reply, [str(option) for option in options], said)
    return [
        JudgeAnswer(float(answer), option_share(shares, i, first)) for i, answer in enumerate(said)
    ]


def option_share(
    shares: Sequence[OptionShares | None] | None, number: int, option: str
) -> float | None:
    """Return the probability of an option in one answer, or None where it is not available."""
    here = shares[number] if shares else None
    return here[option] if here else None


def read_option_shares(
    reply: Reply, options: Sequence[str], answers: Sequence[object]
) -> list[OptionShares | None] | None:
    """For each answer of a reply the probability of every option; None for an answer of which the
    server's list of candidates leaves it open.

    None altogether where the server gives none, and where the tokens that are options are not the
    answers one by one: several in one token, or others in a text around the answers.
    """
    shares = read_answer_shares(reply, options)
    words = [said.token.strip() for said in reply.logprobs or ()]
    found = [word for word in words if word in options]
    return shares if found == [str(answer) for answer in answers] else None
