"""Estimated effects of all nodes of a circuit's dictionaries: one number for each feature and slot.

An effect is the change of the target, in nats or logits, when only that node goes to its baseline:
negative for a node that the target needs. Attribution patching multiplies the change by the
gradient on the clean run. Integrated gradients average the gradient along a path (Marks et al.
2024, arXiv:2403.19647, eq. 3). If all nodes of a dictionary move along one path, each estimate is
taken while the others are half ablated, and comes out about half as large as the single ablation
that it stands for. The nodes are therefore distributed over several paths, which costs as much as
more steps on one path. Strong nodes that an earlier estimate found get a path each
(`effect_refinement.py`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.attribution.effect_estimates import PROMPT_COPIES
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.circuits.batch_size import limit_batch_size
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.feature_changes import FeatureChanges, deactivate_features, scale_decoder_sum
from backend.circuits.node_baselines import DictionaryOnPrompts, NodeBaselines
from backend.model.language_model import LanguageModel

AttributionMethod = Literal["gradient", "integrated"]
INTEGRATION_PATHS = 8
FIRST_STEPS, MOST_STEPS = 2, 54
"""Number of midpoints of an integration path: at first, and at most. The number is tripled, which
keeps the old midpoints, until the sum of the attributions fits."""
SMALL_GAP_SHARE = 0.5
"""Share of the allowed gap: integration paths whose gaps together stay below it get no more
steps."""
GAP_LIMIT = 0.02
"""Maximum gap between the sums of the attributions along integration paths and the measured
changes, as a fraction of the latter."""
HASH_MULTIPLIER = 0x9E3779B1
"""Knuth's multiplicative hash, which distributes nodes over integration paths."""

CountProgress = Callable[[int, int], None]
"""Callback for the estimation of node effects that receives (done, total) and may raise an
exception to stop."""


@dataclass(frozen=True, eq=False)
class NodeEffects:
    """Estimated effects of one dictionary's nodes (a feature or the error term at one slot) on the
    target, averaged over prompts, ordered by slot and then by feature."""

    name: str
    slot: Int[Tensor, "n"]
    feature: Int[Tensor, "n"]
    """Index of each node's feature; −1 for the error term of the node's slot."""
    effect: Float[Tensor, "n"]
    """Estimated effect of each node, averaged over prompts."""
    value: Float[Tensor, "n"]
    """Value of each node: the activation summed over the slot's tokens, or the norm of an error
    term, averaged over prompts."""
    active: Bool[Tensor, "n"]
    """Whether the node is nonzero on any clean prompt."""
    moved: float | None
    """Measured change of the target, summed over the paths of integrated gradients; None for plain
    gradients."""
    gap: float | None
    """Distance between the attributions and the measured changes: Σ|difference| ÷ Σ|change| over
    paths and prompts."""
    steps: int

    @property
    def error_share(self) -> float:
        """Return Σ|effects of error terms| ÷ Σ|all effects| of the dictionary; NaN when there are
        no effects."""
        size = self.effect.abs()
        return float(size[self.feature < 0].sum() / size.sum())


@dataclass(frozen=True, eq=False)
class BlockEffects:
    """Estimated node effects of one dictionary on one block of prompts, before the blocks are
    merged."""

    site: DictionaryOnPrompts
    effect: list[Tensor]
    """Effects of the features that are deactivated, and of the features that appear at the
    baseline."""
    error: Float[Tensor, "batch pos"]
    moved: Float[Tensor, "paths batch"] | None = None
    summed: Float[Tensor, "paths batch"] | None = None
    steps: int = 0


def estimate_node_effects(
    lm: LanguageModel,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    method: AttributionMethod = "integrated",
    paths: int = INTEGRATION_PATHS,
    on_progress: CountProgress | None = None,
    *,
    alone: Mapping[str, Int[Tensor, "k"]] | None = None,
    only: Collection[str] | None = None,
) -> list[NodeEffects]:
    """Estimate the effects of all nodes of every dictionary, in the order of
    `baselines.dictionaries`.

    `alone` gives, by dictionary name, the keys (`node_keys`) of nodes that get an integration path
    each, fewer than `paths`. `only` names the dictionaries to estimate; without it all are.
    """
    alone = alone or {}
    blocks = list(examples.iterate_blocks(limit_batch_size(lm, examples, PROMPT_COPIES // 4)))
    wanted = [d.name for d in baselines.dictionaries if only is None or d.name in only]
    found: list[list[BlockEffects]] = [[] for _ in wanted]
    for i, block in enumerate(blocks):
        sites = [
            site for site in baselines.read_dictionaries(block) if site.dictionary.name in wanted
        ]
        if method == "gradient":
            parts = estimate_block_by_gradient(lm, sites, block)
        else:
            parts = []
            for k, site in enumerate(sites):
                parts.append(
                    estimate_block_by_integration(
                        lm, site, block, paths, alone.get(site.dictionary.name)
                    )
                )
                if on_progress:
                    on_progress(i * len(sites) + k + 1, len(blocks) * len(sites))
        for kept, part in zip(found, parts, strict=True):
            kept.append(part)
        if on_progress and method == "gradient":
            on_progress(i + 1, len(blocks))
    return [merge_block_effects(parts, len(examples)) for parts in found]


def estimate_block_by_gradient(
    lm: LanguageModel, sites: Sequence[DictionaryOnPrompts], block: CircuitPromptSet
) -> list[BlockEffects]:
    """Estimate node effects on one block of prompts by attribution patching: one forward and one
    backward pass for all dictionaries."""
    hooks = list(dict.fromkeys(site.dictionary.hook_out for site in sites))
    g = compute_hook_gradients(lm, block.batch.prompts.tokens, hooks, block.batch.target).gradients
    return [multiply_changes_and_gradient(site, g[site.dictionary.hook_out]) for site in sites]


def multiply_changes_and_gradient(
    site: DictionaryOnPrompts, g: Float[Tensor, "batch pos d_out"]
) -> BlockEffects:
    """Return the effects of all nodes of one dictionary: change to the baseline times the gradient
    `g` at its output hook point."""
    d, pulled = site.dictionary, site.activations.decoder_sum_gradient(g)
    moves = [deactivate_features(site.activations, site.slot), site.baseline.appearing_features()]
    return BlockEffects(
        site,
        [one.multiply_gradients(d, pulled) for one in moves],
        (site.error_change() * g).sum(-1),
    )


@dataclass(frozen=True, eq=False)
class IntegrationPath:
    """Path of integrated gradients: some nodes of a dictionary, and the change of the activation
    when they reach their baselines."""

    deactivated: Bool[Tensor, "leaving"]
    appearing: Bool[Tensor, "arriving"]
    errors: Bool[Tensor, "batch pos"]
    change: Float[Tensor, "batch pos d_out"]


def split_into_integration_paths(
    site: DictionaryOnPrompts, paths: int, alone: Int[Tensor, "k"] | None = None
) -> list[IntegrationPath]:
    """Distribute the nodes of a dictionary over integration paths; the tokens and prompts of a node
    stay on one path."""
    d, leave, arrive = (
        site.dictionary,
        deactivate_features(site.activations, site.slot),
        site.baseline.appearing_features(),
    )
    keys = [node_keys(one.slot[one.place], one.feature, d.d_sae) for one in (leave, arrive)]
    error_keys = node_keys(site.slot, torch.full_like(site.slot, -1), d.d_sae)
    whose = [assign_integration_paths(one, paths, alone) for one in keys]
    error_path = assign_integration_paths(error_keys, paths, alone)
    missed = site.error_change()
    found = []
    for k in range(paths):
        deactivated_here, appearing_here, errors = (
            whose[0] == k,
            whose[1] == k,
            (error_path == k) & (site.slot >= 0),
        )
        z = leave.select(deactivated_here).sum_decoder_rows(d) + arrive.select(
            appearing_here
        ).sum_decoder_rows(d)
        change = scale_decoder_sum(d, site.activations.x, z) + missed * errors[..., None]
        found.append(IntegrationPath(deactivated_here, appearing_here, errors, change))
    return found


def node_keys(
    slot: Int[Tensor, "..."], feature: Int[Tensor, "..."], d_sae: int
) -> Int[Tensor, "..."]:
    """Return one integer for each node (slot, feature) of a dictionary; an error term has the
    feature −1."""
    return slot * (d_sae + 1) + feature + 1


def assign_integration_paths(
    key: Int[Tensor, "..."], paths: int, alone: Int[Tensor, "k"] | None = None
) -> Int[Tensor, "..."]:
    """Return the integration path of each node: its own path for the keys in `alone` (k < paths),
    else one by a hash of the key."""
    if alone is None or not len(alone):
        return ((key * HASH_MULTIPLIER) % (1 << 32) >> 15) % paths
    order, place = alone.sort()
    at = torch.searchsorted(order, key).clamp_max(len(order) - 1)
    shared = assign_integration_paths(key, paths - len(alone)) + len(alone)
    return torch.where(order[at] == key, place[at], shared)


def estimate_block_by_integration(
    lm: LanguageModel,
    site: DictionaryOnPrompts,
    block: CircuitPromptSet,
    paths: int = INTEGRATION_PATHS,
    alone: Int[Tensor, "k"] | None = None,
) -> BlockEffects:
    """Estimate node effects on one block by integrated gradients at midpoints, with as many steps
    as the sums need (at most MOST_STEPS).

    Paths whose sums already fit the measured changes get no more steps while others still do.
    """
    with torch.no_grad():
        integration_paths = split_into_integration_paths(site, paths, alone)
    moved = _measure_path_changes(lm, site, block, integration_paths)
    device = site.slot.device
    mean = torch.zeros(
        paths, *integration_paths[0].change.shape, device=device
    )  # mean gradient of each path
    open_ = torch.arange(paths, device=device)
    steps, done = FIRST_STEPS, 0
    while True:
        fresh = [(k + 0.5) / steps for k in range(steps) if not done or k % 3 != 1]
        more = _sum_path_gradients(
            lm, site, block, [integration_paths[k] for k in open_.tolist()], fresh
        )
        mean[open_] = (mean[open_] * done + more) / steps
        sums = torch.stack(
            [(p.change * g).sum((1, 2)) for p, g in zip(integration_paths, mean, strict=True)]
        )
        off, allowed = (sums - moved).abs().sum(1), GAP_LIMIT * float(moved.abs().sum())
        if float(off.sum()) <= allowed or 3 * steps > MOST_STEPS:
            break
        least, order = off[open_].sort()
        budget = SMALL_GAP_SHARE * allowed - float(off.sum() - off[open_].sum())
        open_ = open_[order[~(least.cumsum(0) <= budget)]]
        done, steps = steps, 3 * steps
    return _collect_block_effects(site, integration_paths, mean, moved, sums, steps)


def _sum_path_gradients(
    lm: LanguageModel,
    site: DictionaryOnPrompts,
    block: CircuitPromptSet,
    integration_paths: Sequence[IntegrationPath],
    shares: Sequence[float],
) -> Float[Tensor, "paths batch pos d_out"]:
    """Return the gradient summed over several points of every integration path, from which node
    effects are estimated."""
    hook, tokens = site.dictionary.hook_out, block.batch.prompts.tokens
    points = [(k, share) for share in shares for k in range(len(integration_paths))]
    found = torch.zeros(
        len(integration_paths), *integration_paths[0].change.shape, device=site.slot.device
    )
    per_pass = max(1, limit_batch_size(lm, block, PROMPT_COPIES) // len(tokens))
    for begin in range(0, len(points), per_pass):
        now = points[begin : begin + per_pass]
        change = torch.cat([share * integration_paths[k].change for k, share in now])
        rows = tokens.repeat(len(now), 1)
        g = compute_hook_gradients(
            lm, rows, [hook], block.batch.target, {hook: _add_to_stream(change)}
        ).gradients[hook]
        where = torch.tensor([k for k, _ in now], device=found.device)
        found.index_add_(0, where, g.view(len(now), *found.shape[1:]).to(found.dtype))
    return found


@torch.no_grad()
def _measure_path_changes(
    lm: LanguageModel,
    site: DictionaryOnPrompts,
    block: CircuitPromptSet,
    integration_paths: Sequence[IntegrationPath],
) -> Float[Tensor, "paths batch"]:
    """Measure the change of the target at the end of every integration path, which the node effects
    must add up to: [path, prompt]."""
    hook, tokens, target = site.dictionary.hook_out, block.batch.prompts.tokens, block.batch.target
    clean = target(lm.logits(tokens))
    per_pass = max(1, limit_batch_size(lm, block, PROMPT_COPIES) // len(tokens))
    found = []
    for begin in range(0, len(integration_paths), per_pass):
        now = integration_paths[begin : begin + per_pass]
        change = torch.cat([integration_path.change for integration_path in now])
        logits = lm.logits(tokens.repeat(len(now), 1), {hook: _add_to_stream(change)})
        found.append(target(logits).view(len(now), -1) - clean)
    return torch.cat(found)


def _collect_block_effects(
    site: DictionaryOnPrompts,
    integration_paths: Sequence[IntegrationPath],
    g: Float[Tensor, "paths batch pos d_out"],
    moved: Tensor,
    summed: Tensor,
    steps: int,
) -> BlockEffects:
    """Convert the mean gradients along all integration paths to the node effects on one block of
    prompts."""
    d, missed = site.dictionary, site.error_change()
    leave, arrive = (
        deactivate_features(site.activations, site.slot),
        site.baseline.appearing_features(),
    )
    deactivated_here, appearing_here = (
        torch.zeros_like(leave.amount),
        torch.zeros_like(arrive.amount),
    )
    error = torch.zeros(site.slot.shape, device=g.device, dtype=missed.dtype)
    for integration_path, slope in zip(integration_paths, g, strict=True):
        pulled = site.activations.decoder_sum_gradient(slope)
        deactivated_here[integration_path.deactivated] = leave.select(
            integration_path.deactivated
        ).multiply_gradients(d, pulled)
        appearing_here[integration_path.appearing] = arrive.select(
            integration_path.appearing
        ).multiply_gradients(d, pulled)
        error += (missed * slope).sum(-1) * integration_path.errors
    return BlockEffects(site, [deactivated_here, appearing_here], error, moved, summed, steps)


def merge_block_effects(parts: Sequence[BlockEffects], n: int) -> NodeEffects:
    """Merge the block effects of one dictionary to node effects; effects and activations become
    means over `n` prompts."""
    keys, effect, value = [], [], []
    d_sae = parts[0].site.dictionary.d_sae
    for part in parts:
        site = part.site
        leave, arrive = (
            deactivate_features(site.activations, site.slot),
            site.baseline.appearing_features(),
        )
        for moves, found, worth in (
            (leave, part.effect[0], -leave.amount),
            (arrive, part.effect[1], torch.zeros_like(arrive.amount)),
        ):
            keys.append(_change_keys(moves, d_sae))
            effect.append(found)
            value.append(worth)
        inside = site.slot >= 0
        keys.append(node_keys(site.slot[inside], torch.full_like(site.slot[inside], -1), d_sae))
        effect.append(part.error[inside])
        value.append(site.error.norm(dim=-1)[inside])
    key, which = torch.cat(keys).unique(return_inverse=True)
    sums = [
        torch.zeros(len(key), dtype=torch.double, device=key.device).index_add_(
            0, which, x.double()
        )
        for x in (torch.cat(effect), torch.cat(value))
    ]
    here = torch.zeros_like(key).index_add_(0, which, (torch.cat(value) != 0).long()) > 0
    nodes = NodeEffects(
        parts[0].site.dictionary.name,
        key // (d_sae + 1),
        key % (d_sae + 1) - 1,
        sums[0] / n,
        sums[1] / n,
        here,
        None,
        None,
        parts[0].steps,
    )
    return _add_integration_gap(nodes, parts, n)


def _change_keys(moves: FeatureChanges, d_sae: int) -> Tensor:
    return node_keys(moves.slot[moves.place], moves.feature, d_sae)


def _add_integration_gap(nodes: NodeEffects, parts: Sequence[BlockEffects], n: int) -> NodeEffects:
    """Add to a dictionary's node effects the measured change of the target at the ends of the
    integration paths, and the relative gap between it and the summed attributions."""
    moved = [part.moved for part in parts if part.moved is not None]
    summed = [part.summed for part in parts if part.summed is not None]
    if not moved:
        return nodes
    measured, attributed = torch.cat(moved, 1), torch.cat(summed, 1)
    size = float(measured.abs().sum())
    return replace(
        nodes,
        moved=float(measured.sum()) / n,
        gap=float((attributed - measured).abs().sum()) / size if size else 0.0,
        steps=max(part.steps for part in parts),
    )


def _add_to_stream(change: Tensor):
    return lambda h: h + change.to(h.dtype)
