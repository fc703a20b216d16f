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

from backend.ablation.asked import Case
from backend.ablation.laying import Laid, lay_out
from backend.ablation.prompts import Prompts
from backend.attribution.targets import Target, continuation, one_token
from backend.circuits.records import Circuit, Prompt
from backend.circuits.tasks import Mark, Pair, pairs
from backend.engine import LocalEngine
from feature_store.errors import InputError, pick

Places = Literal["position", "marks", "ends", "sum"]
PLACES: Mapping[str, str] = {
    "position": "each position; prompts are equally long",
    "marks": "marked places of a template, the last token, and the rest",
    "ends": "the last token, and the rest",
    "sum": "all tokens together",
}
REST, END = "rest", "end"
LONGEST = 4
"""Times as many pairs are drawn as asked for, to find those whose prompts are equally long."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Prompts padded alike; `laid.partners` are their corrupt twins, where there are any."""

    laid: Laid
    slot: Int[Tensor, "batch pos"]
    """A number into `names`; -1 at tokens that do not count."""
    names: tuple[str, ...]
    shown: tuple[Prompt, ...]
    summed: bool = False
    """One slot for everything: nodes have no position."""

    def __len__(self) -> int:
        return len(self.laid)

    def rows(self, chosen: slice) -> "Examples":
        """Some of them, still padded alike."""
        return replace(
            self, laid=self.laid.rows(chosen), slot=self.slot[chosen], shown=self.shown[chosen]
        )

    def halves(self) -> tuple["Examples", "Examples"]:
        """Those on which nodes are chosen, and those on which they are judged."""
        if len(self) < 2:
            raise InputError("Choosing on one half and judging on the other takes two prompts.")
        middle = len(self) // 2
        return self.rows(slice(0, middle)), self.rows(slice(middle, len(self)))

    def blocks(self, rows: int) -> Iterator["Examples"]:
        """A few prompts at a time."""
        for begin in range(0, len(self), max(1, rows)):
            yield self.rows(slice(begin, begin + max(1, rows)))


def gather(
    engine: LocalEngine,
    cases: Sequence[Case],
    places: Places | None = None,
    marks: Sequence[Sequence[Mark]] | None = None,
    *,
    targets: Sequence[str] = (),
    against: Sequence[str] = (),
) -> Examples:
    """Lay the cases out; where all have a pair, pairs too.

    Without `places`: positions for one prompt, marks where they are given, else the ends.
    `targets` and `against` are sets of answers for all prompts, in place of the cases' own.
    InputError for prompts of different lengths by position, for answers that are not one token,
    and as `lay_out`.
    """
    laid = lay_out(engine, cases, "pair" if all(case.pair for case in cases) else "zero")
    if targets:
        laid = replace(laid, target=_sets(engine, cases, laid, targets, against))
    if places is None:
        places = "position" if len(cases) == 1 else "marks" if marks else "ends"
    pick("choice of places", places, PLACES)
    shown = tuple(_shown(engine, laid, row, case) for row, case in enumerate(cases))
    slot, names = _slots(engine, laid, cases, places, marks, shown)
    slot = slot.to(engine.lm.placement.device)
    return Examples(laid, slot, names, shown, summed=places == "sum")


def from_task(
    engine: LocalEngine, task: str, n: int, split: str = "train", seed: int = 0
) -> Examples:
    """`n` clean and corrupt prompts of one of the demo's tasks, by the places of their templates.

    InputError when the tokenizer is not the demo's, so that too few have twins of equal length.
    """
    drawn = islice(_even(engine, pairs(task, split, LONGEST * n, seed)), n)
    found = list(drawn)
    if len(found) < n:
        raise InputError(
            f"Of {LONGEST * n} prompts of the task {task!r} only {len(found)} have a twin of equal "
            f"length and answers of one token in {engine.lm.name}: the tasks are the demo model's."
        )
    cases = [Case(one.clean, one.answer, one.wrong, one.corrupt) for one in found]
    return gather(engine, cases, "marks", [one.marks for one in found])


def again(engine: LocalEngine, circuit: Circuit) -> Examples:
    """The prompts that a circuit of this module was found on, from its record.

    InputError for a circuit that keeps no slots: another method's, or an imported one.
    """
    slots, answers = circuit.facts.get("slot_of"), circuit.facts.get("answers")
    if not circuit.prompts or not isinstance(slots, list) or not isinstance(answers, list):
        raise InputError(
            "This circuit does not say where its nodes stand in its prompts, so sets of them "
            "cannot be run: only circuits of next tokens that were found here can."
        )
    prompts = Prompts.of([engine.text(list(one.ids)) for one in circuit.prompts])
    against = circuit.facts.get("against")
    weights = circuit.facts.get("weights")
    target = Target(answers, against, prompts.last, weights, engine.lm.n_nameable)
    partners = None
    if all(one.corrupt for one in circuit.prompts):
        partners = Prompts.of([engine.read(one.corrupt) for one in circuit.prompts])
        prompts.check_pair(partners)
    width = prompts.tokens.shape[1]
    slot = torch.tensor([[*row, *[-1] * (width - len(row))] for row in slots])
    return Examples(
        Laid(prompts, target, partners),
        slot.to(engine.lm.placement.device),
        circuit.slots,
        circuit.prompts,
        summed=circuit.facts.get("places") == "sum",
    )


def _sets(
    engine: LocalEngine,
    cases: Sequence[Case],
    laid: Laid,
    targets: Sequence[str],
    against: Sequence[str],
) -> Target:
    """Every prompt's answers and what they are compared with, as ids behind that prompt."""

    def ids(case: Case, texts: Sequence[str]) -> list[int]:
        prompt = case.prompt or piece(engine, case.tokens)
        return [one_token(engine.lm.tokenizer, prompt, text) for text in texts]

    others = [ids(case, against) for case in cases] if against else None
    return Target([ids(case, targets) for case in cases], others, laid.target.last)


def _even(engine: LocalEngine, drawn: Iterator[Pair]) -> Iterator[Pair]:
    """Those with prompts equally long and two different answers of one token each."""
    for one in drawn:
        sizes = {len(engine.read(text).token_ids) for text in (one.clean, one.corrupt)}
        try:
            ends = [
                continuation(engine.lm.tokenizer, one.clean, text)
                for text in (one.answer, one.wrong)
            ]
        except InputError:
            continue
        if len(sizes) == 1 and all(len(end) == 1 for end in ends) and ends[0] != ends[1]:
            yield one


def _shown(engine: LocalEngine, laid: Laid, row: int, case: Case) -> Prompt:
    ids = laid.prompts.tokens[row, laid.prompts.real[row]].tolist()
    against = laid.target.against
    return Prompt(
        case.prompt or piece(engine, ids),
        tuple(piece(engine, [token]) for token in ids),
        tuple(ids),
        piece(engine, laid.target.answers[row]),
        "" if against is None else piece(engine, against[row]),
        case.pair,
    )


def piece(engine: LocalEngine, ids: Sequence[int]) -> str:
    """Tokens as text."""
    return str(engine.lm.tokenizer.decode(list(ids)))


def _slots(
    engine: LocalEngine,
    laid: Laid,
    cases: Sequence[Case],
    places: Places,
    marks: Sequence[Sequence[Mark]] | None,
    shown: Sequence[Prompt],
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
    names = [REST, END]
    slot = torch.zeros_like(laid.prompts.tokens)
    for row, case in enumerate(cases):
        if places == "marks" and marks:
            for mark in marks[row]:
                if mark.name not in names:
                    names.append(mark.name)
                slot[row, _within(engine, case.prompt, mark)] = names.index(mark.name)
        slot[row, int(last[row])] = 1
    # Behind the place where the target is read nothing can matter.
    behind = torch.arange(slot.shape[1]) > last[:, None]
    return slot.masked_fill(~counted | behind, -1), tuple(names)


def _within(engine: LocalEngine, text: str, mark: Mark) -> list[int]:
    """Positions of the tokens that overlap a mark."""
    spans = engine.lm.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )["offset_mapping"]
    first = 0 if engine.bos is None else 1
    return [first + i for i, (a, b) in enumerate(spans) if a < mark.stop and b > mark.start]
