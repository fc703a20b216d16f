"""Heads of a behaviour by discrete codes: prompts that have it against prompts that lack it."""

from typing import TYPE_CHECKING

from app.circuits.asked import Asked
from app.circuits.methods.reading import text_of
from app.circuits.running import Tell
from backend.ablation.asked import Case
from backend.circuits.records import Circuit
from feature_store.errors import InputError

if TYPE_CHECKING:
    from backend.engine import LocalEngine

EXAMPLES = 10
"""Of either kind, of a task."""


def run(engine: "LocalEngine", asked: Asked, tell: Tell) -> Circuit:
    """Prompts are the positive examples, their corrupt twins the negative ones."""
    from backend.circuits.head_codes import head_codes_circuit

    positives, negatives = examples_of(asked)
    tell(0, 1, "reading heads")
    return head_codes_circuit(
        engine.lm, [text_of(engine, one) for one in positives],
        [text_of(engine, one) for one in negatives], seed=asked.seed,
    )  # fmt: skip


def examples_of(asked: Asked) -> tuple[list[Case], list[Case]]:
    """Positive and negative ones. InputError where there are none of a kind."""
    if asked.task:
        from itertools import islice

        from backend.circuits.tasks import pairs

        n = min(asked.n_prompts, EXAMPLES)
        found = list(islice(pairs(asked.task, "train", n, asked.seed), n))
        return [Case(one.clean) for one in found], [Case(one.corrupt) for one in found]
    negatives = [Case(case.pair) for case in asked.cases if case.pair]
    if not negatives:
        raise InputError(
            "head-codes compares prompts that show a behaviour with prompts that lack it: give "
            "each prompt a corrupt twin."
        )
    return list(asked.cases), negatives
