"""Circuits in bulk: picks, vectors, clusters, and for each cluster its features, taken away."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from backend.ablation.intervals import estimate
from backend.behaviours.grouping import clusters, cosines, tightness, unit
from backend.behaviours.picking import Pick, picked
from backend.behaviours.plan import ClusterPlan
from backend.behaviours.vectors import Prompts, Vectors, batches, prompts, vectors
from backend.engine import LocalEngine
from backend.shift.forward import without
from backend.trunk import Edit
from feature_store.errors import pick
from feature_store.reader import HarvestFile
from feature_store.records import FeatureId

Tick = Callable[[int, int, str], None]
MEMBERS = 40
"""Members of a cluster that are kept in the answer, the most typical first."""
JUDGED = 24
"""Held-out members on which features are taken away."""


def find(
    engine: LocalEngine, file: HarvestFile, plan: ClusterPlan, tick: Tick = lambda *_: None
) -> dict[str, Any]:
    """The answer as plain data; `tick` may raise to stop. InputError for dictionaries that the
    harvest lacks, and where too few tokens are predicted well."""
    names = plan.check().dictionaries or tuple(engine.dictionaries)
    chosen = [pick("dictionary", name, engine.dictionaries) for name in names]
    found = picked(
        engine,
        file,
        plan.tokens,
        plan.loss,
        plan.seed,
        lambda done, total: tick(done, total, "looking for predictions"),
    )
    made = vectors(
        engine,
        file,
        chosen,
        found.picks,
        plan.kept,
        lambda done, total: tick(done, total, "effects of features"),
    )
    tick(0, 1, "clustering")
    some = np.flatnonzero(np.diff(made.effects.indptr) > 0)
    rows = unit(csr_matrix(made.effects[some]))
    labels = clusters(rows, plan.groups(len(some)), plan.method, plan.seed)
    groups: list[list[int]] = [some[labels == i].tolist() for i in range(labels.max() + 1)]
    told = [
        _describe(i, members, rows[labels == i], made, found.picks, plan)
        for i, members in enumerate(groups)
    ]
    _take_away(engine, file, told, groups, found.picks, plan, tick)
    alike = tightness(cosines(rows), labels)
    return {
        "dictionaries": list(names),
        "looked": found.looked,
        "good": found.good,
        "picked": len(found.picks),
        "silent": len(found.picks) - len(some),
        "cosines": {name: x if np.isfinite(x) else None for name, x in alike.items()},
        "clusters": told,
    }


def _describe(
    number: int,
    members: Sequence[int],
    rows: Any,
    made: Vectors,
    picks: Sequence[Pick],
    plan: ClusterPlan,
) -> dict[str, Any]:
    """Members, what they predict, and their features: those of the explain split alone."""
    centre = np.asarray(rows.mean(axis=0)).ravel()
    length = float(np.linalg.norm(centre))
    typical = np.asarray(rows @ centre).ravel() / length if length else np.zeros(len(members))
    order = np.argsort(-typical, kind="stable")
    shown = [members[i] for i in order[:MEMBERS].tolist()]
    explain = [j for j, i in enumerate(members) if picks[i].split == "explain"]
    return {
        "number": number,
        "n": len(members),
        "explain": len(explain),
        "targets": Counter(picks[i].target for i in members).most_common(8),
        "features": _features(made, [members[j] for j in explain], rows[explain], plan.shown),
        "members": [
            {
                "sequence": picks[i].sequence,
                "position": picks[i].position,
                "target": picks[i].target,
                "loss": picks[i].loss,
                "split": picks[i].split,
                "heat": [round(x, 4) for x in made.heat[i]],
            }
            for i in shown
        ],
    }


def _features(made: Vectors, members: Sequence[int], rows: Any, shown: int) -> list[dict[str, Any]]:
    """By falling |weight|, the mean over these members' vectors of length 1: a prediction that is
    certain has small effects, and counts as much as any other. None where there are no members."""
    if not members:
        return []
    weight = np.asarray(rows.mean(axis=0)).ravel()
    part = made.effects[list(members)]
    mean, times = (np.asarray(x.mean(axis=0)).ravel() for x in (part, part != 0))
    names, firsts = list(made.offsets), np.array(list(made.offsets.values()))
    top = np.argsort(-np.abs(weight), kind="stable")[:shown]
    found = []
    for column in top[weight[top] != 0].tolist():
        at = int(np.searchsorted(firsts, column, side="right")) - 1
        found.append(
            {
                "feature": f"{names[at]}/{column - firsts[at]}",
                "weight": float(weight[column]),
                "effect": float(mean[column]),
                "share": float(times[column]),
            }
        )
    return found


def _take_away(
    engine: LocalEngine,
    file: HarvestFile,
    told: list[dict[str, Any]],
    groups: Sequence[Sequence[int]],
    picks: Sequence[Pick],
    plan: ClusterPlan,
    tick: Tick,
) -> None:
    """On each cluster's held-out members: its own features away, and those of another cluster."""
    rng = np.random.default_rng([plan.seed, 1])
    for i, one in enumerate(told):
        tick(i, len(told), "taking features away")
        held = [picks[j] for j in groups[i] if picks[j].split == "score"][:JUDGED]
        mine = helping(one, plan.removed)
        others = [other for other in told if other is not one and helping(other, plan.removed)]
        one["judged"] = None
        if held and mine and others:
            other = others[int(rng.integers(len(others)))]
            theirs = helping(other, plan.removed)
            one["judged"] = {
                "features": [str(f) for f in mine],
                "other": other["number"],
                "own": estimate(away(engine, file, held, mine)[:, None]),
                "others": estimate(away(engine, file, held, theirs)[:, None]),
            }


def helping(one: dict[str, Any], most: int) -> list[FeatureId]:
    """A cluster's features whose removal lowers the prediction, by estimate."""
    found = [row["feature"] for row in one["features"] if row["weight"] < 0]
    return [FeatureId.parse(name) for name in found[:most]]


def away(
    engine: LocalEngine, file: HarvestFile, picks: Sequence[Pick], features: Sequence[FeatureId]
) -> np.ndarray:
    """Measured change of log p(next token), in nats, with all these features zero together."""
    found = np.zeros(len(picks))
    for numbers in batches(picks):
        given = prompts(engine, file, [picks[i] for i in numbers])
        edits = without(engine.lm, engine.dictionaries, features, given.counted)
        found[numbers] = (_target(engine, given, edits) - _target(engine, given, {})).numpy()
    return found


@torch.no_grad()
def _target(engine: LocalEngine, given: Prompts, edits: Mapping[str, Edit]) -> Tensor:
    return given.target(engine.lm.logits(given.tokens, edits)).double().cpu()
