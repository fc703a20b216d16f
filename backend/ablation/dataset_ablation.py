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
from backend.ablation.bootstrap_intervals import bootstrap_estimate, relative_reduction
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

MIN_CLEAN_STANDARD_ERRORS = 3.0
"""Number of standard errors by which the mean clean logit difference must exceed 0 before a removed
share is reported.
"""


def measure_dataset_rows(
    engine: LocalEngine,
    laid: TargetedPrompts,
    asked: AblationRequest,
    means: FeatureMeans | None = None,
) -> Iterator[np.ndarray]:
    """Yield blocks of per-prompt measurements of a data set ablation, each [prompts, 4 + single
    parts].

    The columns are the target clean and ablated, the loss clean and ablated (nats), and, if there
    are several parts, the target with each part ablated alone.
    """
    singles = asked.parts if len(asked.parts) > 1 else ()
    for _, block in ablate_blocks(engine, laid, asked, means):
        columns = [*block.values, *block.losses(), *(block.alone(part) for part in singles)]
        yield torch.stack([column.double().cpu() for column in columns], dim=1).numpy()


@torch.no_grad()
def ablate_dataset(
    engine: LocalEngine,
    asked: AblationRequest,
    means: FeatureMeans | None = None,
    tick: AblationProgress | None = None,
) -> dict[str, Any]:
    """Ablate parts on every prompt of a data set and return mean effects, by label as well, as
    plain data.

    `tick` is called with the number of prompts done and the total. Raises InputError as
    `ablate_prompts` does, and if logits are not finite.
    """
    asked.check()
    laid = prepare_prompts(engine, asked.cases, asked.how, asked.positions)
    total, done = len(laid) * (1 + asked.controls), 0
    parts = []
    for block in measure_dataset_rows(engine, laid, asked, means):
        parts.append(block)
        done += len(block)
        if tick:
            tick(done, total)
    found = np.concatenate(parts)
    if not np.isfinite(found[:, :2]).all():
        raise InputError(
            "The model's logits are not finite here. Try another dtype or other prompts."
        )
    labels = [case.label for case in asked.cases]
    answer = {
        "target": "logit_diff" if laid.target.against is not None else "log_prob",
        "how": asked.how,
        "n": len(found),
        "values": np.round(found[:, :2], 6).tolist(),
        **summarize_effects(found, asked),
        "by_label": [
            {"label": label, **summarize_effects(found[[one == label for one in labels]], asked)}
            for label in dict.fromkeys(labels)
        ]
        if any(labels)
        else [],
        "null": None,
    }
    if asked.controls:
        answer["null"] = ablate_controls(engine, laid, asked, answer, means, tick)
    return answer


def summarize_effects(found: np.ndarray, asked: AblationRequest) -> dict[str, Any]:
    """Return the means over a data set's prompts of the clean target, the ablated target, the
    effect, the change of loss and the effect of each part, with 95 % intervals.
    """
    clean, ablated = found[:, 0], found[:, 1]
    told = found[~np.isnan(found[:, 2:4]).any(1)]
    alone = dict(zip(asked.parts, found[:, 4:].T, strict=False)) or {asked.parts[0]: ablated}
    return {
        "clean": bootstrap_estimate(clean[:, None], seed=asked.seed),
        "ablated": bootstrap_estimate(ablated[:, None], seed=asked.seed),
        "effect": bootstrap_estimate((ablated - clean)[:, None], seed=asked.seed),
        "removed": removed_share(found, asked),
        "loss": bootstrap_estimate((told[:, 3:4] - told[:, 2:3]), seed=asked.seed)
        if len(told)
        else None,
        "features": [
            {"part": str(part), **bootstrap_estimate((gone - clean)[:, None], seed=asked.seed)}
            for part, gone in alone.items()
        ],
    }


def removed_share(found: np.ndarray, asked: AblationRequest) -> dict[str, Any] | None:
    """Return the share of the mean logit difference that the ablation removes over the data set.

    None where the target is no logit difference, or the clean difference is not clearly above 0.
    """
    clean, n = found[:, 0], len(found)
    if not asked.cases[0].wrong or n < 2:
        return None
    if clean.mean() <= MIN_CLEAN_STANDARD_ERRORS * clean.std(ddof=1) / np.sqrt(n):
        return None
    return bootstrap_estimate(found[:, :2], relative_reduction, asked.seed)


def ablate_controls(
    engine: LocalEngine,
    laid: TargetedPrompts,
    asked: AblationRequest,
    answer: dict[str, Any],
    means: FeatureMeans | None,
    tick: AblationProgress | None,
) -> dict[str, Any] | None:
    """Ablate matched sets of random active features over the data set and compare their effects
    with the measured one.

    None where no matching features exist.
    """
    drawn = draw_control_sets(engine, laid, asked.parts, asked.controls, asked.seed)
    if drawn is None:
        return None
    effects: list[float] = []
    done, total = len(laid), len(laid) * (1 + len(drawn.sets))
    for one in drawn.sets:
        gone = mean_ablated_target(engine, laid, replace(asked, parts=one), means)
        effects.append(gone - answer["clean"]["value"])
        done += len(laid)
        if tick:
            tick(done, total)
    return compare_with_controls(answer["effect"]["value"], effects, drawn.note) | {
        "sets": [[str(part) for part in one] for one in drawn.sets]
    }


def mean_ablated_target(
    engine: LocalEngine, laid: TargetedPrompts, asked: AblationRequest, means: FeatureMeans | None
) -> float:
    """Return the mean target over the data set with all parts of the request ablated together."""
    found = [
        some.target(ablation.without(asked.parts, set_last_positions(some.prompts)))
        for _, some, ablation in prepare_ablations(engine, laid, asked, means)
    ]
    return float(torch.cat(found).double().mean())
