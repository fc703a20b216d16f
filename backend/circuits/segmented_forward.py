"""Segmented forward pass: one pass that is cut at every dictionary, with its autograd graph between
the cuts.

What each dictionary writes is replaced by a leaf of the graph, so that a gradient with respect to a
leaf follows the paths that pass no other dictionary. Skip connections of transcoders are not nodes
and stay connected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.part_edits import canonical_hook
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.feature_changes import decode_without_features
from backend.circuits.frozen_model import FrozenModel
from backend.circuits.node_baselines import DictionaryOnPrompts
from backend.model.fast_forward import ActivationEdit, compose_edits
from backend.model.language_model import LanguageModel


@dataclass(eq=False)
class SegmentedForward:
    """Record of a segmented forward pass, which is cut at every dictionary: inputs, activations and
    autograd leaves at the cuts. Rows are `copies` blocks of the prompts, one after another."""

    leaves: list[Tensor]
    """Leaf of the autograd graph that cuts the forward pass at each dictionary's output: [row,
    position, d_out]."""
    value: Tensor
    """Target metric of each row of the segmented forward pass; empty until it has run."""
    x: dict[int, Tensor] = field(default_factory=dict)
    """Processed input of each dictionary in the segmented forward pass, [row, position, d_in], by
    its index."""
    h: dict[int, Tensor] = field(default_factory=dict)
    """Activation of the model at each dictionary's output hook point in the segmented forward pass,
    [row, position, d_out]."""


def run_segmented_forward(
    lm: LanguageModel,
    sites: Sequence[DictionaryOnPrompts],
    prompts: CircuitPromptSet,
    copies: int = 1,
    frozen_model: FrozenModel | None = None,
    output_changes: Mapping[int, Float[Tensor, "rows pos d_out"]] | None = None,
) -> SegmentedForward:
    """Run copies of the prompts through the model in a segmented forward pass: at every dictionary,
    the clean activation plus a leaf of the autograd graph replaces the output.

    `frozen_model` freezes attention patterns and norm scales (one prompt only); `output_changes`
    are added to the outputs of dictionaries, by index.
    """
    rows = copies * len(prompts)
    leaves = [
        torch.zeros(rows, *site.activations.h.shape[1:], device=site.slot.device).requires_grad_()
        for site in sites
    ]
    tape = SegmentedForward(leaves, torch.empty(0))
    live: dict[str, Tensor] = {}
    made: dict[str, list[ActivationEdit]] = {}
    for k, site in enumerate(sites):
        more = None if output_changes is None else output_changes.get(k)
        cut = _DictionaryCut(lm, tape, k, site, copies, more, live if frozen_model else None)
        if cut.reads != cut.writes and not frozen_model:
            made.setdefault(cut.reads, []).append(cut.record_input)
        made.setdefault(cut.writes, []).insert(0, cut.replace_output)
    edits = {hook: compose_edits(edits) for hook, edits in made.items()}
    if frozen_model is not None:
        wanted = [lm.canonical(site.dictionary.hook_name) for site in sites]
        edits = frozen_model.build_edits(live, list(dict.fromkeys(wanted)), edits)
    tokens = prompts.batch.prompts.tokens.repeat(copies, 1)
    tape.value = prompts.batch.target(lm.logits(tokens, edits))
    return tape


class _DictionaryCut:
    """Cut of a segmented forward pass at one dictionary: records its input, and replaces its output
    by the clean activation plus a leaf of the autograd graph."""

    def __init__(
        self,
        lm: LanguageModel,
        tape: SegmentedForward,
        k: int,
        site: DictionaryOnPrompts,
        copies: int,
        output_changes: Tensor | None,
        live: dict[str, Tensor] | None,
    ) -> None:
        d = site.dictionary
        self.lm, self.tape, self.k, self.d, self.output_changes = lm, tape, k, d, output_changes
        self.reads, self.writes = canonical_hook(lm, d.hook_name), canonical_hook(lm, d.hook_out)
        self.live = live
        self.clean = site.activations.h.repeat(copies, 1, 1)

    def record_input(self, h: Tensor) -> Tensor:
        x = self.lm.process(self.d.hook_name, h, self.d.processing)
        self.tape.x[self.k] = x.to(self.d.coder.W_dec)
        return h

    def replace_output(self, h: Tensor) -> Tensor:
        if self.reads == self.writes:
            self.record_input(h)
        elif self.live is not None:
            self.record_input(self.live[self.lm.canonical(self.d.hook_name)])
        self.tape.h[self.k] = h.to(self.d.coder.W_dec)
        # Use the clean activation, not that of this pass: a change below must not pass a cut.
        new = self.clean.to(h.dtype) + self.tape.leaves[self.k].to(h.dtype)
        if self.d.W_skip is not None:
            base = decode_without_features(self.d, self.tape.x[self.k])
            new = new + (base - self._clean_floor(base)).to(h.dtype)
        return new if self.output_changes is None else new + self.output_changes.to(h.dtype)

    def _clean_floor(self, base: Tensor) -> Tensor:
        return base.detach() if self.output_changes is None else base
