"""The scale of simulated activations, decided once for a whole run from its first replies.

A judge's numbers are read either as expected values over their log probabilities or as they were
written. The two have different spreads, so windows of one run are never read in both ways. Expected
values require a server that gives log probabilities, candidates that leave no number open, and a
tokenizer that writes every number, including 10, as one token.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from autointerp.llm.answer_probabilities import OptionShares
from autointerp.llm.requests_and_replies import (
    Asker,
    ChatMessage,
    ChatRequest,
    Reply,
    RequestFailure,
)
from autointerp.scorers.judge_requests import object_schema, read_option_shares
from autointerp.scorers.prompt_templates import load_score_prompt

ScaleName = Literal["expected values", "numbers"]
EXPECTED_VALUES: ScaleName = "expected values"
NUMBERS: ScaleName = "numbers"
SCALES: dict[str, ScaleName] = {EXPECTED_VALUES: EXPECTED_VALUES, NUMBERS: NUMBERS}
"""Name → scale of simulated activations, as a job stores it."""
LARGEST_NUMBER = 10
OPTIONS = tuple(str(number) for number in range(LARGEST_NUMBER + 1))
MAX_TRIES = 3
"""Number of windows that are asked about one at a time until one of them is answered."""
PROBE_PROMPT = "score_simulation_scale.md"


class SimulationScale:
    """Scale of simulated activations: whether numbers 0 … 10 are read as written or as expected
    values by their probabilities. It is shared by all features and labels of a run. Used on one
    event loop."""

    def __init__(
        self,
        decided: ScaleName | None = None,
        keep: Callable[[ScaleName, str], object] | None = None,
    ) -> None:
        """Set the scale `decided` by an earlier process of the same run, or None. `keep` is called
        with the scale and the reason once it is decided."""
        self.decided: ScaleName | None = decided
        self._keep = keep or (lambda scale, reason: None)
        self._lock = asyncio.Lock()

    async def decide(
        self, ask: Asker, requests: Sequence[ChatRequest]
    ) -> dict[str, Reply | RequestFailure]:
        """Decide the scale of the run from the first usable reply to some of its simulation
        requests.

        Returns the replies that were requested, by request key. Where no request is answered
        nothing is decided, and the next feature's requests are used.
        """
        replies: dict[str, Reply | RequestFailure] = {}
        async with self._lock:
            if self.decided is not None:
                return replies
            for request in requests[:MAX_TRIES]:
                answer = replies[request.key] = await ask.ask(request)
                if isinstance(answer, Reply):
                    self.decided, reason = await choose_scale(ask, answer)
                    self._keep(self.decided, reason)
                    break
        return replies


async def choose_scale(ask: Asker, reply: Reply) -> tuple[ScaleName, str]:
    """Return the scale (numbers as written, or their expected values) that a simulation reply
    allows for the whole run, and the reason."""
    if reply.logprobs is None:
        return NUMBERS, "the server gives no log probabilities"
    numbers = reply.parsed["activations"]
    shares = number_shares(reply, numbers)
    if shares is None:
        return NUMBERS, "the model's tokens are not one number each"
    if any(each is None for each in shares):
        return NUMBERS, "the server's candidates leave the probabilities of some numbers open"
    if LARGEST_NUMBER not in numbers and not await writes_ten_as_one_token(ask):
        return NUMBERS, f"the model writes {LARGEST_NUMBER} in several tokens"
    return EXPECTED_VALUES, "every number is one token, and its probabilities are known"


async def writes_ten_as_one_token(ask: Asker) -> bool:
    """Ask the model for the number 10 twice, and return whether each was one token, as the scale of
    expected values requires."""
    ten = {"type": "integer", "enum": [LARGEST_NUMBER]}
    schema = object_schema(
        "activations", {"type": "array", "items": ten, "minItems": 2, "maxItems": 2}
    )
    text = load_score_prompt("simulation_scale").fill()
    question = ChatRequest(
        (ChatMessage("user", text),), schema=schema, logprobs=1, max_tokens=64, purpose="simulation"
    )
    answer = await ask.ask(question)
    return (
        isinstance(answer, Reply)
        and number_shares(answer, [LARGEST_NUMBER, LARGEST_NUMBER]) is not None
    )


def number_shares(reply: Reply, numbers: Sequence[object]) -> list[OptionShares | None] | None:
    """Return the probabilities of 0 … 10 for each simulated number; None where the tokens are not
    the numbers one by one."""
    return read_option_shares(reply, OPTIONS, numbers)
