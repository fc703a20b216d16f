"""Exact ablation: one node away at a time, everything else recomputed. The ground truth."""

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
    """What taking single nodes away does."""

    effect: Float[Tensor, "m"]
    """The target's change."""
    spread: Float[Tensor, "m"]
    """How many of the vocabulary's logits move, as a share: (Σ|Δ|)² ÷ (V · ΣΔ²) over the centred
    changes at the read position; 1 when all move alike, 1/V when one does. NaN when none moves."""


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
    said: Callable[[int], None] | None = None,
    rows: int = PROMPT_COPIES,
) -> ExactEffects:
    """Set single nodes (numbers into the reading's active nodes) to their baseline.

    `metric(row)` reads one prompt, as `Target.only` does; `last` is where the logits' spread is
    read. `said` hears after each pass how many nodes are done, and may raise to stop.
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
            if said:
                said(done)
    return ExactEffects(effects, spreads)


def logit_spread(change: Float[Tensor, "m vocab"]) -> Float[Tensor, "m"]:
    """(Σ|Δ|)² ÷ (V · ΣΔ²) of changes centred over the vocabulary: a participation ratio."""
    centred = change - change.mean(-1, keepdim=True)
    return centred.abs().sum(-1) ** 2 / (centred.shape[-1] * centred.pow(2).sum(-1))


def _run_single_ablations(
    lm: LanguageModel,
    reading: DictionaryActivations,
    nodes: Int[Tensor, "m"],
    baseline: Float[Tensor, "n"],
    prompt: Int[Tensor, "1 pos"],
) -> Float[Tensor, "m pos vocab"]:
    """Logits of copies of a prompt, each with one node at its baseline."""
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
