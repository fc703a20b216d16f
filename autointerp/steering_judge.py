"""A language model's judgement of steered texts: is the concept there, and is the text still good?

Concept, instruction and fluency are rated 0, 1 or 2 each; a text's score is their harmonic mean, 0
where any is 0, so that no two make up for the third. That is AxBench's score (arXiv 2501.17148);
here one question asks for all three ratings of a text.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autointerp.llm.records import Asker, ChatMessage, ChatRequest, Reply, RequestFailure
from autointerp.scorers.prompt_templates import load_score_prompt, quote_as_json

PROMPT_NAME = "steering"
"""Of the prompt file, and the purpose under which calls are recorded."""
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
"""Tokens."""
POLL_S = 0.1
CANCEL_WAIT_S = 2.0
"""How long calls under way may take to end after a stop."""
RatingProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class SteeredText:
    """One continuation of a prompt."""

    prompt: str
    continuation: str


@dataclass(frozen=True)
class SteeringRating:
    """0, 1 or 2 each."""

    concept: int
    instruction: int
    fluency: int

    @property
    def score(self) -> float:
        """The harmonic mean, 0 to 2."""
        return harmonic_mean((self.concept, self.instruction, self.fluency))


def harmonic_mean(values: Sequence[float]) -> float:
    """n ÷ Σ 1/x; 0 where any is 0."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / x for x in values)


def prompt_version() -> str:
    """The prompt's name and the begin of its hash."""
    return load_score_prompt(PROMPT_NAME).version


def make_rating_request(concept: str, text: SteeredText, thinking: int = 0) -> ChatRequest:
    """What is asked of one text. `thinking`: tokens that the model may think before it answers."""
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
    """The rating; its form was checked against SCHEMA when the reply came."""
    return answer if isinstance(answer, RequestFailure) else SteeringRating(**answer.parsed)


async def rate_steered_texts(
    ask: Asker,
    concept: str,
    texts: Sequence[SteeredText],
    tell: RatingProgress = lambda done, total: None,
    stop: threading.Event | None = None,
) -> list[SteeringRating | RequestFailure] | None:
    """A rating of each text, or why there is none; equal texts are asked about once.

    None where `stop` was set before all were answered: what was answered is recorded, and free
    the next time.
    """
    distinct = list(dict.fromkeys(texts))
    thinking = getattr(getattr(ask, "server", None), "thinking", 0)  # a stand-in has no server
    asked = {one: make_rating_request(concept, one, thinking) for one in distinct}
    tasks = {one: asyncio.ensure_future(ask.ask(request)) for one, request in asked.items()}
    waiting = set(tasks.values())
    try:
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=POLL_S)
            tell(len(distinct) - len(waiting), len(distinct))
            if waiting and stop is not None and stop.is_set():
                return None
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=CANCEL_WAIT_S)
    return [read_rating(tasks[one].result()) for one in texts]
