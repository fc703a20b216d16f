"""Ranking of the features that a probe relies on: all by gradient × activation, the strongest also
by ablation.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.estimate_agreement import estimate_agreement
from backend.ablation.part_edits import canonical_hook
from backend.attribution.dictionary_activations import (
    DictionaryActivations,
    read_dictionary_activations,
)
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.probing.logistic_probe import LogisticProbe, fit_logistic_probe
from backend.probing.probe_forward import (
    TextBatch,
    activation_at_hook,
    batch_texts,
    pool_tokens,
    pooled_activations,
)
from backend.probing.shift_request import ShiftRequest
from feature_store.errors import InputError, pick_by_name
from feature_store.records import FeatureId

ProbeProgress = Callable[[int, int, str], None]
"""Progress callback: called with (steps done, steps in all, what they are); may raise to stop."""
MAX_RANKED_FEATURES = 300
"""Maximum number of features in the probe's ranking: those with the largest estimated effects."""


@dataclass(frozen=True)
class ProbeFeatureEffect:
    """One feature in the ranking of a probe's features.

    Effects are changes of the probe's log-odds in nats when the feature is zero at all tokens,
    averaged over training texts.
    """

    feature: str
    effect: float
    """Change of the log-odds toward each text's own label; negative if the probe is better with the
    feature.
    """
    on: tuple[float, float]
    """Change of the log-odds of the second label, on texts of the first label and of the second."""
    texts: tuple[int, int]
    """Number of texts of each label on which the feature is active."""
    activation: float
    """Mean over texts of the feature's activation summed over tokens."""
    measured: float | None = None
    """Effect measured by ablating the feature; None if it was only estimated."""


@dataclass(frozen=True, eq=False)
class ProbeEffectSums:
    """Estimated effects of one dictionary's features on the probe, summed over texts."""

    toward: Float[Tensor, "2 d_sae"]
    """Change of the log-odds of the second label, summed over texts of each label, [2, d_sae]."""
    texts: Float[Tensor, "2 d_sae"]
    activation: Float[Tensor, "d_sae"]
    error: Float[Tensor, "2"]
    """Σ |effects| of the error terms, and of the features."""

    @classmethod
    def empty(cls, one: Dictionary) -> "ProbeEffectSums":
        """Return sums of zero for the effects of one dictionary's features on the probe."""
        two = torch.zeros(2, one.d_sae, dtype=torch.double)
        return cls(two, two.clone(), two[0].clone(), torch.zeros(2, dtype=torch.double))

    def add(self, reading: DictionaryActivations, g: Tensor, side: Tensor) -> None:
        """Add the effects on a batch of texts; `side` is 0 or 1 for each text, `g` the gradient of
        the probe's log-odds.
        """
        active = reading.active
        # First-order estimate of setting the activation to zero.
        effect = (-active.value * reading.feature_gradients(g)).double().cpu()
        row, feature = active.row.cpu(), active.feature.cpu()
        flat = side[row] * self.toward.shape[1] + feature
        self.toward.view(-1).index_add_(0, flat, effect)
        self.activation.index_add_(0, feature, active.value.double().cpu())
        pairs = torch.unique(row * self.toward.shape[1] + feature)
        row, feature = pairs // self.toward.shape[1], pairs % self.toward.shape[1]
        flat = side[row] * self.toward.shape[1] + feature
        self.texts.view(-1).index_add_(0, flat, torch.ones(len(flat), dtype=torch.double))
        missed = (reading.error_term() * g).sum(-1).abs().sum()
        self.error.add_(torch.tensor([float(missed), float(effect.abs().sum())]))


def rank_probe_features(
    engine: LocalEngine, request: ShiftRequest, tick: ProbeProgress = lambda *_: None
) -> dict[str, Any]:
    """Train a probe, rank the features it relies on and return the ranking as plain data.

    Raises InputError for texts, hook points and dictionaries that cannot be used.
    """
    given = request.text_sets()
    batches = batch_texts(engine, [one.text for one in given.train])
    signs = np.array(given.signs(given.train))
    x = pooled_activations(
        engine, batches, request.hook, _pooling(request), tick=lambda: tick(0, 0, "reading texts")
    )
    probe = fit_logistic_probe(x, signs)
    sums, beyond = sum_probe_effects(engine, request, batches, probe, signs, tick)
    n = (int((signs < 0).sum()), int((signs > 0).sum()))
    rows = _ranked_effects(sums, n)
    top = rows[:MAX_RANKED_FEATURES]
    top = _measure_strongest(engine, request, batches, probe, signs, top, tick)
    pairs = [(r.effect, r.measured) for r in top if r.measured is not None]
    return {
        "labels": list(given.labels),
        "n": list(n),
        "hook": request.hook,
        "pool": request.pool,
        "right": float(probe.is_correct(x, signs).mean()),
        "of": len(rows),
        "beyond": beyond,
        "repeats": given.repeats,
        "rows": [asdict(row) for row in top],
        "agreement": estimate_agreement(pairs),
        "cuts": [
            {"dictionary": name, "error_share": _error_share(one.error)}
            for name, one in sums.items()
        ],
    }


def sum_probe_effects(
    engine: LocalEngine,
    request: ShiftRequest,
    batches: Sequence[TextBatch],
    probe: LogisticProbe,
    signs: np.ndarray,
    tick: ProbeProgress = lambda *_: None,
) -> tuple[dict[str, ProbeEffectSums], list[str]]:
    """Return every dictionary's summed effects on the probe, and the names of dictionaries that
    write after its hook point.

    Raises InputError if all of them do.
    """
    found: dict[str, ProbeEffectSums] = {}
    chosen = [
        pick_by_name("dictionary", name, engine.dictionaries) for name in request.dictionaries
    ]
    beyond: set[str] = set()
    for number, one in enumerate(batches):
        tick(number, len(batches), "estimating: batch")
        by = log_odds_gradients(
            engine, request, one, probe, [d for d in chosen if d.name not in beyond]
        )
        beyond |= {d.name for d in chosen if canonical_hook(engine.lm, d.hook_out) not in by}
        writing = [d for d in chosen if d.name not in beyond]
        if not writing:
            raise InputError(
                f"No dictionary writes at or before {request.hook}: choose a later hook point for "
                "the probe."
            )
        side = torch.from_numpy((signs[one.rows] > 0).astype(np.int64))
        for d in writing:  # one at a time, so that only one dictionary's activations are in memory
            (reading,) = read_dictionary_activations(engine.lm, [d], one.tokens, one.counted)
            g = by[canonical_hook(engine.lm, d.hook_out)]
            found.setdefault(d.name, ProbeEffectSums.empty(d)).add(reading, g, side)
    return found, sorted(beyond)


def log_odds_gradients(
    engine: LocalEngine,
    request: ShiftRequest,
    batches: TextBatch,
    probe: LogisticProbe,
    chosen: Sequence[Dictionary],
) -> dict[str, Float[Tensor, "batch pos width"]]:
    """Return the gradients of the probe's log-odds with respect to the activations where
    dictionaries write, by hook point.

    Hook points after the probe's are left out.
    """
    lm = engine.lm
    leaves: dict[str, Tensor] = {}

    def tap(hook: str) -> Callable[[Tensor], Tensor]:
        def add(h: Tensor) -> Tensor:
            # The gradient at an added zero is that at the activation itself.
            leaves[hook] = torch.zeros_like(h, requires_grad=True)
            return h + leaves[hook]

        return add

    hooks = {canonical_hook(lm, one.hook_out) for one in chosen}
    with torch.enable_grad():
        h = activation_at_hook(
            lm, batches.tokens, request.hook, {hook: tap(hook) for hook in hooks}
        )
        v = pool_tokens(h, batches.counted, _pooling(request))
        logit = v @ torch.from_numpy(probe.weights).to(v)
        if not logit.requires_grad:
            return {}
        names = list(leaves)
        wanted = [leaves[name] for name in names]
        got = torch.autograd.grad(logit.sum(), wanted, allow_unused=True)
    return {name: g.detach() for name, g in zip(names, got, strict=True) if g is not None}


def _ranked_effects(
    sums: dict[str, ProbeEffectSums], n: tuple[int, int]
) -> list[ProbeFeatureEffect]:
    """Return all features that are active on any text, by decreasing |effect| on the probe."""
    found = []
    for name, one in sums.items():
        effect = (one.toward[1] - one.toward[0]) / sum(n)
        ids = one.texts.sum(0).nonzero()[:, 0]
        columns = (
            ids.tolist(),
            effect[ids].tolist(),
            (one.toward[:, ids].T / torch.tensor(n)).tolist(),
            one.texts[:, ids].T.long().tolist(),
            (one.activation[ids] / sum(n)).tolist(),
        )
        for index, value, on, texts, act in zip(*columns, strict=True):
            found.append(ProbeFeatureEffect(f"{name}/{index}", value, tuple(on), tuple(texts), act))
    return sorted(found, key=lambda row: -abs(row.effect))


def _measure_strongest(
    engine: LocalEngine,
    request: ShiftRequest,
    batches: Sequence[TextBatch],
    probe: LogisticProbe,
    signs: np.ndarray,
    rows: list[ProbeFeatureEffect],
    tick: ProbeProgress,
) -> list[ProbeFeatureEffect]:
    """Measure the effect of the first ranked features on the probe, each ablated alone."""
    steps, found = min(request.exact, len(rows)), list(rows)
    if not steps:
        return found
    before = probe.logit(pooled_activations(engine, batches, request.hook, _pooling(request)))
    for i in range(steps):
        tick(i, steps, "ablating features:")
        ablated = pooled_activations(
            engine,
            batches,
            request.hook,
            _pooling(request),
            [FeatureId.parse(rows[i].feature)],
            lambda i=i: tick(i, steps, "ablating features:"),
        )
        effect = float(((probe.logit(ablated) - before) * signs).mean())
        found[i] = replace(rows[i], measured=effect)
    return found


def _error_share(error: Tensor) -> float | None:
    missed, kept = error.tolist()
    return missed / (missed + kept) if missed + kept else None


def _pooling(request: ShiftRequest) -> Any:
    return request.pool
