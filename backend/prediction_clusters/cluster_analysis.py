"""The analysis of prediction clusters from start to end: sample predictions, compute effect
vectors, cluster them, describe each cluster's features and ablate them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from backend.engine import LocalEngine
from backend.model.fast_forward import ActivationEdit
from backend.prediction_clusters.cluster_plan import ClusterPlan
from backend.prediction_clusters.cosine_clustering import (
    cluster_rows,
    cluster_tightness,
    cosine_matrix,
    normalize_rows,
)
from backend.prediction_clusters.effect_vectors import (
    EffectVectors,
    PredictionPrompts,
    batch_predictions,
    compute_effect_vectors,
    pad_prediction_prompts,
)
from backend.prediction_clusters.prediction_sample import SampledPrediction, sample_predictions
from backend.probing.probe_forward import feature_ablation_edits
from feature_store.errors import pick_by_name
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.statistics.bootstrap_t import estimate_mean

ClusterProgress = Callable[[int, int, str], None]
MAX_MEMBERS = 40
"""Maximum number of members of a cluster in the result, the most typical first."""
MAX_HELD_OUT_MEMBERS = 24
"""Maximum number of held-out members of a cluster on which its features are ablated."""


def find_clusters(
    engine: LocalEngine,
    file: HarvestFile,
    plan: ClusterPlan,
    tick: ClusterProgress = lambda *_: None,
) -> dict[str, Any]:
    """Find clusters of well-predicted next tokens whose predictions rest on the same features, and
    return the analysis as plain data.

    `tick` is called with (done, total, note) and may raise to stop. Raises InputError for
    dictionaries that are not in the harvest, and if too few tokens are predicted well.
    """
    names = plan.check().dictionaries or tuple(engine.dictionaries)
    chosen = [pick_by_name("dictionary", name, engine.dictionaries) for name in names]
    found = sample_predictions(
        engine,
        file,
        plan.tokens,
        plan.loss,
        plan.seed,
        lambda done, total: tick(done, total, "sampling predictions"),
    )
    made = compute_effect_vectors(
        engine,
        file,
        chosen,
        found.picks,
        plan.kept,
        lambda done, total: tick(done, total, "computing effects"),
    )
    tick(0, 1, "clustering")
    some = np.flatnonzero(np.diff(made.effects.indptr) > 0)
    rows = normalize_rows(csr_matrix(made.effects[some]))
    labels = cluster_rows(rows, plan.groups(len(some)), plan.method, plan.seed)
    groups: list[list[int]] = [some[labels == i].tolist() for i in range(labels.max() + 1)]
    described = [
        _describe_cluster(i, members, rows[labels == i], made, found.picks, plan)
        for i, members in enumerate(groups)
    ]
    _ablate_cluster_features(engine, file, described, groups, found.picks, plan, tick)
    alike = cluster_tightness(cosine_matrix(rows), labels)
    return {
        "dictionaries": list(names),
        "looked": found.n_candidates,
        "good": found.n_well_predicted,
        "picked": len(found.picks),
        "silent": len(found.picks) - len(some),
        "cosines": {name: x if np.isfinite(x) else None for name, x in alike.items()},
        "clusters": described,
    }


def _describe_cluster(
    number: int,
    members: Sequence[int],
    rows: Any,
    made: EffectVectors,
    picks: Sequence[SampledPrediction],
    plan: ClusterPlan,
) -> dict[str, Any]:
    """Describe one cluster: its members, the tokens that they predict, and its features, computed
    on members of the explain split alone.
    """
    centre = np.asarray(rows.mean(axis=0)).ravel()
    length = float(np.linalg.norm(centre))
    typical = np.asarray(rows @ centre).ravel() / length if length else np.zeros(len(members))
    order = np.argsort(-typical, kind="stable")
    shown = [members[i] for i in order[:MAX_MEMBERS].tolist()]
    explain = [j for j, i in enumerate(members) if picks[i].split == "explain"]
    return {
        "number": number,
        "n": len(members),
        "explain": len(explain),
        "targets": Counter(picks[i].target for i in members).most_common(8),
        "features": _cluster_features(
            made, [members[j] for j in explain], rows[explain], plan.shown
        ),
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


def _cluster_features(
    made: EffectVectors, members: Sequence[int], rows: Any, shown: int
) -> list[dict[str, Any]]:
    """Return the features of a cluster by decreasing |weight|, where the weight is the mean over
    members' effect vectors of length 1.

    Normalizing gives a certain prediction, whose effects are small, the same influence as any
    other. Empty if there are no members.
    """
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


def _ablate_cluster_features(
    engine: LocalEngine,
    file: HarvestFile,
    described: list[dict[str, Any]],
    groups: Sequence[Sequence[int]],
    picks: Sequence[SampledPrediction],
    plan: ClusterPlan,
    tick: ClusterProgress,
) -> None:
    """Ablate, on the held-out members of each cluster, the cluster's own features and those of
    another cluster drawn at random.
    """
    rng = np.random.default_rng([plan.seed, 1])
    for i, one in enumerate(described):
        tick(i, len(described), "ablating features")
        held = [picks[j] for j in groups[i] if picks[j].split == "score"][:MAX_HELD_OUT_MEMBERS]
        mine = supporting_features(one, plan.removed)
        others = [
            other
            for other in described
            if other is not one and supporting_features(other, plan.removed)
        ]
        one["judged"] = None
        if held and mine and others:
            other = others[int(rng.integers(len(others)))]
            theirs = supporting_features(other, plan.removed)
            one["judged"] = {
                "features": [str(f) for f in mine],
                "other": other["number"],
                "own": estimate_mean(measure_joint_ablation(engine, file, held, mine)).to_record(),
                "others": estimate_mean(
                    measure_joint_ablation(engine, file, held, theirs)
                ).to_record(),
            }


def supporting_features(one: dict[str, Any], most: int) -> list[FeatureId]:
    """Return the features of a described cluster that support its predictions: those with a
    negative estimated effect of ablation.
    """
    found = [row["feature"] for row in one["features"] if row["weight"] < 0]
    return [FeatureId.parse(name) for name in found[:most]]


def measure_joint_ablation(
    engine: LocalEngine,
    file: HarvestFile,
    picks: Sequence[SampledPrediction],
    features: Sequence[FeatureId],
) -> np.ndarray:
    """Return the change of log p(next token), in nats, of a cluster's predictions when all given
    features are ablated together.
    """
    found = np.zeros(len(picks))
    for numbers in batch_predictions(picks):
        given = pad_prediction_prompts(engine, file, [picks[i] for i in numbers])
        edits = feature_ablation_edits(engine.lm, engine.dictionaries, features, given.counted)
        found[numbers] = (
            _target_log_probs(engine, given, edits) - _target_log_probs(engine, given, {})
        ).numpy()
    return found


@torch.no_grad()
def _target_log_probs(
    engine: LocalEngine, given: PredictionPrompts, edits: Mapping[str, ActivationEdit]
) -> Tensor:
    return given.target(engine.lm.logits(given.tokens, edits)).double().cpu()
