"""Ablation over a data set of prompts: mean effects with bootstrap confidence intervals, by label,
and the effects of matched controls.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from backend.ablation.ablation_controls import compare_with_controls, draw_control_sets
from backend.ablation.ablation_requests import AblationRequest
from backend.ablation.harvest_means import FeatureMeans
from backend.ablation.prompt_ablation import (
    AblationProgress,
    ablate_blocks,
    prepare_ablations,
    set_last_positions,
)
from backend.ablation.prompt_targets import TargetedPrompts, prepare_prompts
from backend.engine import LocalEngine
from feature_store.errors import InputError
from feature_store.statistics.bootstrap_t import estimate_mean, estimate_ratio

MIN_CLEAN_STANDARD_ERRORS = 3.0
"""Number of standard errors by which the mean clean logit difference must exceed 0 before a removed
share is reported.
"""


def measure_dataset_rows(
    engine: LocalEngine,
    targeted: TargetedPrompts,
    request: AblationRequest,
    means: FeatureMeans | None = None,
) -> Iterator[np.ndarray]:
    """Yield blocks of per-prompt measurements of a data set ablation, each [prompts, 4 + single
    parts].

    The columns are the target clean and ablated, the loss clean and ablated (nats), and, if there
    are several parts, the target with each part ablated alone.
    """
    singles = request.parts if len(request.parts) > 1 else ()
    for _, block in ablate_blocks(engine, targeted, request, means):
        columns = [*block.values, *block.losses(), *(block.alone(part) for part in singles)]
        yield torch.stack([column.double().cpu() for column in columns], dim=1).numpy()


@torch.no_grad()
def ablate_dataset(
    engine: LocalEngine,
    request: AblationRequest,
    means: FeatureMeans | None = None,
    tick: AblationProgress | None = None,
) -> dict[str, Any]:
    """Ablate parts on every prompt of a data set and return mean effects, by label as well, as
    plain data.

    `tick` is called with the number of prompts done and the total. Raises InputError as
    `ablate_prompts` does, and if logits are not finite.
    """
    request.check()
    targeted = prepare_prompts(engine, request.cases, request.how, request.positions)
    total, done = len(targeted) * (1 + request.controls), 0
    parts = []
    for block in measure_dataset_rows(engine, targeted, request, means):
        parts.append(block)
        done += len(block)
        if tick:
            tick(done, total)
    found = np.concatenate(parts)
    if not np.isfinite(found[:, :2]).all():
        raise InputError(
            "The model's logits are not finite here. Try another dtype or other prompts."
        )
    labels = [case.label for case in request.cases]
    answer = {
        "target": "logit_diff" if targeted.target.against is not None else "log_prob",
        "how": request.how,
        "n": len(found),
        "values": np.round(found[:, :2], 6).tolist(),
        **summarize_effects(found, request),
        "by_label": [
            {"label": label, **summarize_effects(found[[one == label for one in labels]], request)}
            for label in dict.fromkeys(labels)
        ]
        if any(labels)
        else [],
        "null": None,
    }
    if request.controls:
        answer["null"] = ablate_controls(engine, targeted, request, answer, means, tick)
    return answer


def summarize_effects(found: np.ndarray, request: AblationRequest) -> dict[str, Any]:
    """Return the means over a data set's prompts of the clean target, the ablated target, the
    effect, the change of loss and the effect of each part, with 95 % intervals.
    """
    clean, ablated = found[:, 0], found[:, 1]
    with_loss = found[~np.isnan(found[:, 2:4]).any(1)]
    alone = dict(zip(request.parts, found[:, 4:].T, strict=False)) or {request.parts[0]: ablated}
    return {
        "clean": estimate_mean(clean, request.seed).to_record(),
        "ablated": estimate_mean(ablated, request.seed).to_record(),
        "effect": estimate_mean(ablated - clean, request.seed).to_record(),
        "removed": removed_share(found, request),
        "loss": estimate_mean(with_loss[:, 3] - with_loss[:, 2], request.seed).to_record()
        if len(with_loss)
        else None,
        "features": [
            {
                "part": str(part),
                **estimate_mean(ablated_alone - clean, request.seed).to_record(),
            }
            for part, ablated_alone in alone.items()
        ],
    }


def removed_share(found: np.ndarray, request: AblationRequest) -> dict[str, Any] | None:
    """Return the share of the mean logit difference that the ablation removes over the data set.

    None where the target is no logit difference, or the clean difference is not clearly above 0.
    """
    clean, n = found[:, 0], len(found)
    if not request.cases[0].wrong or n < 2:
        return None
    if clean.mean() <= MIN_CLEAN_STANDARD_ERRORS * clean.std(ddof=1) / np.sqrt(n):
        return None
    return estimate_ratio(clean - found[:, 1], clean, request.seed).to_record()


def ablate_controls(
    engine: LocalEngine,
    targeted: TargetedPrompts,
    request: AblationRequest,
    answer: dict[str, Any],
    means: FeatureMeans | None,
    tick: AblationProgress | None,
) -> dict[str, Any] | None:
    """Ablate matched sets of random active features over the data set and compare their effects
    with the measured one.

    None where no matching features exist.
    """
    drawn = draw_control_sets(engine, targeted, request.parts, request.controls, request.seed)
    if drawn is None:
        return None
    effects: list[float] = []
    done, total = len(targeted), len(targeted) * (1 + len(drawn.sets))
    for one in drawn.sets:
        controls_target = mean_ablated_target(engine, targeted, replace(request, parts=one), means)
        effects.append(controls_target - answer["clean"]["value"])
        done += len(targeted)
        if tick:
            tick(done, total)
    return compare_with_controls(answer["effect"]["value"], effects, drawn.note) | {
        "sets": [[str(part) for part in one] for one in drawn.sets]
    }


def mean_ablated_target(
    engine: LocalEngine,
    targeted: TargetedPrompts,
    request: AblationRequest,
    means: FeatureMeans | None,
) -> float:
    """Return the mean target over the data set with all parts of the request ablated together."""
    found = [
        some.target(ablation.ablated_logits(request.parts, set_last_positions(some.prompts)))
        for _, some, ablation in prepare_ablations(engine, targeted, request, means)
    ]
    return float(torch.cat(found).double().mean())
