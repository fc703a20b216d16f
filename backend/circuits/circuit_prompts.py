"""The prompts of a circuit: laid out, with a target, and with a slot for every token.

A slot is where a node can be: a position of prompts that are equally long, or a place of a template
("S2", "end") that each prompt has somewhere. Tokens that do not count (BOS, padding) have none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from backend.ablation.ablation_requests import PromptCase
from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.prompt_targets import TargetedPrompts, prepare_prompts
from backend.attribution.target_metric import (
    TargetMetric,
    tokenize_continuation,
    tokenize_single_token_answer,
)
from backend.circuits.records import Circuit, CircuitPrompt
from backend.circuits.task_prompt_pairs import PlaceMark, PromptPair, sample_prompt_pairs
from backend.engine import LocalEngine
from feature_store.errors import InputError, pick_by_name

SlotKind = Literal["position", "marks", "ends", "sum"]
SLOT_KINDS: Mapping[str, str] = {
    "position": "each position; prompts are equally long",
    "marks": "marked places of a template, the last token, and the rest",
    "ends": "the last token, and the rest",
    "sum": "all tokens together",
}
REST_SLOT, END_SLOT = "rest", "end"
PAIRS_DRAWN_PER_PROMPT = 4
"""Times as many pairs are drawn as asked for, to find those whose prompts are equally long."""


@dataclass(frozen=True, eq=False)
class CircuitPromptSet:
    """Prompts padded alike; `laid.partners` are their corrupt twins, where there are any."""

    laid: TargetedPrompts
    slot: Int[Tensor, "batch pos"]
    """A number into `names`; -1 at tokens that do not count."""
    names: tuple[str, ...]
    shown: tuple[CircuitPrompt, ...]
    summed: bool = False
    """One slot for everything: nodes have no position."""

    def __len__(self) -> int:
        return len(self.laid)

    def rows(self, chosen: slice) -> "CircuitPromptSet":
        """Some of them, still padded alike."""
        return replace(
            self, laid=self.laid.rows(chosen), slot=self.slot[chosen], shown=self.shown[chosen]
        )

    def halves(self) -> tuple["CircuitPromptSet", "CircuitPromptSet"]:
        """Those on which nodes are chosen, and those on which they are judged."""
        if len(self) < 2:
            raise InputError("Choosing on one half and judging on the other takes two prompts.")
        middle = len(self) // 2
        return self.rows(slice(0, middle)), self.rows(slice(middle, len(self)))

    def blocks(self, rows: int) -> Iterator["CircuitPromptSet"]:
        """A few prompts at a time."""
        for begin in range(0, len(self), max(1, rows)):
            yield self.rows(slice(begin, begin + max(1, rows)))


def lay_out_circuit_prompts(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    places: SlotKind | None = None,
    marks: Sequence[Sequence[PlaceMark]] | None = None,
    *,
    targets: Sequence[str] = (),
    against: Sequence[str] = (),
) -> CircuitPromptSet:
    """Lay the cases out; where all have a pair, pairs too.

    Without `places`: positions for one prompt, marks where they are given, else the ends.
    `targets` and `against` are sets of answers for all prompts, in place of the cases' own.
    InputError for prompts of different lengths by position, for answers that are not one token,
    and as `lay_out`.
    """
    laid = prepare_prompts(engine, cases, "pair" if all(case.pair for case in cases) else "zero")
    if targets:
        laid = replace(laid, target=_build_answer_metric(engine, cases, laid, targets, against))
    if places is None:
        places = "position" if len(cases) == 1 else "marks" if marks else "ends"
    pick_by_name("choice of places", places, SLOT_KINDS)
    shown = tuple(_record_prompt(engine, laid, row, case) for row, case in enumerate(cases))
    slot, names = _assign_slots(engine, laid, cases, places, marks, shown)
    slot = slot.to(engine.lm.placement.device)
    return CircuitPromptSet(laid, slot, names, shown, summed=places == "sum")


def sample_task_prompts(
    engine: LocalEngine, task: str, n: int, split: str = "train", seed: int = 0
) -> CircuitPromptSet:
    """`n` clean and corrupt prompts of one of the demo's tasks, by the places of their templates.

    InputError when the tokenizer is not the demo's, so that too few have twins of equal length.
    """
    drawn = islice(
        _select_equal_length_pairs(
            engine, sample_prompt_pairs(task, split, PAIRS_DRAWN_PER_PROMPT * n, seed)
        ),
        n,
    )
    found = list(drawn)
    if len(found) < n:
        raise InputError(
            f"Of {PAIRS_DRAWN_PER_PROMPT * n} prompts of the task {task!r} only {len(found)} "
            f"have a twin of equal "
            f"length and answers of one token in {engine.lm.name}: the tasks are the demo model's."
        )
    cases = [PromptCase(one.clean, one.answer, one.wrong, one.corrupt) for one in found]
    return lay_out_circuit_prompts(engine, cases, "marks", [one.marks for one in found])


def restore_circuit_prompts(engine: LocalEngine, circuit: Circuit) -> CircuitPromptSet:
    """The prompts that a circuit of this module was found on, from its record.

    InputError for a circuit that keeps no slots: another method's, or an imported one.
    """
    slots, answers = circuit.facts.get("slot_of"), circuit.facts.get("answers")
    if not circuit.prompts or not isinstance(slots, list) or not isinstance(answers, list):
        raise InputError(
            "This circuit does not say where its nodes stand in its prompts, so sets of them "
            "cannot be run: only circuits of next tokens that were found here can."
        )
    prompts = PaddedPrompts.of([engine.text(list(one.ids)) for one in circuit.prompts])
    against = circuit.facts.get("against")
    weights = circuit.facts.get("weights")
    target = TargetMetric(answers, against, prompts.last, weights, engine.lm.n_nameable)
    partners = None
    if all(one.corrupt for one in circuit.prompts):
        partners = PaddedPrompts.of([engine.read(one.corrupt) for one in circuit.prompts])
        prompts.check_pair(partners)
    width = prompts.tokens.shape[1]
    slot = torch.tensor([[*row, *[-1] * (width - len(row))] for row in slots])
    return CircuitPromptSet(
        TargetedPrompts(prompts, target, partners),
        slot.to(engine.lm.placement.device),
        circuit.slots,
        circuit.prompts,
        summed=circuit.facts.get("places") == "sum",
    )


def _build_answer_metric(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    laid: TargetedPrompts,
    targets: Sequence[str],
    against: Sequence[str],
) -> TargetMetric:
    """Every prompt's answers and what they are compared with, as ids behind that prompt."""

    def ids(case: PromptCase, texts: Sequence[str]) -> list[int]:
        prompt = case.prompt or decode_tokens(engine, case.tokens)
        return [tokenize_single_token_answer(engine.lm.tokenizer, prompt, text) for text in texts]

    others = [ids(case, against) for case in cases] if against else None
    return TargetMetric([ids(case, targets) for case in cases], others, laid.target.last)


def _select_equal_length_pairs(
    engine: LocalEngine, drawn: Iterator[PromptPair]
) -> Iterator[PromptPair]:
    """Those with prompts equally long and two different answers of one token each."""
    for one in drawn:
        sizes = {len(engine.read(text).token_ids) for text in (one.clean, one.corrupt)}
        try:
            ends = [
                tokenize_continuation(engine.lm.tokenizer, one.clean, text)
                for text in (one.answer, one.wrong)
            ]
        except InputError:
            continue
        if len(sizes) == 1 and all(len(end) == 1 for end in ends) and ends[0] != ends[1]:
            yield one


def _record_prompt(
    engine: LocalEngine, laid: TargetedPrompts, row: int, case: PromptCase
) -> CircuitPrompt:
    ids = laid.prompts.tokens[row, laid.prompts.real[row]].tolist()
    against = laid.target.against
    return CircuitPrompt(
        case.prompt or decode_tokens(engine, ids),
        tuple(decode_tokens(engine, [token]) for token in ids),
        tuple(ids),
        decode_tokens(engine, laid.target.answers[row]),
        "" if against is None else decode_tokens(engine, against[row]),
        case.pair,
    )


def decode_tokens(engine: LocalEngine, ids: Sequence[int]) -> str:
    """Tokens as text."""
    return str(engine.lm.tokenizer.decode(list(ids)))


def _assign_slots(
    engine: LocalEngine,
    laid: TargetedPrompts,
    cases: Sequence[PromptCase],
    places: SlotKind,
    marks: Sequence[Sequence[PlaceMark]] | None,
    shown: Sequence[CircuitPrompt],
) -> tuple[Tensor, tuple[str, ...]]:
    """(slot of every token, names of the slots)"""
    counted, last = laid.prompts.counted, laid.prompts.last
    if places == "position":
        if len(set(last.tolist())) > 1:
            raise InputError(
                f"The prompts have {int(last.min()) + 1} to {int(last.max()) + 1} tokens. By "
                "position they must be equally long: choose ends, or give marks."
            )
        slot = torch.arange(counted.shape[1]).expand(counted.shape).clone()
        beyond = slot > last[:, None]
        names = shown[0].tokens
        return slot.masked_fill(~counted | beyond, -1), tuple(names)
    if places == "sum":
        return torch.zeros_like(laid.prompts.tokens).masked_fill(~counted, -1), ("*",)
    names = [REST_SLOT, END_SLOT]
    slot = torch.zeros_like(laid.prompts.tokens)
    for row, case in enumerate(cases):
        if places == "marks" and marks:
            for mark in marks[row]:
                if mark.name not in names:
                    names.append(mark.name)
                slot[row, _find_mark_tokens(engine, case.prompt, mark)] = names.index(mark.name)
        slot[row, int(last[row])] = 1
    # Behind the place where the target is read nothing can matter.
    behind = torch.arange(slot.shape[1]) > last[:, None]
    return slot.masked_fill(~counted | behind, -1), tuple(names)


def _find_mark_tokens(engine: LocalEngine, text: str, mark: PlaceMark) -> list[int]:
    """Positions of the tokens that overlap a mark."""
    spans = engine.lm.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )["offset_mapping"]
    first = 0 if engine.bos is None else 1
    return [first + i for i, (a, b) in enumerate(spans) if a < mark.stop and b > mark.start]
