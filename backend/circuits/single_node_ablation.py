"""Exact ablation of single nodes of a circuit over its prompts: the ground truth for estimated node
effects."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.effect_estimates import PROMPT_COPIES
from backend.circuits.batch_size import limit_batch_size
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.feature_changes import scale_decoder_sum
from backend.circuits.node_baselines import DictionaryOnPrompts, NodeBaselines
from backend.circuits.node_effects import CountProgress
from backend.circuits.subset_encoder import encode_feature_subset
from backend.model.language_model import LanguageModel


@torch.no_grad()
def ablate_single_nodes(
    lm: LanguageModel,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    which: Int[Tensor, "m"],
    slot: Int[Tensor, "m"],
    feature: Int[Tensor, "m"],
    on_progress: CountProgress | None = None,
) -> Float[Tensor, "m"]:
    """Measure effects by exact ablation: the mean change of the target over all prompts when one
    node at a time goes to its baseline.

    `which` gives the index of each node's dictionary in `baselines`; the feature −1 is the slot's
    error term.
    """
    found = torch.zeros(len(which), dtype=torch.double)
    blocks = list(examples.iterate_blocks(limit_batch_size(lm, examples, PROMPT_COPIES // 4)))
    done, total = 0, len(blocks) * len(which)
    for block in blocks:
        tokens, target = block.batch.prompts.tokens, block.batch.target
        clean = target(lm.logits(tokens))
        for k, site in enumerate(baselines.read_dictionaries(block)):
            mine = (which == k).nonzero()[:, 0]
            for some in (
                mine.split(max(1, limit_batch_size(lm, block, PROMPT_COPIES) // len(tokens)))
                if len(mine)
                else ()
            ):
                change = build_ablation_changes(site, slot[some].tolist(), feature[some].tolist())
                rows = tokens.repeat(len(some), 1)
                hook = site.dictionary.hook_out
                logits = lm.logits(rows, {hook: lambda h, c=change: h + c.to(h.dtype)})
                moved = target(logits).view(len(some), -1) - clean
                found[some] += moved.double().sum(1).cpu()
                done += len(some)
                if on_progress:
                    on_progress(done, total)
    return found / len(examples)


def build_ablation_changes(
    site: DictionaryOnPrompts, slots: Sequence[int], features: Sequence[int]
) -> Float[Tensor, "rows pos d_out"]:
    """Return what is added to the activation when single nodes are ablated, [node · prompt,
    position, d_out]: one block of all prompts for each node."""
    d, x, device = site.dictionary, site.activations.x, site.slot.device
    here = site.slot == torch.tensor(slots, device=device)[:, None, None]  # [m batch pos]
    ids = torch.tensor(features, dtype=torch.long, device=device).clamp_min(0)
    own = encode_feature_subset(d, ids, x)
    base = site.baseline.feature_values(ids, d.d_sae)[site.baseline.at.clamp_min(0)]
    amount = ((base - own).permute(2, 0, 1) * here)[..., None]
    z = amount * d.coder.W_dec[ids][:, None, None, :]
    missed = site.error_change()
    found = [
        missed * here[j][..., None] if feature < 0 else scale_decoder_sum(d, x, z[j])
        for j, feature in enumerate(features)
    ]
    return torch.cat(found)
