"""Edited forward passes of a batch of texts under a plan: masks, hooks and a cache, from one pass
to the next.

All edits at one hook point read its input in this pass, and their differences are summed, so their
order does not matter; later hook points see the edited stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from backend.corpus.chat_template import TEMPLATE_ROLE
from backend.dictionaries.site_activations import join_sites
from backend.interventions import edit_plan as plans
from backend.interventions.edit_masks import RowTokens, edit_factors
from backend.interventions.edit_operations import EditOperation
from backend.interventions.edit_plan import EditPlan
from backend.interventions.forward_path import ActivationChange, ForwardPasses
from backend.interventions.named_activations import NamedFeatures
from backend.interventions.norm_scales import FrozenNormScales
from backend.interventions.records import Edit, EditCondition, EditSchedule
from backend.model.partial_forward import make_recording_edit
from backend.model.weight_processing import NO_PROCESSING
from feature_store.errors import InputError


@dataclass
class _HookPointPlan:
    """Everything that an edited forward pass does at one hook point: set frozen values, add changes
    carried from an earlier point, store the activation for dictionaries, and edit it."""

    before: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    """Hook points whose change must be added here again."""
    reads: bool = False
    edits: list[int] = field(default_factory=list)
    """Indices of the operations that edit this hook point."""
    leaves: bool = False
    """Whether the change made here must be added again at another hook point."""
    after: list[Callable[[Tensor], Tensor]] = field(default_factory=list)


@dataclass
class EditedForward:
    """Successive forward passes of one batch of texts under an edit plan, with a cache of keys and
    values; for a single thread."""

    plan: EditPlan
    n_prompt: int
    roles: Sequence[str | None] = ()
    """Chat roles of the prompt's tokens, where it is a chat."""
    keep: bool = True
    """Whether keys and values are kept: each `forward` then brings new tokens only."""

    def __post_init__(self) -> None:
        plan, lm = self.plan, self.plan.lm
        self._passes = ForwardPasses(lm, plan.path, keep=self.keep)
        self._clean_passes = ForwardPasses(lm, plan.path, keep=self.keep)
        self._read_first = plan.read_ahead
        self._ahead: dict[str, Tensor] = {}
        """Clean activations of the rows that are shown, read before the edited forward pass."""
        self._lines = [
            RowTokens(lm.tokenizer, self.n_prompt, self.roles) if edits else None
            for edits in plan.rows
        ]
        self._uncounted = [plan.uncounted(one) for one in plan.operations]
        self._anywhere = [all(map(_acts_everywhere, one.edits)) for one in plan.operations]
        self._scales = FrozenNormScales(lm)
        self._points = self._sorted_by_point()
        self._changes: dict[str, ActivationChange] = {
            name: partial(self._apply, name, point) for name, point in self._points.items()
        }
        self._watched = [_watched_feature(plan, number) for number in range(len(plan.watched))]
        self._past: dict[str, Tensor] = {}
        self._masks: dict[int, Tensor | None] = {}
        self._shift: dict[str, list[tuple[EditOperation, Tensor]]] = {}
        self._clear(0)
        self.start = 0
        """Position of the first token of the next edited forward pass."""

    def forward(self, tokens: Sequence[Sequence[int]], *, last: bool) -> Tensor:
        """Run the next tokens of all rows under the plan's edits and return the logits [row pos
        vocab]: first the rows that are shown, then their clean twins.

        `tokens` are the next tokens of each shown row, equally many for all; with `last` only the
        last position's logits are returned. InputError for an edit that depends on something that
        the model computes later.
        """
        self._clear(len(tokens[0]))
        self._masks = self._masked(tokens)
        batch = torch.tensor([*tokens, *(tokens[row] for row in self.plan.twins)])
        self._read_ahead(batch[: len(self.plan.rows)])
        logits = self._passes.forward(batch, self._changes, last=last)
        if self.keep:
            self.start += self._n
            self._remember()
        return logits

    @property
    def shift(self) -> dict[str, Float[Tensor, "row pos"]]:
        """Relative change of the stream by the edits, ‖Δh‖/‖h‖, by edited hook point [row pos] in
        the last forward pass; without clean twins."""
        found = {}
        for hook, parts in self._shift.items():
            rows = len(self.plan.rows)
            if len(parts[0][0].rows) == rows:
                found[hook] = parts[0][1].expand(-1, self._n)
                continue
            found[hook] = parts[0][1].new_zeros(rows, self._n)
            for one, ratio in parts:
                found[hook][one.index] = ratio
        return found

    def watched(self, n: int) -> Float[Tensor, "row pos feature"]:
        """Return the activations of the watched features at the last `n` positions, before any edit
        at their hook point, in every row including twins."""
        columns = [
            named.activations(self._reading(named.dictionary.read_hooks))[:, -n:]
            for named in self._watched
        ]
        return torch.cat(columns, -1)

    def _clear(self, n: int) -> None:
        """Reset what the edited forward pass records (activations read, changes carried on,
        relative changes) for a pass of `n` new tokens."""
        self._n = n
        self._seen: dict[str, Tensor] = {}
        self._carried: dict[str, Tensor] = {}
        self._shift = {}

    def _sorted_by_point(self) -> dict[str, _HookPointPlan]:
        """Return what an edited forward pass does at each hook point, in this order: frozen values,
        changes carried from an earlier point, reading, edits."""
        plan, lm = self.plan, self.plan.lm
        points: dict[str, _HookPointPlan] = {}

        def at(name: str) -> _HookPointPlan:
            return points.setdefault(name, _HookPointPlan())

        pairs = list(plan.twins), list(plan.twins.values())
        for name in plans.frozen_row_points(lm, plan.freeze):
            at(name).before.append(self._from_twins)
        for before, after in plans.frozen_norm_points(lm, plan.freeze).items():
            at(before).after.append(partial(self._scales.record, before))
            at(after).before.append(partial(self._scales.apply_twin_scale, before, pairs))
        for number, one in enumerate(plan.operations):
            for hook in (*one.reads, *one.gate_reads):
                at(plans.canonical_point(lm, hook)).reads = True
            at(plans.canonical_point(lm, one.writes)).edits.append(number)
            if away := plans.stream_exit_point(one.writes):
                at(plans.canonical_point(lm, one.writes)).leaves = True
                at(away).carried.append(plans.canonical_point(lm, one.writes))
        for feature in plan.watched:
            for hook in plan.dictionaries[feature.dictionary].read_hooks:
                at(plans.canonical_point(lm, hook)).reads = True
        return points

    def _masked(self, tokens: Sequence[Sequence[int]]) -> dict[int, Tensor | None]:
        """Return the mask of each operation (compiled edit) at the new tokens, by the operation's
        index in the plan. None means full strength everywhere; operations that act nowhere are
        missing."""
        for row, line in enumerate(self._lines):
            if line is not None:
                if not self.keep:
                    line.clear()
                line.extend(tokens[row], decode=self.plan.decodes)
        found: dict[int, Tensor | None] = {}
        for number, one in enumerate(self.plan.operations):
            # the usual case is decided without looking at every token
            if self._anywhere[number] and TEMPLATE_ROLE not in self.roles[self.start :]:
                special = self._uncounted[number]
                if all(special.isdisjoint(tokens[row]) for row in one.rows):
                    found[number] = None  # as below, without asking for every token
                    continue
            rows = []
            for row, edit in zip(one.rows, one.edits, strict=True):
                line = self._lines[row]
                assert line is not None  # rows of an operation have edits
                special = self._uncounted[number]
                rows.append(edit_factors(edit, line, self.start, self.plan.lm.bos, special))
            if all(factor == 1 for row in rows for factor in row):
                found[number] = None
            elif any(map(any, rows)):
                found[number] = one.directions.new_tensor(rows)[:, :, None]
        return found

    def _apply(self, name: str, point: _HookPointPlan, h: Tensor) -> Tensor:
        """Return the activation h of one hook point after everything that the plan does there in
        the edited forward pass."""
        for change in point.before:
            h = change(h)
        for source in dict.fromkeys(point.carried):
            if source in self._carried:
                h = h + self._carried[source].to(h.dtype)
        if point.reads:
            past = self._past.get(name)
            self._seen[name] = h if past is None else torch.cat([past, h], 1)
        here = [number for number in point.edits if number in self._masks]
        if len(here) == 1:
            h = self._with_one(name, here[0], h)
        elif here:
            h = self._with_several(name, here, h)
        for change in point.after:
            h = change(h)
        return h

    def _with_one(self, name: str, number: int, h: Tensor) -> Tensor:
        """Return the activation h of a hook point after a single operation (compiled edit): the
        usual case, without a sum."""
        one = self.plan.operations[number]
        whole = len(one.rows) == len(h)
        mine = h if whole else h[one.index]
        added = self._difference(number, mine)
        if whole:
            new = (h + added).to(h.dtype)
        else:
            new = h.clone()  # rows without edits stay the same bits
            new[one.index] = (mine + added).to(h.dtype)
        self._note(name, one, added, mine)
        if self._points[name].leaves:
            self._carried[name] = torch.zeros_like(h)
            self._carried[name][one.index] = added.to(h.dtype)
        return new

    def _with_several(self, name: str, numbers: Sequence[int], h: Tensor) -> Tensor:
        """Return the activation h of a hook point after several operations (compiled edits), whose
        changes are all computed from the same h and summed."""
        total = torch.zeros_like(h, dtype=self.plan.operations[numbers[0]].directions.dtype)
        mids: Tensor | None = None
        for number in numbers:
            one = self.plan.operations[number]
            added = self._difference(number, h[one.index])
            total[one.index] += added
            if self._points[name].leaves:
                mids = torch.zeros_like(total) if mids is None else mids
                mids[one.index] += added
        if mids is not None:
            self._carried[name] = mids
        new = h.clone()
        for number in numbers:
            one = self.plan.operations[number]
            new[one.index] = (h[one.index] + total[one.index]).to(h.dtype)
            self._note(name, one, total[one.index], h[one.index])
        return new

    def _difference(self, number: int, h: Tensor) -> Tensor:
        """Return the change of the stream h by one operation (compiled edit) at the new tokens,
        with its mask and gate applied."""
        one, mask = self.plan.operations[number], self._masks[number]
        x = self._rows_of(one, one.reads)
        if one.mode.kind == "direction" and one.named is not None:
            h = self.plan.lm.process(one.writes, h, self.plan.processing)
        added = one.difference(h, x, self._n, self.start)
        if mask is not None:
            added = added * mask
        gate_x = self._rows_of(one, one.gate_reads)
        return added if gate_x is None else added * one.gate_mask(gate_x, self._n)

    def _read_ahead(self, tokens: Tensor) -> None:
        """Run the clean model on the shown rows before the edited forward pass and store its
        activations, where an edit needs them in advance."""
        if self._read_first:
            keep = {name: make_recording_edit(self._ahead, name) for name in self._read_first}
            self._clean_passes.forward(tokens, keep, last=True)

    def _rows_of(self, one: EditOperation, hooks: tuple[str, ...]) -> Tensor | None:
        """Return the activations at `hooks` from which an operation (compiled edit) computes its
        change or gate: those of its own rows, or of their clean twins where the edit reads the
        clean model; None where it needs none."""
        if not hooks:
            return None
        if one.reads_ahead and hooks == one.reads:
            names = [plans.canonical_point(self.plan.lm, hook) for hook in hooks]
            return self._processed(hooks, [self._ahead[name] for name in names])[one.index]
        rows = [self.plan.twins[row] for row in one.rows] if one.clean else one.index
        return self._reading(hooks, one)[rows]

    def _reading(self, hooks: Sequence[str], one: EditOperation | None = None) -> Tensor:
        """Return the activations that this edited forward pass has stored at hook points, processed
        and concatenated as a dictionary reads them.

        InputError where the model has not computed one of them yet.
        """
        found = []
        for hook in hooks:
            name = plans.canonical_point(self.plan.lm, hook)
            if name not in self._seen:
                writes = one.writes if one else "the last hook"
                instead = (
                    "let the edit read the clean model's activations (read: clean)"
                    if len(hooks) > 1
                    else "choose a feature that is read earlier"
                )
                raise InputError(
                    f"The model computes {hook} after {writes}, so an edit there cannot depend on "
                    f"it: {instead}."
                )
            found.append(self._seen[name])
        return self._processed(hooks, found)

    def _processed(self, hooks: Sequence[str], found: Sequence[Tensor]) -> Tensor:
        """Return raw activations of an edited forward pass, processed as the dictionaries expect
        (such as with folded norms) and concatenated over the hook points."""
        processing = self.plan.processing
        if processing != NO_PROCESSING:
            pairs = zip(hooks, found, strict=True)
            found = [self.plan.lm.process(hook, h, processing) for hook, h in pairs]
        return join_sites(found)

    def _remember(self) -> None:
        """Keep the activations of whole sequences from one edited forward pass to the next, for
        dictionaries whose features' activations depend on earlier tokens."""
        used = [*self._watched]
        used += [named for one in self.plan.operations for named in (one.named, one.gate) if named]
        for one in used:
            if one.dictionary.needs_sequence:
                for hook in one.dictionary.read_hooks:
                    name = plans.canonical_point(self.plan.lm, hook)
                    if name in self._seen:
                        self._past[name] = self._seen[name]

    def _from_twins(self, h: Tensor) -> Tensor:
        """Return activations in which each edited row has the values of its clean twin, for frozen
        attention patterns and MLPs."""
        new = h.clone()
        new[list(self.plan.twins)] = h[list(self.plan.twins.values())]
        return new

    def _note(self, name: str, one: EditOperation, added: Tensor, h: Tensor) -> None:
        """Record the relative change of the stream, ‖Δh‖/‖h‖, that an operation (compiled edit)
        makes at a hook point."""
        hook = self.plan.operations[self._points[name].edits[0]].writes  # one name for one point
        length = vector_norm(h, dim=-1).clamp_min(torch.finfo(h.dtype).tiny)
        size = one.fixed_length if added is one.fixed else None
        size = vector_norm(added, dim=-1) if size is None else size
        self._shift.setdefault(hook, []).append((one, size / length))


def _acts_everywhere(edit: Edit) -> bool:
    """Return whether an edit, apart from its gate, acts with full strength at every counted
    token."""
    return (
        replace(edit.where, gate=None, threshold=0.0) == EditCondition()
        and edit.when == EditSchedule()
    )


def _watched_feature(plan: EditPlan, number: int) -> NamedFeatures:
    """Return one watched feature of the edit plan, such that its activation can be read in each
    forward pass."""
    feature = plan.watched[number]
    ids = torch.tensor([feature.index], device=plan.lm.placement.device)
    return NamedFeatures(plan.dictionaries[feature.dictionary], ids)
