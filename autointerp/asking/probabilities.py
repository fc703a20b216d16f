"""How sure a model was of each answer in its reply, from the log probabilities of tokens."""

import math
from collections.abc import Sequence

from autointerp.asking.records import Reply, Said


def choices(reply: Reply, options: Sequence[str]) -> list[dict[str, float]] | None:
    """For each token of a reply that is one of `options`: option → probability, summing to 1.

    p(option) = Σ p(candidates that are it, spaces aside) ÷ Σ p(candidates that are any option),
    over the likeliest candidates at that place; 0 for one that is not among them. None where the
    server gave no log probabilities. Whether there are as many as were asked for is for the
    caller to see: where a server makes one token of several answers, there are fewer.
    """
    if reply.logprobs is None:
        return None
    return [shares(said, options) for said in reply.logprobs if said.token.strip() in options]


def shares(said: Said, options: Sequence[str]) -> dict[str, float]:
    """The options' shares at one place; the token that was said counts even if not listed."""
    heard = dict(said.top) | {said.token: said.logprob}
    found = dict.fromkeys(options, 0.0)
    for token, logprob in heard.items():
        if token.strip() in found:
            found[token.strip()] += math.exp(logprob)
    total = sum(found.values())
    return {option: value / total for option, value in found.items()} if total > 0 else found
