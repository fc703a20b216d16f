"""Complement ablation: everything outside a set of nodes goes to its baseline in one edited forward
pass, and the target is measured.

Features and error terms are recomputed from the edited activations, so that the value of a kept
node follows from the kept nodes below it. All layers with a dictionary are edited. Tokens without a
slot (BOS) stay as in the model, and so does what a dictionary computes without features (its bias,
a skip connection).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.part_edits import canonical_hook
from backend.circuits.batch_size import limit_batch_size
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.feature_changes import decode_without_features, scale_decoder_sum
from backend.circuits.frozen_model import FrozenModel
from backend.circuits.node_baselines import PROMPTS_READ_AT_ONCE, DictionaryOnPrompts, NodeBaselines
from backend.circuits.node_effects import CountProgress
from backend.circuits.node_table import NodeTable
from backend.circuits.records import ErrorTermMode
from backend.circuits.subset_encoder import TILE_NUMBERS, encode_feature_subset
from backend.dictionaries.base import Dictionary
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel

COPIES_AT_ONCE = 256
"""Maximum number of prompt copies in one forward pass of a complement ablation."""


@dataclass(frozen=True, eq=False)
class NodeSetMembers:
    """Members of several node sets in one dictionary, as masks over features [set, slot, feature]
    and error terms [set, slot]; a complement ablation sets all other nodes to their baselines."""

    ids: Int[Tensor, "k"]
    features: Bool[Tensor, "sets slots k"]
    errors: Bool[Tensor, "sets slots"]

    @classmethod
    def of(
        cls, table: NodeTable, sets: Bool[Tensor, "sets n"], which: int, slots: int
    ) -> "NodeSetMembers":
        """Return one dictionary's members of node sets that are given as masks over a node table,
        for a complement ablation."""
        mine = ((table.which == which) & sets.any(0)).nonzero()[:, 0]
        ours, slot, feature = sets[:, mine], table.slot[mine], table.feature[mine]
        ids, place = feature[feature >= 0].unique(return_inverse=True)
        kept = torch.zeros(len(sets), slots, len(ids), dtype=torch.bool)
        kept[:, slot[feature >= 0], place] = ours[:, feature >= 0]
        errors = torch.zeros(len(sets), slots, dtype=torch.bool)
        errors[:, slot[feature < 0]] = ours[:, feature < 0]
        return cls(ids, kept, errors)

    def to(self, device: torch.device) -> "NodeSetMembers":
        return NodeSetMembers(*(t.to(device) for t in (self.ids, self.features, self.errors)))


class ComplementAblation:
    """Complement ablation: runs prompts with everything outside a node set at its baseline, for
    many node sets at once."""

    def __init__(
        self,
        lm: LanguageModel,
        baselines: NodeBaselines,
        examples: CircuitPromptSet,
        frozen_model: FrozenModel | None = None,
    ) -> None:
        """Create the ablation; `frozen_model` freezes the attention patterns and norm scales to
        those of its one prompt."""
        self.lm = lm
        self.baselines = baselines
        self.examples = examples
        self.frozen_model = frozen_model

    @cached_property
    def blocks(self) -> list[tuple[CircuitPromptSet, list[DictionaryOnPrompts]]]:
        return [
            (block, self.baselines.read_dictionaries(block))
            for block in self.examples.iterate_blocks(self._limit_rows(PROMPTS_READ_AT_ONCE))
        ]

    @cached_property
    def clean(self) -> Float[np.ndarray, "prompts"]:
        """Return the target metric on every prompt of the complement ablation without any edit."""
        with torch.no_grad():
            found = [
                block.batch.target(self.lm.logits(block.batch.prompts.tokens))
                for block, _ in self.blocks
            ]
        return torch.cat(found).double().cpu().numpy()

    def run(
        self,
        table: NodeTable,
        sets: Bool[Tensor, "sets n"],
        errors: ErrorTermMode = "count",
        *,
        without: bool = False,
        on_progress: CountProgress | None = None,
    ) -> Float[np.ndarray, "sets prompts"]:
        """Measure the target with the complement of each node set at its baseline; with `without`,
        the set itself is ablated instead.

        `errors` says whether error terms count as nodes, are always kept, or are always ablated.
        """
        found = np.empty((len(sets), len(self.examples)))
        done, total = 0, len(sets) * len(self.examples)
        first = 0
        for block, sites in self.blocks:
            for chosen in self._split_into_batches(table, sets, block):
                values = self._run_batch(table, sets[chosen], block, sites, errors, without)
                found[chosen, first : first + len(block)] = values.double().cpu().numpy()
                done += values.numel()
                if on_progress:
                    on_progress(done, total)
            first += len(block)
        return found

    def _limit_rows(self, most: int) -> int:
        return limit_batch_size(self.lm, self.examples, most)

    def _split_into_batches(
        self, table: NodeTable, sets: Tensor, block: CircuitPromptSet
    ) -> list[slice]:
        """Split the node sets of a complement ablation into batches whose copies of the prompts fit
        one forward pass."""
        widest = max(int(torch.bincount(table.which[sets.any(0)], minlength=1).max()), 1)
        room = TILE_NUMBERS // (widest * block.slot.numel())
        size = max(1, min(room, self._limit_rows(COPIES_AT_ONCE) // len(block)))
        return [slice(begin, begin + size) for begin in range(0, len(sets), size)]

    @torch.no_grad()
    def _run_batch(
        self,
        table: NodeTable,
        sets: Tensor,
        block: CircuitPromptSet,
        sites: Sequence[DictionaryOnPrompts],
        errors: ErrorTermMode,
        without: bool,
    ) -> Float[Tensor, "sets prompts"]:
        """Run the complement ablation of one batch of node sets on one block of prompts and return
        the target: [set, prompt]."""
        edits: dict[str, ActivationEdit] = {}
        for k, site in enumerate(sites):
            members = NodeSetMembers.of(table, sets, k, len(block.names)).to(site.slot.device)
            complement_edit = ComplementEdit(self.lm, site, members, errors, without=without)
            complement_edit.add_to(edits)
        if self.frozen_model is not None:
            edits = self.frozen_model.build_edits({}, [], edits)
        tokens = block.batch.prompts.tokens.repeat(len(sets), 1)
        return block.batch.target(self.lm.logits(tokens, edits)).view(len(sets), -1)


class ComplementEdit:
    """Edit of one dictionary's output in a complement ablation, on one copy of the prompts for each
    node set."""

    def __init__(
        self,
        lm: LanguageModel,
        site: DictionaryOnPrompts,
        members: NodeSetMembers,
        errors: ErrorTermMode,
        *,
        without: bool,
    ) -> None:
        self.lm, self.site, self.members = lm, site, members
        self.without = without
        self.slot = site.slot.repeat(len(members.errors), 1)
        self.counted = self.slot >= 0
        self.own_error = self._kept_error_mask(errors)
        self.read: dict[str, Tensor] = {}

    def add_to(self, edits: dict[str, ActivationEdit]) -> None:
        """Add the complement-ablation edit at the dictionary's output hook point, and a recorder at
        its input hook point if that is another one."""
        d = self.site.dictionary
        reads, writes = canonical_hook(self.lm, d.hook_name), canonical_hook(self.lm, d.hook_out)
        if reads != writes:
            earlier = edits.get(reads)

            def listen(h: Tensor) -> Tensor:
                self.read["x"] = h if earlier is None else earlier(h)
                return self.read["x"]

            edits[reads] = listen
        edits[writes] = self.edit_activation

    def edit_activation(
        self, h: Float[Tensor, "rows pos d_out"]
    ) -> Float[Tensor, "rows pos d_out"]:
        """Return the activation [row, position, d_out] in which every ablated node of the
        dictionary has its baseline."""
        d = self.site.dictionary
        x = self.lm.process(d.hook_name, self.read.pop("x", h), d.processing)
        x, stream = x.to(d.coder.W_dec), h.to(d.coder.W_dec)
        new = self._ablate_members(stream, x) if self.without else self._keep_members(stream, x)
        return torch.where(self.counted[..., None], new.to(h.dtype), h)

    def _keep_members(self, h: Tensor, x: Tensor) -> Tensor:
        """Return the activation after complement ablation: all nodes at their baselines except the
        members of the node set."""
        d, sets = self.site.dictionary, len(self.members.errors)
        baseline = self.site.baseline.appearing_features().sum_decoder_rows(d).repeat(sets, 1, 1)
        base_error = self.site.baseline.error_values().repeat(sets, 1, 1)
        new = (
            decode_without_features(d, x)
            + scale_decoder_sum(d, x, baseline + self._sum_above_baseline(x))
            + base_error
        )
        return self._restore_errors(new, h, x, self.own_error, base_error)

    def _ablate_members(self, h: Tensor, x: Tensor) -> Tensor:
        """Return the activation after the inverse ablation: only the members of the node set at
        their baselines."""
        d, sets = self.site.dictionary, len(self.members.errors)
        base_error = self.site.baseline.error_values().repeat(sets, 1, 1)
        new = h - scale_decoder_sum(d, x, self._sum_above_baseline(x)) + base_error
        # Where the error term stays, subtract the baseline that was added just now.
        gone = ~self.own_error & self.counted
        new = torch.where(gone[..., None], new, new - base_error)
        at = gone.nonzero(as_tuple=True)
        return (
            new.index_put(at, -reconstruction_error(d, h, x, at), accumulate=True)
            if len(at[0])
            else new
        )

    def _sum_above_baseline(self, x: Tensor) -> Float[Tensor, "rows pos d_out"]:
        """Return Σ over the node set's members of (activation − baseline) · decoder row: [row,
        position, d_out]."""
        d, members = self.site.dictionary, self.members
        if not len(members.ids):
            return x.new_zeros(*x.shape[:2], d.coder.W_dec.shape[1])
        sets = len(members.errors)
        own = encode_feature_subset(d, members.ids, x)
        places = self.site.baseline.feature_values(members.ids, d.d_sae)
        base = places[self.site.baseline.at.clamp_min(0)].repeat(sets, 1, 1)
        copy = torch.arange(sets, device=x.device).repeat_interleave(len(self.site.slot))
        kept = members.features[copy[:, None], self.slot.clamp_min(0)]
        return ((own - base) * kept) @ d.coder.W_dec[members.ids]

    def _restore_errors(
        self, new: Tensor, h: Tensor, x: Tensor, kept: Tensor, base_error: Tensor
    ) -> Tensor:
        at = kept.nonzero(as_tuple=True)
        if len(at[0]):
            more = reconstruction_error(self.site.dictionary, h, x, at) - base_error[at]
            new = new.index_put(at, more, accumulate=True)
        return new

    def _kept_error_mask(self, errors: ErrorTermMode) -> Bool[Tensor, "rows pos"]:
        """Return the mask [row, position] of the tokens whose error term keeps its own recomputed
        value in the complement ablation and does not go to its baseline."""
        if errors != "count":
            return self.counted if errors == "keep" else torch.zeros_like(self.counted)
        sets = len(self.members.errors)
        copy = torch.arange(sets, device=self.slot.device).repeat_interleave(len(self.site.slot))
        member = self.members.errors[copy[:, None], self.slot.clamp_min(0)]
        return (~member if self.without else member) & self.counted


def reconstruction_error(
    d: Dictionary, h: Tensor, x: Tensor, at: tuple[Tensor, ...]
) -> Float[Tensor, "tokens d_out"]:
    """Return the error terms that a complement ablation recomputes from edited activations: the
    activation `h` minus the dictionary's reconstruction, at the tokens that `at` indexes, [token,
    d_out]."""
    if d.needs_sequence:
        return (h - d.reconstruct(x))[at]
    xs, hs = x[at], h[at]
    size = max(1, TILE_NUMBERS // d.d_sae)
    parts = [d.reconstruct(one) for one in xs.split(size)]
    return hs - torch.cat(parts) if parts else hs
