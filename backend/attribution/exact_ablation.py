"""Exact ablation of single active features: one feature at a time goes to its baseline and the
model is run again. These measurements are the ground truth for effect estimates."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.attribution.dictionary_activations import DictionaryActivations
from backend.attribution.effect_estimates import PROMPT_COPIES
from backend.attribution.target_metric import MetricFunction
from backend.model.language_model import LanguageModel


class ExactEffects(NamedTuple):
    """Effects of features measured by exact ablation of one feature at a time."""

    effect: Float[Tensor, "m"]
    """Change of the target metric for each exactly ablated feature."""
    spread: Float[Tensor, "m"]
    """Share of the vocabulary whose logits move when the feature is ablated: (Σ|Δ|)² ÷ (V · ΣΔ²)
    over the centred changes at the last position. It is 1 when all logits move equally, 1/V when
    one logit moves, and NaN when none moves."""


@torch.no_grad()
def ablate_active_features(
    lm: LanguageModel,
    reading: DictionaryActivations,
    nodes: Int[Tensor, "m"],
    baseline: Float[Tensor, "n"],
    tokens: Int[Tensor, "batch pos"],
    metric: Callable[[int], MetricFunction],
    last: Int[Tensor, "batch"],
    *,
    on_progress: Callable[[int], None] | None = None,
    rows: int = PROMPT_COPIES,
) -> ExactEffects:
    """Measure the effect of single active features by exact ablation: set one feature at a time to
    its baseline and run the model.

    `nodes` are indices into the dictionary's active features. `metric(row)` returns the metric of
    one prompt, as `TargetMetric.only` does; `last` is the position of each prompt at which the
    spread over logits is measured. The callback `on_progress` receives the number of features done
    after each pass and may raise an exception to stop.
    """
    effects, spreads, done = torch.zeros(len(nodes)), torch.zeros(len(nodes)), 0
    for row in range(len(tokens)):
        mine = torch.nonzero(reading.active.row[nodes] == row)[:, 0]
        if not len(mine):
            continue
        prompt, at, of = tokens[row : row + 1], int(last[row]), metric(row)
        clean = lm.logits(prompt)
        for part in mine.split(rows):
            logits = _run_single_ablations(lm, reading, nodes[part], baseline, prompt)
            here = part.cpu()
            effects[here] = (of(logits) - of(clean)).cpu().float()
            spreads[here] = logit_spread(logits[:, at].float() - clean[:, at].float()).cpu()
            done += len(part)
            if on_progress:
                on_progress(done)
    return ExactEffects(effects, spreads)


def logit_spread(change: Float[Tensor, "m vocab"]) -> Float[Tensor, "m"]:
    """Return the participation ratio (Σ|Δ|)² ÷ (V · ΣΔ²) of logit changes that are centred over the
    vocabulary: the share of logits that an exact ablation moves."""
    centred = change - change.mean(-1, keepdim=True)
    return centred.abs().sum(-1) ** 2 / (centred.shape[-1] * centred.pow(2).sum(-1))


def _run_single_ablations(
    lm: LanguageModel,
    reading: DictionaryActivations,
    nodes: Int[Tensor, "m"],
    baseline: Float[Tensor, "n"],
    prompt: Int[Tensor, "1 pos"],
) -> Float[Tensor, "m pos vocab"]:
    """Run copies of one prompt, each with one active feature ablated exactly (set to its baseline),
    and return the logits: [feature, position, vocabulary]."""
    active, d = reading.active, reading.dictionary
    position = active.position[nodes]
    x = reading.x[active.row[nodes], position]
    z = (baseline[nodes] - active.value[nodes])[:, None] * d.coder.W_dec[active.feature[nodes]]
    _, undo = d.norm.into(x)
    change = undo(z) - undo(torch.zeros_like(z))
    copies = torch.arange(len(nodes), device=change.device)

    def edit(h: Tensor) -> Tensor:
        new = h.clone()
        new[copies, position] += change.to(h.dtype)
        return new

    return lm.logits(prompt.expand(len(nodes), -1), {d.hook_out: edit})
