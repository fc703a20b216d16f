"""A language model's judgement of steered texts: is the concept there, and is the text still good?

Concept, instruction and fluency are rated 0, 1 or 2 each; a text's score is their harmonic mean, 0
where any is 0, so that no two make up for the third. That is AxBench's score (arXiv 2501.17148);
here one question asks for all three ratings of a text.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autointerp.asking.records import Asker, Failed, Message, Reply, Request
from autointerp.scorers.sheets import quoted, sheet

NAME = "steering"
"""Of the prompt file, and the purpose under which calls are recorded."""
ASPECTS = ("concept", "instruction", "fluency")
BEST = 2
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "integer", "enum": list(range(BEST + 1))} for name in ASPECTS},
    "required": list(ASPECTS),
    "additionalProperties": False,
}
LONGEST_REPLY = 128
"""Tokens."""
LOOK_S = 0.1
LEFT_S = 2.0
"""How long calls under way may take to end after a stop."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Text:
    """One continuation of a prompt."""

    prompt: str
    continuation: str


@dataclass(frozen=True)
class Rating:
    """0, 1 or 2 each."""

    concept: int
    instruction: int
    fluency: int

    @property
    def score(self) -> float:
        """The harmonic mean, 0 to 2."""
        return harmonic((self.concept, self.instruction, self.fluency))


def harmonic(values: Sequence[float]) -> float:
    """n ÷ Σ 1/x; 0 where any is 0."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / x for x in values)


def version() -> str:
    """The prompt's name and the begin of its hash."""
    return sheet(NAME).version


def question(concept: str, text: Text, thinking: int = 0) -> Request:
    """What is asked of one text. `thinking`: tokens that the model may think before it answers."""
    items = f"Beginning: {quoted(text.prompt)}\nContinuation: {quoted(text.continuation)}"
    filled = sheet(NAME).fill(label=quoted(concept), items=items)
    return Request(
        (Message("user", filled),),
        schema=SCHEMA,
        purpose=NAME,
        max_tokens=LONGEST_REPLY + thinking,
    )


def read(answer: Reply | Failed) -> Rating | Failed:
    """The rating; its form was checked against SCHEMA when the reply came."""
    return answer if isinstance(answer, Failed) else Rating(**answer.parsed)


async def judge(
    ask: Asker,
    concept: str,
    texts: Sequence[Text],
    tell: Tell = lambda done, total: None,
    stop: threading.Event | None = None,
) -> list[Rating | Failed] | None:
    """A rating of each text, or why there is none; equal texts are asked about once.

    None where `stop` was set before all were answered: what was answered is recorded, and free
    the next time.
    """
    distinct = list(dict.fromkeys(texts))
    thinking = getattr(getattr(ask, "server", None), "thinking", 0)  # a stand-in has no server
    asked = {one: question(concept, one, thinking) for one in distinct}
    tasks = {one: asyncio.ensure_future(ask.ask(request)) for one, request in asked.items()}
    waiting = set(tasks.values())
    try:
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=LOOK_S)
            tell(len(distinct) - len(waiting), len(distinct))
            if waiting and stop is not None and stop.is_set():
                return None
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=LEFT_S)
    return [read(tasks[one].result()) for one in texts]
