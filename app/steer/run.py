"""A generation on its way: computed in a thread of its own, told to the page as it comes."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import live
from app.steer.story import Story, ending, rail, tail, warnings
from app.steering import Setting
from app.wording import THIN, measure, plural
from backend.engine_protocol import Engine
from feature_store.errors import InputError

if TYPE_CHECKING:
    from backend.engine import LocalEngine
    from backend.generation.prompt_tokenization import PromptTokens
    from backend.generation.visitor_queue import QueueTicket, VisitorQueue

SILENCE_S = 8.0
"""A page that has not been heard of for so long has been left."""
REMEMBERED = 64


class SteeringRun:
    """One run. `keep` is called once when a text is whole, and gives the id it is kept under."""

    def __init__(
        self,
        engine: "LocalEngine",
        setting: Setting,
        ticket: "QueueTicket",
        keep: Callable[["SteeringRun"], str],
    ) -> None:
        self.name = secrets.token_urlsafe(12)
        self.engine: LocalEngine | None = engine
        """None once the run is over: its model may be dropped then."""
        self.setting, self.ticket = setting, ticket
        self.asked = setting.asked(bos=engine.bos is not None)
        self.story = Story([row.name for row in self.asked.rows])
        self.error = self.unkept = self.kept = ""
        self.changes = 0
        """How often the story has grown."""
        self.done = threading.Event()
        self._lock = threading.Lock()  # guards the story
        self._keep = keep

    def compute(self) -> None:
        """The thread's work, from the queue to the catalog."""
        try:
            with self.ticket:
                if not self.ticket.turn():
                    return
                self._generate()
                gone = self.ticket.place < 0
            if not gone and self.story.n:
                self._keep_it()
        except InputError as error:
            self.error = str(error)
        except Exception as error:  # a thread's end: the page says it
            self.error = live.failure(error)
        finally:
            self.engine = None
            self.done.set()

    def _generate(self) -> None:
        from backend.generation.generation_run import generate_texts

        assert (engine := self.engine) is not None, "a run computes once"
        records = generate_texts(
            engine.lm,
            engine.dictionaries,
            self.asked,
            stop=self.ticket.stop,
            seconds=self.ticket.queue.limits.seconds,
        )
        for record in records:
            with self._lock:
                self.story.take(record, lambda tokens: engine.text(tokens).counted)
                self.changes += 1
            self.ticket.queue.tidy()

    def _keep_it(self) -> None:
        try:
            self.kept = self._keep(self)
        except InputError as error:
            self.unkept = str(error)

    def stop(self) -> None:
        """End the computation at the next token."""
        self.ticket.stop.set()

    def message(self, seen: dict[str, Any]) -> dict[str, Any]:
        """What is new since the last call with this `seen`, and how things stand."""
        state = self.state()  # before the story is read: what comes last is then in it
        with self._lock:
            told = tail(self.story.data, seen)
            return {"story": told, "state": state, **feet(self.story.data)}

    def state(self) -> dict[str, Any]:
        """How things stand, in words."""
        done = self.done.is_set()
        return {"said": self.said(done), "error": self.error if done else "", "done": done}

    def said(self, done: bool) -> str:
        """How far it is."""
        wanted, n = self.setting.sampling.max_new, self.story.n
        if not done:
            place = self.ticket.place
            if place > 0:
                return f"{place} before you" if place > 1 else "next in line"
            if not n and (engine := self.engine) and (name := engine.dictionaries.loading):
                return f"loading the dictionary {name}"
            return f"token {n} of {wanted}" if n else "reading the prompt"
        if not n:
            return "" if self.error else "stopped before the first token"
        took = f" in {measure(self.story.seconds, 2)}{THIN}s" if self.story.seconds else ""
        return plural(n, "token") + took


def feet(data: dict[str, Any]) -> dict[str, Any]:
    """What stands under each column: guard rails, warnings, why it ended."""
    rows = data["rows"].items()
    return {
        "rails": {name: rail(row) if row["tokens"] else "" for name, row in rows},
        "warnings": {name: warnings(row) for name, row in rows},
        "endings": {name: ending(row) for name, row in rows},
    }


@st.cache_resource(show_spinner=False)
def line() -> "VisitorQueue":
    """The visitors of this process's model."""
    from backend.generation.visitor_queue import GenerationLimits, VisitorQueue

    return VisitorQueue(GenerationLimits(silence=SILENCE_S))


def begin(engine: Engine, setting: Setting, keep: Callable[[SteeringRun], str]) -> SteeringRun:
    """Start a run; InputError, before anything is computed, for what cannot be."""
    from backend.engine import LocalEngine

    assert isinstance(engine, LocalEngine), "texts are generated in this process"
    start, queue = started(engine, setting), line()
    queue.limits.check(start, setting.sampling)
    run = SteeringRun(engine, setting, queue.join(), keep)
    RUNS.put(run)
    threading.Thread(target=run.compute, daemon=True, name=f"steer {run.name}").start()
    return run


def started(engine: "LocalEngine", setting: Setting) -> "PromptTokens":
    """The prompt's tokens; InputError for an empty one and for one beyond the model's context."""
    from backend.generation import generation_run

    turns = [] if isinstance(setting.prompt, str) else setting.prompt
    if turns and not any(turn["content"].strip() for turn in turns):
        raise InputError("There is no message to answer: type one.")
    return generation_run.tokenize_prompt(engine.lm, setting.asked(bos=engine.bos is not None))


class Runs:
    """The runs of this process by their names, which nobody can guess."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, SteeringRun] = OrderedDict()

    def put(self, run: SteeringRun) -> None:
        """Remember a run; the oldest finished ones are let go."""
        with self._lock:
            self._runs[run.name] = run
            for name in [n for n, one in self._runs.items() if one.done.is_set()]:
                if len(self._runs) <= REMEMBERED:
                    break
                del self._runs[name]

    def get(self, name: str) -> SteeringRun | None:
        """The run of that name."""
        with self._lock:
            return self._runs.get(name)


RUNS = Runs()
