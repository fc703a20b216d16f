"""What a circuit is asked: plain data that a page, a shell, a job and a kept run share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.circuits import starts
from app.circuits.methods import METHODS, Method
from backend.ablation.ablation_requests import (
    PromptCase,
    check_prompt_cases,
    parse_prompt_case,
    prompt_case_to_json,
)
from backend.circuits.records import BASELINE_KINDS, ERROR_TERM_MODES
from backend.circuits.task_prompt_pairs import TASK_CORRUPTIONS
from feature_store.circuit_graphs import MAX_EDGES, MAX_NODES
from feature_store.errors import InputError, pick_by_name

PROMPTS = 400
"""Of one circuit."""
PLACES = ("position", "ends", "sum")
"""Each position of prompts that are equally long; the last token and the rest; all together."""
FEWEST_MEAN = 5
"""Prompts from which a mean or a resample over prompts is taken."""


@dataclass(frozen=True)
class CircuitRequest:
    """`from_json(to_json())` is the same."""

    method: str
    dictionaries: tuple[str, ...]
    """By name; none: all."""
    cases: tuple[PromptCase, ...] = ()
    """Prompts, each with its answer, wrong answer and pair; none for a task."""
    task: str = ""
    n_prompts: int = 64
    """Of the task."""
    seed: int = 0
    targets: tuple[str, ...] = ()
    """For all prompts alike, in place of their answers: their summed probability counts."""
    against: tuple[str, ...] = ()
    start: str = ""
    """In place of a next token, as app.circuits.starts reads it: a feature, an attention score."""
    places: str = ""
    """Where nodes are, as backend.circuits.circuit_prompts has it; empty: as the prompts allow."""
    baseline: str = "zero"
    errors: str = "count"
    nodes: int = 200
    edges: int = 5_000

    def check(self) -> "CircuitRequest":
        """InputError for what no model could run."""
        method = pick_by_name("method", self.method, METHODS)
        pick_by_name("baseline", self.baseline, dict.fromkeys(BASELINE_KINDS, ""))
        pick_by_name("way with error terms", self.errors, dict.fromkeys(ERROR_TERM_MODES, ""))
        if self.places:
            pick_by_name("choice of places", self.places, dict.fromkeys(PLACES, ""))
        for name, number, most in (
            ("nodes", self.nodes, MAX_NODES),
            ("edges", self.edges, MAX_EDGES),
            ("prompts", self.n_prompts, PROMPTS),
        ):
            if not 1 <= number <= most:
                raise InputError(f"The number of {name} is {number:,}: give 1 to {most:,}.")
        if self.start:
            self._check_start(method)
        if self.against and not self.targets:
            raise InputError("There is something to compare with and no target: give the target.")
        if self.task:
            pick_by_name("task", self.task, TASK_CORRUPTIONS)
            return self
        self._check_cases(method.prompts)
        return self

    def _check_start(self, method: Method) -> None:
        starts.parse(self.start)
        if self.targets or self.against:
            raise InputError("Give a next token as the target, or a feature: not both.")
        if "feature" not in method.targets:
            able = [name for name, one in METHODS.items() if "feature" in one.targets]
            raise InputError(
                f"{self.method} explains next tokens; features and attention scores are explained "
                f"by {' and '.join(able)}."
            )

    def _check_cases(self, most: int) -> None:
        check_prompt_cases(self.cases, PROMPTS)
        if len(self.cases) > most:
            raise InputError(
                f"{self.method} reads {most} prompt{'s' * (most > 1)} at a time, and there are "
                f"{len(self.cases)}: give fewer, or choose sparse-features."
            )
        paired = sum(bool(case.pair) for case in self.cases)
        if self.baseline == "pair" and paired < len(self.cases):
            raise InputError(
                "The baseline pair needs a corrupt prompt for every prompt: give them, or choose "
                "the baseline zero."
            )
        if self.baseline in ("mean", "resample") and len(self.cases) < FEWEST_MEAN:
            raise InputError(
                f"The baseline {self.baseline} is taken over the prompts, at least {FEWEST_MEAN} "
                f"of them, and there {'is' if len(self.cases) == 1 else 'are'} "
                f"{len(self.cases)}: give more, or choose zero."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain = {name: getattr(self, name) for name in PLAIN}
        lists = {name: list(getattr(self, name)) for name in LISTS}
        return {**plain, **lists, "cases": [prompt_case_to_json(case) for case in self.cases]}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "CircuitRequest":
        """InputError for what `to_json` does not write."""
        plain: dict[str, Any] = {}
        try:
            plain |= {name: kind(given[name]) for name, kind in PLAIN.items() if name in given}
            plain |= {name: tuple(map(str, given.get(name, ()))) for name in LISTS}
            found = cls(**plain)
            cases = [
                parse_prompt_case(case, f"case {i}")
                for i, case in enumerate(given.get("cases", ()), 1)
            ]
        except (KeyError, TypeError, ValueError) as bad:
            raise InputError(f"This is no request for a circuit: {bad}.") from bad
        return replace(found, cases=tuple(cases))


PLAIN = {
    "method": str,
    "task": str,
    "n_prompts": int,
    "seed": int,
    "start": str,
    "places": str,
    "baseline": str,
    "errors": str,
    "nodes": int,
    "edges": int,
}
LISTS = ("dictionaries", "targets", "against")
