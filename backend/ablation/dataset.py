"""An ablation over a data set: mean effects with intervals over prompts, a null beside them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from backend.ablation.asked import Asked
from backend.ablation.intervals import estimate, removed
from backend.ablation.laying import Laid, lay_out
from backend.ablation.means import Means
from backend.ablation.null import compared, draw
from backend.ablation.trial import Tick, blocks, settled, whole
from backend.engine import LocalEngine
from feature_store.errors import InputError

CLEAR = 3.0
"""Standard errors by which the clean difference must exceed 0 before a share of it is told."""


def rows(
    engine: LocalEngine, laid: Laid, asked: Asked, means: Means | None = None
) -> Iterator[np.ndarray]:
    """Blocks of [prompts 4 + singles]: target clean and ablated, loss clean and ablated (nats), and
    the target with each part away alone where there are several."""
    singles = asked.parts if len(asked.parts) > 1 else ()
    for _, block in blocks(engine, laid, asked, means):
        columns = [*block.values, *block.losses(), *(block.alone(part) for part in singles)]
        yield torch.stack([column.double().cpu() for column in columns], dim=1).numpy()


@torch.no_grad()
def over(
    engine: LocalEngine, asked: Asked, means: Means | None = None, tick: Tick | None = None
) -> dict[str, Any]:
    """The answer as plain data. `tick` hears prompts done. InputError as `ablate`."""
    asked.check()
    laid = lay_out(engine, asked.cases, asked.how, asked.positions)
    total, done = len(laid) * (1 + asked.controls), 0
    parts = []
    for block in rows(engine, laid, asked, means):
        parts.append(block)
        done += len(block)
        if tick:
            tick(done, total)
    found = np.concatenate(parts)
    if not np.isfinite(found[:, :2]).all():
        raise InputError("The model's logits are not numbers here. Try another dtype or prompts.")
    labels = [case.label for case in asked.cases]
    answer = {
        "target": "logit_diff" if laid.target.against is not None else "log_prob",
        "how": asked.how,
        "n": len(found),
        "values": np.round(found[:, :2], 6).tolist(),
        **summary(found, asked),
        "by_label": [
            {"label": label, **summary(found[[one == label for one in labels]], asked)}
            for label in dict.fromkeys(labels)
        ]
        if any(labels)
        else [],
        "null": None,
    }
    if asked.controls:
        answer["null"] = null(engine, laid, asked, answer, means, tick)
    return answer


def summary(found: np.ndarray, asked: Asked) -> dict[str, Any]:
    """Means over some of the prompts: the target before, after, the change; the loss; each part."""
    clean, ablated = found[:, 0], found[:, 1]
    told = found[~np.isnan(found[:, 2:4]).any(1)]
    alone = dict(zip(asked.parts, found[:, 4:].T, strict=False)) or {asked.parts[0]: ablated}
    return {
        "clean": estimate(clean[:, None], seed=asked.seed),
        "ablated": estimate(ablated[:, None], seed=asked.seed),
        "effect": estimate((ablated - clean)[:, None], seed=asked.seed),
        "removed": share(found, asked),
        "loss": estimate((told[:, 3:4] - told[:, 2:3]), seed=asked.seed) if len(told) else None,
        "features": [
            {"part": str(part), **estimate((gone - clean)[:, None], seed=asked.seed)}
            for part, gone in alone.items()
        ],
    }


def share(found: np.ndarray, asked: Asked) -> dict[str, Any] | None:
    """How much of the logit difference is gone; None where there is none to speak of."""
    clean, n = found[:, 0], len(found)
    if not asked.cases[0].wrong or n < 2:
        return None
    if clean.mean() <= CLEAR * clean.std(ddof=1) / np.sqrt(n):
        return None
    return estimate(found[:, :2], removed, asked.seed)


def null(
    engine: LocalEngine,
    laid: Laid,
    asked: Asked,
    answer: dict[str, Any],
    means: Means | None,
    tick: Tick | None,
) -> dict[str, Any] | None:
    """The same with matched sets of other active features; None where there can be none."""
    drawn = draw(engine, laid, asked.parts, asked.controls, asked.seed)
    if drawn is None:
        return None
    effects: list[float] = []
    done, total = len(laid), len(laid) * (1 + len(drawn.sets))
    for one in drawn.sets:
        gone = away(engine, laid, replace(asked, parts=one), means)
        effects.append(gone - answer["clean"]["value"])
        done += len(laid)
        if tick:
            tick(done, total)
    return compared(answer["effect"]["value"], effects, drawn.note) | {
        "sets": [[str(part) for part in one] for one in drawn.sets]
    }


def away(engine: LocalEngine, laid: Laid, asked: Asked, means: Means | None) -> float:
    """Mean target with the parts away together."""
    found = [
        some.target(ablation.without(asked.parts, whole(some.prompts)))
        for _, some, ablation in settled(engine, laid, asked, means)
    ]
    return float(torch.cat(found).double().mean())
