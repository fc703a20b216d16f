"""Judge of steered texts: a language model rates whether the concept is present, the instruction
followed, and the text fluent.

Each of the three is rated 0, 1 or 2; a text's score is their harmonic mean, 0 where any is 0. That
is the score of AxBench (arXiv 2501.17148); here one question asks for all three ratings of a text.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autointerp.llm.requests_and_replies import (
    Asker,
    ChatMessage,
    ChatRequest,
    Reply,
    RequestFailure,
)
from autointerp.scorers.prompt_templates import load_score_prompt, quote_as_json

PROMPT_NAME = "steering"
"""Name of the steering judge's prompt file, and the purpose under which its calls are recorded."""
ASPECTS = ("concept", "instruction", "fluency")
MAX_RATING = 2
RATING_SCHEMA = {
    "type": "object",
    "properties": {
        name: {"type": "integer", "enum": list(range(MAX_RATING + 1))} for name in ASPECTS
    },
    "required": list(ASPECTS),
    "additionalProperties": False,
}
MAX_REPLY_TOKENS = 128
"""Maximum number of tokens of a rating reply."""
POLL_S = 0.1
CANCEL_WAIT_S = 2.0
"""Seconds that calls in flight may take to end after a stop."""
RatingProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class SteeredText:
    """A prompt and its continuation by the steered model, for the judge to rate."""

    prompt: str
    continuation: str


@dataclass(frozen=True)
class SteeringRating:
    """Ratings of a steered text: concept, instruction and fluency, 0, 1 or 2 each."""

    concept: int
    instruction: int
    fluency: int

    @property
    def score(self) -> float:
        """Harmonic mean of the three steering ratings, from 0 to 2."""
        return harmonic_mean((self.concept, self.instruction, self.fluency))


def harmonic_mean(values: Sequence[float]) -> float:
    """Return the harmonic mean n ÷ Σ 1/x of a judge's ratings of a steered text; 0 where any is
    0."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / x for x in values)


def prompt_version() -> str:
    """Return the name of the steering judge's prompt file and the first digits of its hash."""
    return load_score_prompt(PROMPT_NAME).version


def make_rating_request(concept: str, text: SteeredText, thinking: int = 0) -> ChatRequest:
    """Return the request to rate one steered text. `thinking` is the number of tokens that the
    model may use for reasoning."""
    items = (
        f"Beginning: {quote_as_json(text.prompt)}\nContinuation: {quote_as_json(text.continuation)}"
    )
    filled = load_score_prompt(PROMPT_NAME).fill(label=quote_as_json(concept), items=items)
    return ChatRequest(
        (ChatMessage("user", filled),),
        schema=RATING_SCHEMA,
        purpose=PROMPT_NAME,
        max_tokens=MAX_REPLY_TOKENS + thinking,
    )


def read_rating(answer: Reply | RequestFailure) -> SteeringRating | RequestFailure:
    """Return the judge's rating of a steered text from its reply, which was validated by
    RATING_SCHEMA, or the failure."""
    return answer if isinstance(answer, RequestFailure) else SteeringRating(**answer.parsed)


async def rate_steered_texts(
    ask: Asker,
    concept: str,
    texts: Sequence[SteeredText],
    report: RatingProgress = lambda done, total: None,
    stop: threading.Event | None = None,
) -> list[SteeringRating | RequestFailure] | None:
    """Return the rating of each steered text, or why there is none; equal texts are asked about
    once.

    None where `stop` was set before all were rated: ratings until then are recorded, and cost
    nothing the next time.
    """
    distinct = list(dict.fromkeys(texts))
    thinking = getattr(getattr(ask, "server", None), "thinking", 0)  # stand-ins have no server
    asked = {one: make_rating_request(concept, one, thinking) for one in distinct}
    tasks = {one: asyncio.ensure_future(ask.ask(request)) for one, request in asked.items()}
    waiting = set(tasks.values())
    try:
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=POLL_S)
            report(len(distinct) - len(waiting), len(distinct))
            if waiting and stop is not None and stop.is_set():
                return None
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=CANCEL_WAIT_S)
    return [read_rating(tasks[one].result()) for one in texts]
