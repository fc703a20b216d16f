"""Edits compiled to tensor operations: one operation for the rows of a batch that share an edit
apart from its strength.

An operation gives the difference that an edit makes to the stream: decode(f') - decode(f) for modes
that act on activations, so the dictionary's error term stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from backend.dictionaries.base import Dictionary
from backend.interventions.edit_modes import MODES, EditMode
from backend.interventions.named_activations import NamedFeatures
from backend.interventions.records import Edit, EditCondition, EditSchedule
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.hook_sites import HookSite, WriteSite
from feature_store.records import FeatureId


@dataclass(frozen=True, eq=False)
class EditOperation:
    """Compiled edit that acts on one or more rows (texts) of a batch at one hook point: one edit
    for each of `rows`, all alike apart from strength, condition and schedule."""

    edits: tuple[Edit, ...]
    rows: tuple[int, ...]
    mode: EditMode
    reads: tuple[str, ...]
    """Hook points whose activations, side by side, the operation needs; empty for none."""
    writes: str
    """Hook point that the operation changes: one write site of its dictionary."""
    named: NamedFeatures | None
    gate: NamedFeatures | None
    gate_reads: tuple[str, ...]
    """Hook points that the gate's dictionary reads; empty without a gate."""
    directions: Float[Tensor, "k d_out"]
    strength: Float[Tensor, "row 1 1"]
    basis: Tensor | None
    """Reference values of the mode: [k], [k 7] for densities, or [k n] by position."""

    @property
    def clean(self) -> bool:
        """Whether the edits compute their change from the clean model's activations, instead of
        those of the edited model."""
        return self.edits[0].read == "clean"

    @property
    def reads_ahead(self) -> bool:
        """Whether the edits need activations from a clean forward pass of their own before the
        edited one.

        A dictionary with several read sites may read a hook point after one that it writes, so the
        clean activations of all of them must be known in advance.
        """
        return self.clean and len(self.reads) > 1

    @property
    def by_slot(self) -> bool:
        """Whether the edits' reference values differ by token position (mode `resample`: the
        activation at the same position of another prompt)."""
        return bool(self.edits[0].basis.slots)

    @cached_property
    def index(self) -> slice | Tensor:
        """Index of the rows of the batch on which the edits act; a slice where they are neighbours,
        which copies nothing."""
        first, last = self.rows[0], self.rows[-1]
        if self.rows == tuple(range(first, last + 1)):
            return slice(first, last + 1)
        return torch.tensor(self.rows, device=self.directions.device)

    @cached_property
    def fixed(self) -> Float[Tensor, "row 1 d_out"] | None:
        """Change of the stream by the edits where it is the same at every token, [row 1 d_out];
        None where it depends on activations."""
        if self.mode.kind != "shift" or self.reads:
            return None
        return self._codes(None, 1, 0) @ self.directions

    @cached_property
    def fixed_length(self) -> Float[Tensor, "row 1"] | None:
        """Norm, for each row, of the change of the stream that is the same at every token
        (`fixed`); None without one."""
        return None if self.fixed is None else vector_norm(self.fixed, dim=-1)

    def difference(
        self, h: Float[Tensor, "row pos d_out"], x: Tensor | None, n: int, start: int
    ) -> Float[Tensor, "row #pos d_out"]:
        """Return the change that the edits add to the stream h at `n` positions from `start` on,
        before masks, [row pos d_out]; [row 1 d_out] where it is the same at every position.

        `x` is what the dictionary reads there, [row pos d_in], longer at the front where the
        dictionary needs the whole sequence.
        """
        if self.fixed is not None:
            return self.fixed
        scale: Tensor | float = 1.0
        if self.named is not None and x is not None:
            scale = self.named.scale(x[:, -n:])
        if self.mode.kind == "direction":
            along = self.directions[:, None, None] * scale
            own = h.to(self.directions)
            return self.mode.change(own, along, self.strength, self.edits[0].percent)
        return scale * (self._codes(x, n, start) @ self.directions)

    def gate_mask(self, gate_x: Tensor, n: int) -> Float[Tensor, "row pos 1"]:
        """Return a mask of the last `n` positions for edits with a gate: 1 where the gate feature's
        activation exceeds its threshold, else 0."""
        assert self.gate is not None
        found = self.gate.activations(gate_x)[:, -n:] > self.edits[0].where.threshold
        return found.to(self.directions.dtype)

    def _codes(self, x: Tensor | None, n: int, start: int) -> Float[Tensor, "row pos k"]:
        """Return by how much the edits change the activations of their features at `n` positions
        from `start` on, [row pos k]."""
        if self.mode.kind == "shift":
            change = self.mode.change(self.strength, self.basis)
            return change.expand(-1, -1, len(self.directions))
        assert self.named is not None
        assert x is not None
        f = self.named.activations(x)[:, -n:]
        if not self.by_slot:
            return self.mode.change(f, self.strength, self.basis)
        assert self.basis is not None
        known = self.basis[:, start : start + n].T
        change = torch.zeros_like(f)
        change[:, : len(known)] = self.mode.change(f[:, : len(known)], self.strength, known)
        return change


def compile_operations(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], rows: Sequence[Sequence[Edit]]
) -> list[EditOperation]:
    """Compile the edits of all rows of a batch into operations; edits that differ only in strength,
    condition and schedule share one."""
    groups: dict[tuple[Edit, int], list[tuple[int, Edit]]] = {}
    for row, edits in enumerate(rows):
        counts: dict[Edit, int] = {}
        for edit in edits:
            like = _without_strength(edit)
            groups.setdefault((like, counts.get(like, 0)), []).append((row, edit))
            counts[like] = counts.get(like, 0) + 1
    return [
        _compile_operation(lm, dictionaries, members, site)
        for members in groups.values()
        for site in _write_sites(dictionaries, members[0][1])
    ]


def _without_strength(edit: Edit) -> Edit:
    """Return an edit with neutral strength, condition and schedule (only its gate stays), to find
    edits that can share an operation: masks are made row by row."""
    gate = EditCondition(gate=edit.where.gate, threshold=edit.where.threshold)
    return replace(edit, strength=0.0, where=gate, when=EditSchedule())


def _write_sites(dictionaries: Mapping[str, Dictionary], edit: Edit) -> Sequence[HookSite]:
    """Return the hook points that an edit changes: all write sites of its features' dictionary."""
    if edit.vector is not None:
        return (WriteSite(edit.vector.hook, 0, len(edit.vector.values)),)
    return dictionaries[edit.features[0].dictionary].writes


def _compile_operation(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    members: list[tuple[int, Edit]],
    site: HookSite,
) -> EditOperation:
    """Compile edits that are alike, from several rows of a batch, into one operation that acts at
    one write site."""
    edit = members[0][1]
    mode = MODES[edit.mode]
    named = _name_features(lm, dictionaries, edit.features) if edit.features else None
    directions = _edit_directions(lm, edit, named)[:, site.columns]
    strengths = [one.strength for _, one in members]
    strength = directions.new_tensor(strengths).view(-1, 1, 1)
    reads: tuple[str, ...] = ()
    if named is not None and (mode.kind == "code" or named.dictionary.per_token_norm):
        reads = named.dictionary.read_hooks
    gate = edit.where.gate
    gated = None if gate is None else _name_features(lm, dictionaries, (gate,))
    operation = EditOperation(
        edits=tuple(one for _, one in members),
        rows=tuple(row for row, _ in members),
        mode=mode,
        reads=reads,
        writes=site.hook,
        named=named,
        gate=gated,
        gate_reads=() if gated is None else gated.dictionary.read_hooks,
        directions=directions,
        strength=strength,
        basis=_basis_tensor(edit, directions),
    )
    _check_size(operation)
    return operation


def _name_features(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], features: Sequence[FeatureId]
) -> NamedFeatures:
    """Return edited or gate features of one dictionary, such that their activations can be read
    without encoding all features."""
    ids = torch.tensor([feature.index for feature in features], device=lm.placement.device)
    return NamedFeatures(dictionaries[features[0].dictionary], ids)


def _edit_directions(lm: LanguageModel, edit: Edit, named: NamedFeatures | None) -> Tensor:
    """Return the directions along which an edit acts: decoder rows or its steering vector, [k
    d_out]."""
    if named is not None:
        return named.directions
    assert edit.vector is not None
    values = torch.tensor([edit.vector.values], dtype=torch.float64, device=lm.placement.device)
    return values.to(torch.promote_types(lm.placement.dtype, torch.float32))


def _basis_tensor(edit: Edit, like: Tensor) -> Tensor | None:
    """Return the reference values that an edit's mode needs besides the strength (such as maxima,
    means, or activations by position) as a tensor; None without any."""
    basis = edit.basis
    if basis.posterior:
        return like.new_tensor([astuple(one) for one in basis.posterior])
    if basis.slots:
        longest = max(map(len, basis.slots))
        return like.new_tensor([[*slot, *[0.0] * (longest - len(slot))] for slot in basis.slots])
    return like.new_tensor(basis.values) if basis.values else None


def _check_size(operation: EditOperation) -> None:
    """Raise InputError where the strength of an edit is so large that its change would overflow the
    number type of the stream."""
    worst = max((edit.strength for edit in operation.edits), key=abs)
    reach = abs(worst) * float(vector_norm(operation.directions, dim=-1).amax())
    if operation.mode.basis == "max" and operation.basis is not None:
        reach *= float(operation.basis.abs().amax())
    kind = operation.directions.dtype
    if not reach <= torch.finfo(kind).max ** 0.5:
        raise InputError(f"The strength {worst:g} overflows {kind}: choose a smaller one.")
