"""Controls for an ablation: sets of random active features, matched to the ablated ones, whose
effects form the null distribution.

Features are matched on the prompts themselves, in the number of tokens on which they are active and
in the size of the change ‖Δh‖; matched by harvest statistics alone, many controls would be silent
on these prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from backend.ablation.model_parts import ModelPart
from backend.ablation.prompt_targets import TargetedPrompts
from backend.attribution.dictionary_activations import read_dictionary_activations
from backend.engine import LocalEngine
from backend.steering.matched_controls import MATCHING_FACTORS, largest_column_factors


@dataclass(frozen=True)
class ControlSets:
    """Sets of control features to ablate for comparison with an ablation: random active features
    that match the ablated ones in activity on the prompts.
    """

    sets: tuple[tuple[ModelPart, ...], ...]
    factor: float
    """Largest ratio between a feature and its control, in active tokens and in ‖Δh‖."""

    @property
    def note(self) -> str:
        """Sentence for the page that says how many sets of control features were ablated, and how
        closely they match the ablated features.
        """
        return (
            f"{len(self.sets)} sets of random active features of the same dictionaries, within "
            f"{self.factor:g}× in tokens and in ‖Δh‖ on these prompts"
        )


@dataclass(frozen=True, eq=False)
class PromptActivity:
    """How often and how strongly one dictionary's features are active on the prompts, by which
    controls are matched to ablated features.
    """

    feature: np.ndarray
    tokens: np.ndarray
    """Number of tokens on which each feature is active."""
    change_norm: np.ndarray
    """Mean ‖Δh‖ of ablating each feature, over the tokens on which it is active, in the
    dictionary's units.
    """


@torch.no_grad()
def measure_prompt_activity(
    engine: LocalEngine, targeted: TargetedPrompts, name: str
) -> PromptActivity:
    """Measure which features of a dictionary are active on the prompts, how often and how strongly,
    as candidates for control features.
    """
    one = engine.dictionaries[name]
    tokens, total = torch.zeros(one.d_sae), torch.zeros(one.d_sae, dtype=torch.double)
    for _, batch in targeted.batches(engine.lm.d_vocab):
        (reading,) = read_dictionary_activations(
            engine.lm, [one], batch.prompts.tokens, batch.prompts.counted
        )
        feature, value = reading.active.feature.cpu(), reading.active.value.cpu().double().abs()
        tokens.index_add_(0, feature, torch.ones(len(feature)))
        total.index_add_(0, feature, value)
    there = tokens > 0
    ids = there.nonzero()[:, 0]
    norm = one.W_dec[ids.to(one.W_dec.device)].float().norm(dim=-1).cpu().double()
    return PromptActivity(
        ids.numpy(), tokens[there].numpy(), (total[there] / tokens[there] * norm).numpy()
    )


def draw_control_sets(
    engine: LocalEngine, targeted: TargetedPrompts, parts: Sequence[ModelPart], n: int, seed: int
) -> ControlSets | None:
    """Draw `n` sets of control features, with one matched control for each feature of `parts`.

    None where a part is no feature, is never active on the prompts, or has no matching feature.
    """
    if not parts or any(part.kind != "feature" for part in parts):
        return None
    names = dict.fromkeys(part.dictionary for part in parts)
    active = {name: measure_prompt_activity(engine, targeted, name) for name in names}
    rng = np.random.default_rng(seed)
    found: list[list[ModelPart]] = [[] for _ in range(n)]
    worst = 1.0
    for part in parts:
        near = find_matched_features(part, active, parts, n + len(parts))
        if near is None:
            return None
        ids, factor = near
        worst = max(worst, factor)
        for chosen in found:
            taken = {p.index for p in chosen if p.dictionary == part.dictionary}
            free = [int(i) for i in ids if int(i) not in taken]
            if not free:
                return None
            chosen.append(ModelPart("feature", part.dictionary, free[rng.integers(len(free))]))
    different = dict.fromkeys(tuple(sorted(one)) for one in found)
    return ControlSets(tuple(different), worst)


def find_matched_features(
    part: ModelPart, active: Mapping[str, PromptActivity], parts: Sequence[ModelPart], n: int
) -> tuple[np.ndarray, float] | None:
    """Find features that match one ablated feature in prompt activity, and the ratio within which
    they match.

    The smallest of FACTORS that leaves `n` features is used, else the widest that leaves any; None
    if none is left.
    """
    here = active[part.dictionary]
    own = np.flatnonzero(here.feature == part.index)
    if not len(own):
        return None
    asked = [p.index for p in parts if p.dictionary == part.dictionary]
    kept = ~np.isin(here.feature, asked)
    values = np.column_stack([here.tokens, here.change_norm]).astype(float)
    ratios = np.where(kept, largest_column_factors(values, values[own[0]]), np.inf)
    for factor in MATCHING_FACTORS:
        if (ratios <= factor).sum() >= n:
            return here.feature[ratios <= factor], factor
    near = ratios <= MATCHING_FACTORS[-1]
    return (here.feature[near], MATCHING_FACTORS[-1]) if near.any() else None


def compare_with_controls(effect: float, controls: Sequence[float], note: str) -> dict[str, Any]:
    """Compare an ablation's effect with the controls' effects: their 95th percentile by size, and
    the number that are as large.
    """
    sizes = np.abs(np.array(controls))
    return {
        "effects": list(controls),
        "n": len(controls),
        "note": note,
        "percentile_95": float(np.quantile(sizes, 0.95)),
        "as_large": int((sizes >= abs(effect)).sum()),
    }
