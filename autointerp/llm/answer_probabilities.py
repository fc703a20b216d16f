"""Probabilities of a model's answers, computed from the log probabilities of the reply's tokens.

A server lists the likeliest candidates for each token, and servers that force replies into a
grammar list them as they were *before* the grammar: an option may be missing because a dozen tokens
that the grammar forbids were likelier. A missing option is not impossible. Its probability is at
most that of the last candidate in the list, and at most what the list leaves over. Where this bound
is small compared with the listed options, it is taken as the option's probability, so that no
answer is more certain than the list shows; otherwise the probabilities of that answer are not
available.
"""

import math
from collections.abc import Sequence

from autointerp.llm.requests_and_replies import Reply, TokenLogprob

MISSING_SHARE_TOLERANCE = 0.1
"""Largest share of all options together that options missing from the candidates may have."""
MIN_MISSING_SHARE = 1e-9
"""Lower bound for the probability of a missing option, against rounding in the rest of the
candidates."""

OptionShares = dict[str, float]
"""Option → probability of this answer; they sum to 1."""


def read_answer_shares(reply: Reply, options: Sequence[str]) -> list[OptionShares | None] | None:
    """Return the probabilities of `options` for each token of a reply that is one of them.

    p(option) = Σ p(candidates equal to it, ignoring spaces) ÷ Σ p(candidates equal to any option).
    An entry is None where an option is missing from the candidates and could matter. The result is
    None where the server gave no log probabilities. The caller has to check that there are as many
    tokens as answers: a server that writes several answers as one token gives fewer.
    """
    if reply.logprobs is None:
        return None
    return [
        option_shares(chosen, options)
        for chosen in reply.logprobs
        if chosen.token.strip() in options
    ]


def option_shares(chosen: TokenLogprob, options: Sequence[str]) -> OptionShares | None:
    """Return the probabilities of the answer options at one token of a reply, or None where the
    list of candidates leaves them open.

    The chosen token counts even if it is not listed.
    """
    listed = {
        token: math.exp(logprob) for token, logprob in (*chosen.top, (chosen.token, chosen.logprob))
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
        last = math.exp(chosen.top[-1][1]) if chosen.top else rest
        each = max(min(last, rest / len(missing)), MIN_MISSING_SHARE * known)
        # written with “not” so that NaN, too, gives None
        if not each * len(missing) <= MISSING_SHARE_TOLERANCE * (known + each * len(missing)):
            return None
        found |= dict.fromkeys(missing, each)
    total = sum(found.values())
    return {option: value / total for option, value in found.items()} if total > 0 else None
