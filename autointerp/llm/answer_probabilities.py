"""How sure a model was of each answer in its reply, from the log probabilities of tokens.

A server lists the likeliest candidates for each token, and servers that hold replies to a grammar
list them as they were *before* the grammar: an option may be missing because a dozen tokens that
the grammar forbids were likelier. A missing option is not impossible. Its probability is at most
that of the list's last candidate, and at most what the list leaves over. Where this bound is small
against the options that are listed, it counts as the option's probability, so that no answer is
more certain than the list shows; otherwise the probabilities of that answer are not available.
"""

import math
from collections.abc import Sequence

from autointerp.llm.records import Reply, TokenLogprob

MISSING_SHARE_TOLERANCE = 0.1
"""Largest share of all options together that those missing from a list may have."""
MIN_MISSING_SHARE = 1e-9
"""A missing option never counts for less, whatever rounding leaves of the list's rest."""

OptionShares = dict[str, float]
"""Option → probability; they sum to 1."""


def read_answer_shares(reply: Reply, options: Sequence[str]) -> list[OptionShares | None] | None:
    """Return the shares of `options` for each token of a reply that is one of them.

    p(option) = Σ p(candidates that are it, spaces aside) ÷ Σ p(candidates that are any option). An
    entry is None where an option is missing from the candidates and could matter. The whole is None
    where the server gave no log probabilities. Whether there are as many tokens as answers is for
    the caller to see: where a server makes one token of several answers, there are fewer.
    """
    if reply.logprobs is None:
        return None
    return [
        option_shares(said, options) for said in reply.logprobs if said.token.strip() in options
    ]


def option_shares(said: TokenLogprob, options: Sequence[str]) -> OptionShares | None:
    """Return the options' shares at one place, or None where the list leaves them open.

    The token that was said counts even if it is not listed.
    """
    listed = {
        token: math.exp(logprob) for token, logprob in (*said.top, (said.token, said.logprob))
    }
    found = dict.fromkeys(options, 0.0)
    seen = set()
    for token, p in listed.items():
        if (option := token.strip()) in found:
            found[option] += p
            seen.add(option)
    known, missing = sum(found.values()), [option for option in options if option not in seen]
    if missing:
        rest = max(0.0, 1.0 - sum(listed.values()))
        last = math.exp(said.top[-1][1]) if said.top else rest
        each = max(min(last, rest / len(missing)), MIN_MISSING_SHARE * known)
        if not each * len(missing) <= MISSING_SHARE_TOLERANCE * (known + each * len(missing)):
            return None
        found |= dict.fromkeys(missing, each)
    total = sum(found.values())
    return {option: value / total for option, value in found.items()} if total > 0 else None
