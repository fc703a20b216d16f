"""A plan at work on a batch of texts: masks, hooks and a cache, from one forward to the next.

All edits at one hook point read what enters it in this pass, and their differences are summed, so
that their order does not matter; later points see the edited stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from backend.interventions import plan as plans
from backend.interventions.masks import Line, factors
from backend.interventions.norms import Scales
from backend.interventions.operations import Operation
from backend.interventions.plan import Plan
from backend.interventions.reading import Named
from backend.interventions.roads import Change, Passes
from feature_store.errors import InputError


@dataclass
class Scene:
    """One batch under one plan; for one thread, forward after forward."""

    plan: Plan
    n_prompt: int
    roles: Sequence[str | None] = ()
    """Of the prompt's tokens, where it is a chat."""
    keep: bool = True
    """Keep keys and values: each `forward` then brings new tokens only."""
    shift: dict[str, Float[Tensor, "row pos"]] = field(default_factory=dict)
    """By hook that is written: ‖Δh‖/‖h‖ in the last forward, twins not included."""

    def __post_init__(self) -> None:
        lm = self.plan.lm
        self._passes = Passes(lm, self.plan.road, keep=self.keep)
        self._lines = [
            Line(lm.tokenizer, self.n_prompt, self.roles) if edits else None
            for edits in self.plan.rows
        ]
        self._seen: dict[str, Tensor] = {}
        self._past: dict[str, Tensor] = {}
        self._scales = Scales(lm)
        self.start = 0
        """The first position of the next forward."""

    def forward(self, tokens: Sequence[Sequence[int]], *, last: bool) -> Tensor:
        """Logits [row pos vocab] of every row, twins behind the rows that are shown.

        `tokens`: for each row shown, the tokens that follow those so far; all equally many.
        InputError where the edits drive the model's numbers out of range.
        """
        if not self.keep:
            self._restart()
        n = len(tokens[0])
        masks = self._masks(tokens)
        self._seen, self.shift = {}, {}
        batch = torch.tensor([*tokens, *(tokens[row] for row in self.plan.twins)])
        logits = self._passes.forward(batch, self._changes(masks, n), last=last)
        self.start += n
        self._remember()
        self._check(logits)
        return logits

    def watched(self, n: int) -> Float[Tensor, "row pos feature"]:
        """Activations of the plan's watched features in the last forward, before any edit at their
        hook point, in every row, twins included."""
        columns = []
        for feature in self.plan.watched:
            one = self.plan.dictionaries[feature.dictionary]
            ids = torch.tensor([feature.index], device=self.plan.lm.placement.device)
            columns.append(Named(one, ids).activations(self._reading(one.hook_name))[:, -n:])
        return torch.cat(columns, -1)

    def _restart(self) -> None:
        self.start, self._past = 0, {}
        for line in self._lines:
            if line is not None:
                line.tokens, line.ends, line.text = [], [], ""

    def _masks(self, tokens: Sequence[Sequence[int]]) -> dict[int, Tensor]:
        """By operation (its number): how much of it at each new token; none where all are zero."""
        for row, line in enumerate(self._lines):
            if line is not None:
                line.extend(tokens[row], decode=self.plan.decodes)
        found = {}
        for number, one in enumerate(self.plan.operations):
            special = self.plan.uncounted(one)
            rows = []
            for row, edit in zip(one.rows, one.edits, strict=True):
                line = self._lines[row]
                assert line is not None  # rows of an operation have edits
                rows.append(factors(edit, line, self.start, self.plan.lm.bos, special))
            if any(map(any, rows)):
                found[number] = one.directions.new_tensor(rows)[:, :, None]
        return found

    def _changes(self, masks: dict[int, Tensor], n: int) -> dict[str, Change]:
        """By hook point: what happens there, in this order: frozen values, changes carried from an
        earlier point, reading, edits."""
        plan, lm = self.plan, self.plan.lm
        steps: dict[str, _Point] = {}

        def at(name: str) -> _Point:
            return steps.setdefault(name, _Point())

        for name in plans.frozen_rows(lm, plan.freeze):
            at(name).before.append(self._from_twins)
        for before, after in plans.frozen_norms(lm, plan.freeze).items():
            at(before).after.append(partial(self._scales.note, before))
            at(after).before.append(partial(self._scales.put, before, self._pairs()))
        for number, one in enumerate(plan.operations):
            for hook in (one.reads, one.gate_reads):
                if hook:
                    at(plans.point(lm, hook)).reads = True
            if number in masks:
                at(plans.point(lm, one.writes)).edits.append((one, masks[number]))
                if away := plans.leaves(one.writes):
                    at(away).carried.append(plans.point(lm, one.writes))
        for feature in plan.watched:
            at(plans.point(lm, plan.dictionaries[feature.dictionary].hook_name)).reads = True
        carried: dict[str, Tensor] = {}
        return {name: partial(self._apply, name, step, carried, n) for name, step in steps.items()}

    def _apply(
        self, name: str, step: "_Point", carried: dict[str, Tensor], n: int, h: Tensor
    ) -> Tensor:
        for change in step.before:
            h = change(h)
        for source in dict.fromkeys(step.carried):
            h = h + carried[source].to(h.dtype)
        if step.reads:
            past = self._past.get(name)
            self._seen[name] = h if past is None else torch.cat([past, h], 1)
        if step.edits:
            h, mids = self._edited(step.edits, h, n)
            if mids is not None:
                carried[name] = mids
        for change in step.after:
            h = change(h)
        return h

    def _edited(
        self, edits: list[tuple[Operation, Tensor]], h: Tensor, n: int
    ) -> tuple[Tensor, Tensor | None]:
        """The stream with all differences added, and what of them was meant for `hook_resid_mid`
        and must be carried past the MLP."""
        total = torch.zeros_like(h, dtype=edits[0][0].directions.dtype)
        mids: Tensor | None = None
        for one, mask in edits:
            rows = list(one.rows)
            added = self._difference(one, mask, h[rows], n)
            total[rows] += added
            if plans.leaves(one.writes):
                mids = torch.zeros_like(total) if mids is None else mids
                mids[rows] += added
        touched = sorted({row for one, _ in edits for row in one.rows})
        new = h.clone()  # rows without edits stay the same bits
        new[touched] = (h[touched] + total[touched]).to(h.dtype)
        self._note_shift(edits[0][0].writes, total, h)
        return new, mids

    def _difference(self, one: Operation, mask: Tensor, h: Tensor, n: int) -> Tensor:
        gate_x = self._rows_of(one, one.gate_reads)
        x = self._rows_of(one, one.reads)
        if one.mode.kind == "direction" and one.named is not None:
            h = self.plan.lm.process(one.writes, h, self.plan.processing)
        return one.difference(h, x, n, self.start) * one.held(mask, gate_x)

    def _rows_of(self, one: Operation, hook: str | None) -> Tensor | None:
        """What the operation reads at a hook: of its own rows, or of their clean twins."""
        if hook is None:
            return None
        rows = [self.plan.twins[row] for row in one.rows] if one.clean else list(one.rows)
        return self._reading(hook, one)[rows]

    def _reading(self, hook: str, one: Operation | None = None) -> Tensor:
        name = plans.point(self.plan.lm, hook)
        if name not in self._seen:
            writes = one.writes if one else "the last hook"
            raise InputError(
                f"The model computes {hook} after {writes}, so an edit there cannot depend on it: "
                "choose a feature that is read earlier."
            )
        return self.plan.lm.process(hook, self._seen[name], self.plan.processing)

    def _remember(self) -> None:
        """Keep whole sequences for dictionaries whose codes depend on earlier tokens."""
        if not self.keep:
            return
        plan = self.plan
        used = [plan.dictionaries[feature.dictionary] for feature in plan.watched]
        used += [
            named.dictionary for one in plan.operations for named in (one.named, one.gate) if named
        ]
        for one in used:
            if one.needs_sequence:
                name = plans.point(plan.lm, one.hook_name)
                if name in self._seen:
                    self._past[name] = self._seen[name]

    def _from_twins(self, h: Tensor) -> Tensor:
        new = h.clone()
        new[list(self.plan.twins)] = h[list(self.plan.twins.values())]
        return new

    def _pairs(self) -> tuple[list[int], list[int]]:
        return list(self.plan.twins), list(self.plan.twins.values())

    def _note_shift(self, hook: str, total: Tensor, h: Tensor) -> None:
        shown = len(self.plan.rows)
        length = h[:shown].norm(dim=-1).clamp_min(torch.finfo(h.dtype).tiny)
        self.shift[hook] = total[:shown].norm(dim=-1) / length

    def _check(self, logits: Tensor) -> None:
        edited = [row for row, edits in enumerate(self.plan.rows) if edits]
        if edited and not logits[edited, -1].sum(-1).isfinite().all():
            raise InputError(
                "With these edits the model's numbers are no longer finite: choose smaller "
                "strengths."
            )


@dataclass
class _Point:
    """What happens at one hook point."""

    before: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    reads: bool = False
    edits: list[tuple[Operation, Tensor]] = field(default_factory=list)
    after: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
