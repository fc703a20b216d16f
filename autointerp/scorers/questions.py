"""How scorers ask a language model: in batches, read strictly, failures kept apart from answers."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autointerp.asking.probabilities import Shares, choices
from autointerp.asking.records import Asker, Failed, Message, Reply, Request, is_too_long
from autointerp.asking.shortening import put_shorter_if_too_long
from autointerp.scorers.records import Tools
from autointerp.scorers.sheets import numbered, quoted, sheet
from feature_store.errors import InputError

BATCH = 5
"""Items in one prompt."""
CANDIDATES = 20
"""For how many candidates per token log probabilities are asked: what OpenAI and vLLM give."""
SHORT = 128
"""Tokens that suffice for a reply of a few digits in any layout."""


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one item, or why it said nothing usable."""

    answer: float | None
    probability: float | None = None
    """Of the answer that stands first among the options it had; None where none is offered."""
    failed: str = ""


def asker(tools: Tools, scorer: str) -> Asker:
    """Who answers. InputError without a language model."""
    if tools.ask is None:
        raise InputError(f"The scorer {scorer!r} asks a language model: name one by --model.")
    return tools.ask


def dice(tools: Tools, feature: int) -> np.random.Generator:
    """What puts items in order: the same for every label of a feature, so that labels differ
    in nothing else."""
    return np.random.default_rng([tools.seed, feature])


def key_of(ask: Asker, request: Request) -> str:
    """The request's key in the call log: addressed to whoever answers."""
    base_url = getattr(getattr(ask, "server", None), "base_url", "")
    return request.to(base_url, ask.model).key


def request(
    prompt: str,
    schema: Mapping[str, Any],
    purpose: str,
    tools: Tools,
    *,
    max_tokens: int = SHORT,
    logprobs: int = CANDIDATES,
    temperature: float = 0.0,
    draw: int = 0,
) -> Request:
    """One question of a scorer's."""
    return Request(
        (Message("user", prompt),),
        schema=schema,
        purpose=purpose,
        logprobs=logprobs,
        max_tokens=max_tokens + tools.thinking,
        temperature=temperature,
        draw=draw,
    )


def form(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema of an object with one field."""
    return {
        "type": "object",
        "properties": {name: value},
        "required": [name],
        "additionalProperties": False,
    }


def digits(n: int, options: Sequence[int]) -> dict[str, Any]:
    """A JSON schema of `n` answers, each one of `options`."""
    items = {"type": "integer", "enum": list(options)}
    return form("answers", {"type": "array", "items": items, "minItems": n, "maxItems": n})


def dealt(names: Sequence[Hashable], size: int, dice: np.random.Generator) -> list[list[int]]:
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


async def in_batches(
    prompt: str,
    label: str,
    lines: Sequence[str],
    names: Sequence[Hashable],
    tools: Tools,
    dice: np.random.Generator,
    options: tuple[int, int] = (1, 0),
) -> tuple[list[Verdict], tuple[str, ...]]:
    """A verdict for each line of prompt pieces, in the order given, and the requests' keys.

    `options` are the two digits that may answer; a verdict's probability is that of the first.
    A reply with too few or too many answers fails for every item of its batch. A batch that does
    not fit into the server's context is asked in halves.
    """
    ask = asker(tools, prompt)

    async def one_batch(batch: list[int]) -> list[tuple[list[int], Reply | Failed, str]]:
        text = sheet(prompt).fill(
            label=quoted(label), n=len(batch), items=numbered([lines[i] for i in batch])
        )
        asked = request(text, digits(len(batch), options), prompt, tools)
        reply = None
        if len(batch) == 1:
            reply = await ask.ask(asked)
        elif not is_too_long(ask, asked):
            with put_shorter_if_too_long():
                reply = await ask.ask(asked)
        if len(batch) > 1 and (reply is None or failed_by_length(reply)):
            half = len(batch) // 2
            return [*await one_batch(batch[:half]), *await one_batch(batch[half:])]
        assert reply is not None
        return [(batch, reply, (isinstance(reply, Reply) and reply.key) or key_of(ask, asked))]

    asked = await asyncio.gather(*map(one_batch, dealt(names, BATCH, dice)))
    found: dict[int, Verdict] = {}
    for batch, reply, _ in (part for parts in asked for part in parts):
        found |= zip(batch, verdicts(reply, len(batch), options), strict=True)
    keys = tuple(key for parts in asked for _, _, key in parts)
    return [found[i] for i in range(len(lines))], keys


def failed_by_length(reply: Reply | Failed) -> bool:
    """Whether a question did not fit into the server's context."""
    return isinstance(reply, Failed) and reply.kind == "context size"


def verdicts(reply: Reply | Failed, n: int, options: tuple[int, int]) -> list[Verdict]:
    """The `n` answers of a reply, which its schema has already held to be `n` digits."""
    if isinstance(reply, Failed):
        return [Verdict(None, failed=reply.kind)] * n
    first, said = str(options[0]), reply.parsed["answers"]
    shares = sure(reply, [str(option) for option in options], said)
    return [Verdict(float(answer), share_of(shares, i, first)) for i, answer in enumerate(said)]


def share_of(shares: Sequence[Shares | None] | None, number: int, option: str) -> float | None:
    """Return the probability of an option in one answer, or None where it is not available."""
    here = shares[number] if shares else None
    return here[option] if here else None


def sure(
    reply: Reply, options: Sequence[str], answers: Sequence[object]
) -> list[Shares | None] | None:
    """For each answer of a reply the probability of every option; None for an answer of which the
    server's list of candidates leaves it open.

    None altogether where the server gives none, and where the tokens that are options are not the
    answers one by one: several in one token, or others in a text around the answers.
    """
    shares = choices(reply, options)
    words = [said.token.strip() for said in reply.logprobs or ()]
    found = [word for word in words if word in options]
    return shares if found == [str(answer) for answer in answers] else None
