"""Prompts of a circuit: a padded batch with a target metric and a slot for every token.

A slot is where a node can be: a position of prompts of equal length, or a named place of a template
("S2", "end") that each prompt has at some token. Tokens that do not count (BOS, padding) have no
slot.
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
    "position": "each position (prompts of equal length)",
    "marks": "marked places of a template, the last token, and the rest",
    "ends": "the last token, and the rest",
    "sum": "all tokens together",
}
REST_SLOT, END_SLOT = "rest", "end"
PAIRS_DRAWN_PER_PROMPT = 4
"""Number of task pairs that are drawn for each prompt requested, to find enough pairs of equal
length."""


@dataclass(frozen=True, eq=False)
class CircuitPromptSet:
    """Prompts of a circuit as one padded batch in which every token that counts has a slot (the
    place where a node can be: a position, or a named place of a template); `batch.partners` are the
    corrupted prompts if there are any."""

    batch: TargetedPrompts
    slot: Int[Tensor, "batch pos"]
    """Slot of each token of the prompts, as an index into `names`; −1 at tokens that do not
    count."""
    names: tuple[str, ...]
    prompts: tuple[CircuitPrompt, ...]
    summed: bool = False
    """Whether all tokens of the prompts share one slot, so that nodes have no position."""

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, chosen: slice) -> "CircuitPromptSet":
        """Return a slice of the circuit's prompts with their slots, padded to the same length as
        before."""
        return replace(
            self,
            batch=self.batch.rows(chosen),
            slot=self.slot[chosen],
            prompts=self.prompts[chosen],
        )

    def split_in_halves(self) -> tuple["CircuitPromptSet", "CircuitPromptSet"]:
        """Split the circuit's prompts into the half on which nodes are selected and the half on
        which the circuit is evaluated."""
        if len(self) < 2:
            raise InputError(
                "Selecting nodes on one half and evaluating on the other needs at least two "
                "prompts."
            )
        middle = len(self) // 2
        return self.select(slice(0, middle)), self.select(slice(middle, len(self)))

    def iterate_blocks(self, rows: int) -> Iterator["CircuitPromptSet"]:
        """Iterate over the circuit's prompts, at most `rows` at a time."""
        for begin in range(0, len(self), max(1, rows)):
            yield self.select(slice(begin, begin + max(1, rows)))


def lay_out_circuit_prompts(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    places: SlotKind | None = None,
    marks: Sequence[Sequence[PlaceMark]] | None = None,
    *,
    targets: Sequence[str] = (),
    against: Sequence[str] = (),
) -> CircuitPromptSet:
    """Lay out the prompts of a circuit as one padded batch and assign a slot (the place where a
    node can be) to each token that counts; corrupted prompts are included if all cases have one.

    Without `places`, slots are positions for a single prompt, marked places if `marks` are given,
    and otherwise the last token and the rest. `targets` and `against` are answers for all prompts,
    which replace those of the cases. Raises InputError for prompts of different lengths with slots
    by position, for answers that are not one token, and as `lay_out` does.
    """
    batch = prepare_prompts(engine, cases, "pair" if all(case.pair for case in cases) else "zero")
    if targets:
        batch = replace(batch, target=_build_answer_metric(engine, cases, batch, targets, against))
    if places is None:
        places = "position" if len(cases) == 1 else "marks" if marks else "ends"
    pick_by_name("choice of places", places, SLOT_KINDS)
    prompts = tuple(_record_prompt(engine, batch, row, case) for row, case in enumerate(cases))
    slot, names = _assign_slots(engine, batch, cases, places, marks, prompts)
    slot = slot.to(engine.lm.placement.device)
    return CircuitPromptSet(batch, slot, names, prompts, summed=places == "sum")


def sample_task_prompts(
    engine: LocalEngine, task: str, n: int, split: str = "train", seed: int = 0
) -> CircuitPromptSet:
    """Sample `n` clean and corrupted prompts of a demo task, with slots at the places of their
    templates.

    Raises InputError if the tokenizer is not the demo's and too few pairs have equal length.
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
            f"Of {PAIRS_DRAWN_PER_PROMPT * n} prompts of the task {task!r}, only "
            f"{len(found)} have a corrupted prompt of equal length and single-token answers "
            f"in {engine.lm.name}. The tasks are made for the demo model."
        )
    cases = [PromptCase(one.clean, one.answer, one.wrong, one.corrupt) for one in found]
    return lay_out_circuit_prompts(engine, cases, "marks", [one.marks for one in found])


def restore_circuit_prompts(engine: LocalEngine, circuit: Circuit) -> CircuitPromptSet:
    """Restore the prompts, slots and target of a stored circuit from its record.

    Raises InputError for a circuit without slots, which is one of another method or an imported
    one.
    """
    slots, answers = circuit.facts.get("slot_of"), circuit.facts.get("answers")
    if not circuit.prompts or not isinstance(slots, list) or not isinstance(answers, list):
        raise InputError(
            "This circuit does not record the positions of its nodes, so parts of it "
            "cannot be run. Only circuits of next tokens that were found by Saefari can be "
            "run."
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
    batch: TargetedPrompts,
    targets: Sequence[str],
    against: Sequence[str],
) -> TargetMetric:
    """Return the target metric of answers and wrong answers that are the same for all prompts,
    tokenized after each prompt."""

    def ids(case: PromptCase, texts: Sequence[str]) -> list[int]:
        prompt = case.prompt or decode_tokens(engine, case.tokens)
        return [tokenize_single_token_answer(engine.lm.tokenizer, prompt, text) for text in texts]

    others = [ids(case, against) for case in cases] if against else None
    return TargetMetric([ids(case, targets) for case in cases], others, batch.target.last)


def _select_equal_length_pairs(
    engine: LocalEngine, drawn: Iterator[PromptPair]
) -> Iterator[PromptPair]:
    """Yield those of the drawn task prompt pairs whose clean and corrupted prompts have the same
    number of tokens and whose two answers are different single tokens."""
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
    engine: LocalEngine, batch: TargetedPrompts, row: int, case: PromptCase
) -> CircuitPrompt:
    ids = batch.prompts.tokens[row, batch.prompts.real[row]].tolist()
    against = batch.target.against
    return CircuitPrompt(
        case.prompt or decode_tokens(engine, ids),
        tuple(decode_tokens(engine, [token]) for token in ids),
        tuple(ids),
        decode_tokens(engine, batch.target.answers[row]),
        "" if against is None else decode_tokens(engine, against[row]),
        case.pair,
    )


def decode_tokens(engine: LocalEngine, ids: Sequence[int]) -> str:
    """Decode token ids of a circuit's prompt to text with the model's tokenizer."""
    return str(engine.lm.tokenizer.decode(list(ids)))


def _assign_slots(
    engine: LocalEngine,
    batch: TargetedPrompts,
    cases: Sequence[PromptCase],
    places: SlotKind,
    marks: Sequence[Sequence[PlaceMark]] | None,
    prompts: Sequence[CircuitPrompt],
) -> tuple[Tensor, tuple[str, ...]]:
    """Assign to every token of the circuit's prompts its slot, the place where a node can be.
    Return the index of each token's slot, [prompt, position] with −1 for none, and the slots'
    names."""
    counted, last = batch.prompts.counted, batch.prompts.last
    if places == "position":
        if len(set(last.tolist())) > 1:
            raise InputError(
                f"The prompts have {int(last.min()) + 1} to {int(last.max()) + 1} tokens. Slots "
                "by position need prompts of equal length: choose ends, or give marks."
            )
        slot = torch.arange(counted.shape[1]).expand(counted.shape).clone()
        beyond = slot > last[:, None]
        names = prompts[0].tokens
        return slot.masked_fill(~counted | beyond, -1), tuple(names)
    if places == "sum":
        return torch.zeros_like(batch.prompts.tokens).masked_fill(~counted, -1), ("*",)
    names = [REST_SLOT, END_SLOT]
    slot = torch.zeros_like(batch.prompts.tokens)
    for row, case in enumerate(cases):
        if places == "marks" and marks:
            for mark in marks[row]:
                if mark.name not in names:
                    names.append(mark.name)
                slot[row, _find_mark_tokens(engine, case.prompt, mark)] = names.index(mark.name)
        slot[row, int(last[row])] = 1
    # Tokens after the one at which the target is read cannot matter.
    after = torch.arange(slot.shape[1]) > last[:, None]
    return slot.masked_fill(~counted | after, -1), tuple(names)


def _find_mark_tokens(engine: LocalEngine, text: str, mark: PlaceMark) -> list[int]:
    """Return the positions of the tokens of a circuit's prompt that overlap the characters of a
    marked template place."""
    spans = engine.lm.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )["offset_mapping"]
    first = 0 if engine.bos is None else 1
    return [first + i for i, (a, b) in enumerate(spans) if a < mark.stop and b > mark.start]
