"""Edge weights of a sparse feature circuit: the part of one node's effect that goes through another
node along direct paths.

The weight of the edge from u to v is ∂m/∂v · ∂v/∂u · Δu (Marks et al. 2024): Δu takes u to its
baseline, and ∂v/∂u is the gate of v times its encoder row, at the gates of the clean run and along
the paths that pass no other dictionary. Only kept nodes have edges; one backward pass serves a
batch of targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.hook_gradients import compute_hook_gradients
from backend.circuits.batch_size import limit_batch_size
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.feature_changes import decoder_gains
from backend.circuits.frozen_model import FrozenModel
from backend.circuits.node_baselines import DictionaryOnPrompts, NodeBaselines
from backend.circuits.node_effects import CountProgress
from backend.circuits.node_table import NodeTable
from backend.circuits.segmented_forward import SegmentedForward, run_segmented_forward
from backend.circuits.subset_encoder import encode_feature_subset
from backend.model.language_model import LanguageModel

RECORDED_COPIES = 32
"""Maximum number of prompt copies in one recorded pass that computes edge weights."""
PROMPT_BLOCK = 16
"""Number of prompts whose edge weights are computed at once."""


@dataclass(frozen=True, eq=False)
class EdgeWeights:
    """Edge weights between the kept nodes of a sparse feature circuit on every prompt; the last row
    of targets is the target metric."""

    by_prompt: Float[Tensor, "prompts targets sources"]
    """Edge weights [prompt, target, source], in the units of the target metric."""

    @cached_property
    def mean(self) -> Float[Tensor, "targets sources"]:
        """Return the edge weights [target, source] averaged over prompts."""
        return self.by_prompt.mean(0, dtype=torch.double)

    @property
    def n(self) -> int:
        """Return the number of prompts that the edge weights were computed on."""
        return len(self.by_prompt)


@dataclass(frozen=True, eq=False)
class KeptNodes:
    """Kept nodes of one dictionary on one block of prompts, between which edges are computed: their
    rows in the node table, their changes to the baseline and their gradients."""

    rows: Int[Tensor, "m"]
    slot: Int[Tensor, "m"]
    column: Int[Tensor, "m"]
    """Index of a kept node's feature in `ids`; −1 for an error term."""
    ids: Int[Tensor, "k"]
    change: Float[Tensor, "batch pos k"]
    """Change of each kept feature to its baseline (baseline minus activation) at every token."""
    gradient: Float[Tensor, "batch pos k"]
    """Gradient ∂m/∂v of the target metric with respect to each kept feature at every token, along
    all paths."""
    output_gradient: Float[Tensor, "batch pos d_out"]
    """Gradient of the target metric at the output hook point of the kept nodes' dictionary."""


def compute_edge_weights(
    lm: LanguageModel,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    table: NodeTable,
    on_progress: CountProgress | None = None,
) -> EdgeWeights:
    """Compute the weights of all edges between the nodes of the table, and from them to the target
    metric (the last row)."""
    n = len(table)
    found = torch.zeros(len(examples), n + 1, n)
    done = 0
    blocks = list(examples.iterate_blocks(limit_batch_size(lm, examples, PROMPT_BLOCK)))
    for i, block in enumerate(blocks):
        sites = baselines.read_dictionaries(block)
        kept = read_kept_nodes(lm, sites, block, table)
        each = compute_edges_by_prompt(lm, sites, block, kept, n)
        for first, rows in each:
            last = first + rows.shape[0]
            found[done : done + len(block), first:last] = rows.transpose(0, 1).float()
            if on_progress:
                on_progress(i * (n + 1) + last, len(blocks) * (n + 1))
        done += len(block)
    return EdgeWeights(found)


def read_kept_nodes(
    lm: LanguageModel,
    sites: Sequence[DictionaryOnPrompts],
    block: CircuitPromptSet,
    table: NodeTable,
) -> list[KeptNodes]:
    """Return for each dictionary the kept nodes between which edges run, with their changes to the
    baseline and the gradients of the target metric on the clean run."""
    hooks = list(dict.fromkeys(site.dictionary.hook_out for site in sites))
    g = compute_hook_gradients(lm, block.batch.prompts.tokens, hooks, block.batch.target).gradients
    return [
        _read_dictionary_nodes(site, g[site.dictionary.hook_out], k, table)
        for k, site in enumerate(sites)
    ]


@torch.no_grad()
def _read_dictionary_nodes(
    site: DictionaryOnPrompts, g: Tensor, k: int, table: NodeTable
) -> KeptNodes:
    """Read one dictionary's kept nodes for the edge weights: their changes to the baseline, and the
    gradient `g` with respect to each."""
    d, x = site.dictionary, site.activations.x
    rows = (table.which == k).nonzero()[:, 0]
    slot, feature = table.slot[rows], table.feature[rows]
    ids = feature[feature >= 0].unique().to(x.device)
    column = torch.where(feature >= 0, torch.searchsorted(ids.cpu(), feature), -1)
    base = site.baseline.feature_values(ids, d.d_sae)[site.baseline.at.clamp_min(0)]
    change = (base - encode_feature_subset(d, ids, x)) * (site.slot >= 0)[..., None]
    slope = (g * decoder_gains(d, x)) @ d.coder.W_dec[ids].T
    return KeptNodes(rows, slot, column, ids, change, slope, g)


def compute_edges_by_prompt(
    lm: LanguageModel,
    sites: Sequence[DictionaryOnPrompts],
    block: CircuitPromptSet,
    kept: Sequence[KeptNodes],
    n: int,
    frozen_model: FrozenModel | None = None,
) -> list[tuple[int, Float[Tensor, "targets batch sources"]]]:
    """Compute the edge weights between all `n` nodes of the node table on each prompt of a block,
    in batches of targets: a list of (index of the first target, weights [target, prompt, source]).
    Target `n` is the target metric."""
    copies = max(1, min(n + 1, limit_batch_size(lm, block, RECORDED_COPIES) // len(block)))
    with torch.enable_grad():
        tape = run_segmented_forward(lm, sites, block, copies, frozen_model)
        reads = [
            _read_node_activations(tape, k, site, one)
            for k, (site, one) in enumerate(zip(sites, kept, strict=False))
        ]
    whose = {int(row): (k, j) for k, one in enumerate(kept) for j, row in enumerate(one.rows)}
    found = []
    for first in range(0, n + 1, copies):
        targets = range(first, min(first + copies, n + 1))
        scalar = torch.zeros((), device=sites[0].slot.device)
        for copy, target in enumerate(targets):
            rows = slice(copy * len(block), (copy + 1) * len(block))
            if target == n:
                scalar = scalar + tape.value[rows].sum()
            else:
                k, j = whose[target]
                scalar = scalar + weighted_node_value(sites[k], kept[k], j, reads[k], rows)
        if scalar.requires_grad:
            g = torch.autograd.grad(scalar, tape.leaves, retain_graph=True, allow_unused=True)
        else:  # no dictionary writes before these targets
            g = (None,) * len(tape.leaves)
        found.append((first, _gather_edge_weights(sites, kept, g, len(targets), len(block), n)))
    return found


def _read_node_activations(
    tape: SegmentedForward, k: int, site: DictionaryOnPrompts, kept: KeptNodes
) -> tuple[Tensor, Tensor | None]:
    """Return the activations of the kept features and the error terms as differentiable tensors,
    whose gradients become edge weights."""
    d, x = site.dictionary, tape.x[k]
    values = encode_feature_subset(d, kept.ids, x)
    missed = tape.h[k] - d.reconstruct(x) if (kept.column < 0).any() else None
    return values, missed


def weighted_node_value(
    site: DictionaryOnPrompts,
    kept: KeptNodes,
    j: int,
    reads: tuple[Tensor, Tensor | None],
    rows: slice,
) -> Tensor:
    """Return ∂m/∂v · v summed over a node's tokens: a scalar whose gradients are the edge weights
    into the node v.

    `reads` are the differentiable activations and error terms of the node's dictionary, and `rows`
    is the slice of one copy of the prompts.
    """
    values, missed = reads
    here = site.slot == int(kept.slot[j])
    column = int(kept.column[j])
    if column < 0:
        assert missed is not None, "an error term is kept"
        return (missed[rows] * kept.output_gradient * here[..., None]).sum()
    return (values[rows, :, column] * kept.gradient[..., column] * here).sum()


@torch.no_grad()
def _gather_edge_weights(
    sites: Sequence[DictionaryOnPrompts],
    kept: Sequence[KeptNodes],
    gradients: Sequence[Tensor | None],
    copies: int,
    batch: int,
    n: int,
) -> Float[Tensor, "copies batch n"]:
    """Convert the gradients at all dictionaries' outputs to edge weights from every kept node:
    [target, prompt, source]."""
    found = torch.zeros(copies, batch, n, dtype=torch.double)
    for site, one, slope in zip(sites, kept, gradients, strict=True):
        if slope is None or not len(one.rows):
            continue
        slope = slope[: copies * batch].view(copies, batch, *slope.shape[1:])
        pulled = slope * decoder_gains(site.dictionary, site.activations.x)
        each = pulled @ site.dictionary.coder.W_dec[one.ids].T * one.change
        missed = (slope * site.error_change()).sum(-1, keepdim=True)
        columns_ = torch.cat([each, missed], -1)  # the error term is the last column, index -1
        slots = int(site.slot.max()) + 1
        inside = torch.nn.functional.one_hot(site.slot.clamp_min(0), max(slots, 1))
        inside = (inside * (site.slot >= 0)[..., None]).to(columns_.dtype)
        summed = torch.einsum("cbpk,bps->cbsk", columns_, inside)
        known = one.slot < slots
        rows = one.rows[known]
        found[:, :, rows] = summed[:, :, one.slot[known], one.column[known]].double().cpu()
    return found
