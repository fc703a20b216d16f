"""Heads of a behaviour by discrete codes: prompts that show it against prompts that cannot."""

from dataclasses import replace
from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from app.circuits.methods.reading import text_of
from app.circuits.running import Tell
from backend.ablation.ablation_requests import PromptCase
from backend.circuits.records import Circuit
from backend.circuits.task_counterexamples import COUNTEREXAMPLE_TASKS, sample_counterexample_pairs
from backend.circuits.task_prompt_pairs import sample_prompt_pairs
from feature_store.errors import InputError

if TYPE_CHECKING:
    from backend.engine import LocalEngine

EXAMPLES = 10
"""Of either kind, of a task."""
IMPOSSIBLE = (
    "In the negative examples a word that decides nothing stands for the one that decides the "
    "answer, so that the behaviour is not possible."
)
TWINS = (
    "The negative examples of this task are corrupt twins: the behaviour is there and leads to "
    "the other answer, so heads that say the same of both are not seen."
)
GIVEN = (
    "The negative examples should make the behaviour impossible; where they only turn its answer "
    "around, heads that do it in both are not seen."
)


def run(engine: "LocalEngine", asked: CircuitRequest, tell: Tell) -> Circuit:
    """Prompts are the positive examples; beside each stands one in which the behaviour is not
    possible."""
    from backend.circuits.head_codes import build_head_codes_circuit

    positives, negatives, note = examples_of(asked)
    tell(0, 1, "reading heads")
    found = build_head_codes_circuit(
        engine.lm,
        [text_of(engine, one) for one in positives],
        [text_of(engine, one) for one in negatives],
        seed=asked.seed,
    )
    return replace(found, notes=(*found.notes, note))


def examples_of(asked: CircuitRequest) -> tuple[list[PromptCase], list[PromptCase], str]:
    """Positive and negative ones, and what the negatives are. InputError where there are none."""
    n = min(asked.n_prompts, EXAMPLES)
    if asked.task in COUNTEREXAMPLE_TASKS:
        shown = list(sample_counterexample_pairs(asked.task, "train", n, asked.seed))
        return (
            [PromptCase(one.text) for one in shown],
            [PromptCase(one.without) for one in shown],
            IMPOSSIBLE,
        )
    if asked.task:
        found = list(sample_prompt_pairs(asked.task, "train", n, asked.seed))
        return (
            [PromptCase(one.clean) for one in found],
            [PromptCase(one.corrupt) for one in found],
            TWINS,
        )
    negatives = [PromptCase(case.pair) for case in asked.cases if case.pair]
    if not negatives:
        raise InputError(
            "head-codes compares prompts that show a behaviour with prompts in which it is not "
            "possible: give such a one beside each prompt (as its corrupt twin)."
        )
    return list(asked.cases), negatives, GIVEN
