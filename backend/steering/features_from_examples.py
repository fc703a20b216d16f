"""From a few texts to a few features: which constant pushes make the model write such texts?

Δh = Σ a_i d_i is added at every ordinary token, the same at each, and the a_i that make the texts
likelier are sought. Lengths are measured against the stream: b_i = a_i ‖d_i‖ ÷ mean ‖h‖, so that
features of all dictionaries pay alike. The penalty is λ Σ |b_i|; λ is stated as a share of the one
at which nothing enters. Three steps: candidates by the size of the loss's derivative, proximal
descent with the penalty (ISTA with backtracking), and, on the few that remain, descent without it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.generation.fair_lock import fair_lock_of
from backend.generation.prompt_tokenization import PromptTokens
from backend.interventions.records import Edit
from backend.model.counted_positions import pad_right, uncounted_token_ids
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import NO_PROCESSING
from feature_store.errors import InputError
from feature_store.records import FeatureId

MAX_FEATURES, MAX_TEXTS, MAX_TEXT_TOKENS = 32, 32, 128
N_CANDIDATES = 128
MIN_TEXTS_TO_HOLD_OUT = 4
"""From so many texts on, every second one is kept back to judge by."""
SELECTION_STEPS, REFIT_STEPS = 40, 25
MAX_STEP_HALVINGS = 8
"""Halvings of a step before descent is over."""
MAX_RELATIVE_LENGTH = 1.0
"""No single push is longer than the stream itself."""


@dataclass(frozen=True)
class ExamplesRequest:
    """What is sought."""

    start: PromptTokens
    """In front of every text."""
    texts: tuple[tuple[int, ...], ...]
    """Tokens that should follow."""
    m: int = 5
    """At most so many features."""
    penalty: float = 0.3
    """λ as a share of the smallest at which no feature enters; 0 to 1."""

    def check(self, lm: LanguageModel) -> None:
        """InputError for what cannot be sought."""
        if not self.texts or not all(self.texts):
            raise InputError("Write at least one text that the model should write, one a line.")
        if len(self.texts) > MAX_TEXTS:
            raise InputError(f"{len(self.texts)} texts are too many: at most {MAX_TEXTS}.")
        if not 1 <= self.m <= MAX_FEATURES:
            raise InputError(f"{self.m} features: ask for 1 to {MAX_FEATURES}.")
        if not 0 <= self.penalty < 1:
            raise InputError(f"The penalty is {self.penalty}: write a share from 0 to below 1.")
        longest = len(self.start.tokens) + max(map(len, self.texts))
        if longest > min(lm.n_ctx, MAX_TEXT_TOKENS):
            raise InputError(
                f"A text has {longest} tokens with its prompt; here it may have "
                f"{min(lm.n_ctx, MAX_TEXT_TOKENS)}. Cut it."
            )


@dataclass(frozen=True)
class FeaturePush:
    """One feature that was chosen."""

    feature: FeatureId
    strength: float
    """a_i, activation units; below 0 it is pushed the other way."""
    length: float
    """|b_i|: its push over the stream's mean length."""
    alone: float
    """The loss's change with this feature alone, nats per token, on the texts it was fitted to."""
    without: float
    """The loss's change when it is left out of the whole."""


@dataclass(frozen=True)
class ExamplesLoss:
    """Mean cross-entropy of the texts' tokens, nats; each text's tokens count alike."""

    before: float
    after: float
    texts: int
    tokens: int


@dataclass(frozen=True)
class FeaturesFromExamples:
    """What was found; `pushes` may be empty where nothing helps."""

    pushes: tuple[FeaturePush, ...]
    fitted: ExamplesLoss
    kept_back: ExamplesLoss | None
    """On texts that were not used; None below HALVED texts."""
    candidates: int
    entered: int
    """Features that were not 0 under the penalty, before the largest were kept."""

    def edits(self) -> tuple[Edit, ...]:
        """What does the same on the Steer page."""
        return tuple(Edit("add", (one.feature,), one.strength) for one in self.pushes)


ExamplesProgressCallback = Callable[[int, int, str], None]


def find_features_from_examples(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    ask: ExamplesRequest,
    *,
    alive: Mapping[str, Bool[np.ndarray, "d_sae"]] | None = None,
    tell: ExamplesProgressCallback = lambda done, total, what: None,
    stop: threading.Event | None = None,
) -> FeaturesFromExamples | None:
    """None when it was stopped. `alive`: features that may be chosen; all by default.

    InputError for what cannot be sought, and for dictionaries whose directions differ from token to
    token.
    """
    ask.check(lm)
    check_fixed_directions(dictionaries)
    fit, rest = ask.texts, ask.texts[:0]
    if len(ask.texts) >= MIN_TEXTS_TO_HOLD_OUT:
        fit, rest = ask.texts[::2], ask.texts[1::2]
    search = _PushSearch(lm, dictionaries, ask, fit, alive or {})
    stop = stop or threading.Event()
    total = SELECTION_STEPS + REFIT_STEPS

    def going(done: int, what: str) -> bool:
        tell(done, total, what)
        return not stop.is_set()

    b = search.descend(
        torch.zeros(len(search.features)),
        search.penalty,
        SELECTION_STEPS,
        lambda n: going(n, "choosing"),
    )
    entered = int((b != 0).sum())
    kept = b.abs().topk(min(ask.m, len(b))).indices
    few = search.only(kept[b[kept] != 0])
    b = few.descend(
        b[kept][b[kept] != 0], 0.0, REFIT_STEPS, lambda n: going(SELECTION_STEPS + n, "fitting")
    )
    if stop.is_set():
        return None
    after = few.loss(b)
    back = few.on(rest) if rest else None
    return FeaturesFromExamples(
        pushes=few.pushes(b, after),
        fitted=ExamplesLoss(few.loss(torch.zeros_like(b)), after, len(fit), sum(map(len, fit))),
        kept_back=back
        and ExamplesLoss(
            back.loss(torch.zeros_like(b)), back.loss(b), len(rest), sum(map(len, rest))
        ),
        candidates=len(search.features),
        entered=entered,
    )


def check_fixed_directions(dictionaries: Mapping[str, Dictionary]) -> None:
    """InputError for a dictionary whose directions differ from token to token."""
    for name, one in dictionaries.items():
        if one.per_token_norm or one.processing != NO_PROCESSING:
            raise InputError(
                f"{name} reads a processed or token-wise normalised stream, so one push of it has "
                "no fixed direction: choose other dictionaries."
            )


class _PushSearch:
    """The loss as a function of b, over a set of features."""

    def __init__(
        self,
        lm: LanguageModel,
        dictionaries: Mapping[str, Dictionary],
        ask: ExamplesRequest,
        texts: Sequence[Sequence[int]],
        alive: Mapping[str, np.ndarray],
    ) -> None:
        self.lm, self.ask, self.dictionaries = lm, ask, dictionaries
        self._read(texts)
        hooks = list(dict.fromkeys(one.hook_out for one in dictionaries.values()))
        raw = lm.activations(self.tokens, hooks)
        self.lengths = {
            hook: float(raw[hook].float().norm(dim=-1)[self.acts].mean()) for hook in hooks
        }
        self.features: list[FeatureId] = []
        self.units: list[Tensor] = []
        self._choose(alive)

    def _read(self, texts: Sequence[Sequence[int]]) -> None:
        front, device = self.ask.start.tokens, self.lm.placement.device
        tokens, real = pad_right([[*front, *text] for text in texts])
        out = torch.tensor(sorted(uncounted_token_ids(self.lm.bos, self.lm.special_ids, {})))
        self.tokens: Int[Tensor, "text pos"] = tokens.to(device)
        self.acts: Bool[Tensor, "text pos"] = (real & ~torch.isin(tokens, out)).to(device)
        judged = real.clone()
        judged[:, : len(front)] = False
        self.judged: Bool[Tensor, "text pos-1"] = judged[:, 1:].to(device)

    def _choose(self, alive: Mapping[str, np.ndarray]) -> None:
        """The features along which the loss falls or rises most, for equal lengths."""
        _, slopes = self._loss_and_slopes({h: torch.zeros(self.lm.width(h)) for h in self.lengths})
        found: list[tuple[float, FeatureId]] = []
        for name, one in self.dictionaries.items():
            W_dec = one.W_dec.float()
            norms = W_dec.norm(dim=-1)
            score = (W_dec @ slopes[one.hook_out]).abs() / norms * self.lengths[one.hook_out]
            score[norms == 0] = 0
            if name in alive:
                score[~torch.tensor(alive[name], device=score.device)] = 0
            best = score.topk(min(N_CANDIDATES, len(score)))
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            found += [(value, FeatureId(name, i)) for value, i in pairs if value > 0]
        found.sort(key=lambda pair: -pair[0])
        self.features = [feature for _, feature in found[:N_CANDIDATES]]
        self.units = [self._unit(feature) for feature in self.features]
        self.penalty = self.ask.penalty * found[0][0] if found else 0.0

    def _unit(self, feature: FeatureId) -> Tensor:
        """A push as long as the stream."""
        one = self.dictionaries[feature.dictionary]
        row = one.W_dec[feature.index].float()
        return row / row.norm() * self.lengths[one.hook_out]

    def only(self, kept: Tensor) -> "_PushSearch":
        """The same over some of the features."""
        other = object.__new__(_PushSearch)
        other.__dict__ = dict(self.__dict__)
        other.features = [self.features[i] for i in kept.tolist()]
        other.units = [self.units[i] for i in kept.tolist()]
        return other

    def on(self, texts: Sequence[Sequence[int]]) -> "_PushSearch":
        """The same on other texts."""
        other = object.__new__(_PushSearch)
        other.__dict__ = dict(self.__dict__)
        other._read(texts)
        return other

    def loss(self, b: Float[Tensor, "n"]) -> float:
        """Nats per token, each text counting alike."""
        with fair_lock_of(self.lm).turn(), torch.no_grad():
            logits = self.lm.logits(self.tokens, self._edits(self._pushed(b)))
            return float(self._mean_loss(logits))

    def descend(
        self, b: Tensor, penalty: float, steps: int, going: Callable[[int], bool]
    ) -> Float[Tensor, "n"]:
        """Proximal descent from b; every step lowers loss + penalty · Σ|b|."""
        if not len(b):
            return b
        rate = 0.1
        value, slope = self._slope(b)
        for step in range(steps):
            if not going(step):
                break
            for _ in range(MAX_STEP_HALVINGS):
                new = _soft_threshold(b - rate * slope, rate * penalty).clamp(
                    -MAX_RELATIVE_LENGTH, MAX_RELATIVE_LENGTH
                )
                found = self.loss(new)
                if found + penalty * new.abs().sum() < value + penalty * b.abs().sum() - 1e-7:
                    break
                rate /= 2
            else:
                break
            b, rate = new, rate * 1.5
            value, slope = self._slope(b)
        return b

    def pushes(self, b: Float[Tensor, "n"], whole: float) -> tuple[FeaturePush, ...]:
        """What each feature does alone, and what is lost without it."""
        nothing = self.loss(torch.zeros_like(b))
        found = []
        for i, feature in enumerate(self.features):
            one = self.dictionaries[feature.dictionary]
            alone, without = torch.zeros_like(b), b.clone()
            alone[i], without[i] = b[i], 0.0
            norm = float(one.W_dec[feature.index].norm())
            found.append(
                FeaturePush(
                    feature,
                    strength=float(b[i]) * self.lengths[one.hook_out] / norm,
                    length=abs(float(b[i])),
                    alone=self.loss(alone) - nothing,
                    without=self.loss(without) - whole,
                )
            )
        return tuple(sorted(found, key=lambda push: -push.length))

    def _slope(self, b: Tensor) -> tuple[float, Float[Tensor, "n"]]:
        value, slopes = self._loss_and_slopes(self._pushed(b))
        hooks = [self.dictionaries[f.dictionary].hook_out for f in self.features]
        found = [unit @ slopes[hook] for unit, hook in zip(self.units, hooks, strict=True)]
        return value, torch.stack(found).cpu()

    def _pushed(self, b: Tensor) -> dict[str, Float[Tensor, "d_out"]]:
        given: dict[str, Tensor] = {}
        for value, feature, unit in zip(b.tolist(), self.features, self.units, strict=True):
            if value:
                hook = self.dictionaries[feature.dictionary].hook_out
                given[hook] = given.get(hook, torch.zeros_like(unit)) + value * unit
        return given

    def _loss_and_slopes(self, given: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """The loss and its derivative by what is added at each hook point."""
        device = self.lm.placement.device
        leaves = {
            hook: given.get(hook, torch.zeros(self.lm.width(hook))).to(device).requires_grad_()
            for hook in self.lengths
        }
        with fair_lock_of(self.lm).turn(), torch.enable_grad():
            value = self._mean_loss(self.lm.logits(self.tokens, self._edits(leaves)))
            found = torch.autograd.grad(value, list(leaves.values()))
        return float(value.detach()), {h: g.float() for h, g in zip(leaves, found, strict=True)}

    def _edits(self, given: Mapping[str, Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
        mask = self.acts[..., None]

        def adding(push: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda h: h + (mask * push.to(h.device)).to(h.dtype)

        return {hook: adding(push) for hook, push in given.items()}

    def _mean_loss(self, logits: Float[Tensor, "text pos vocab"]) -> Tensor:
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), self.tokens[:, 1:].flatten(), reduction="none"
        ).view(len(self.tokens), -1)
        kept = self.judged.to(losses.dtype)
        return ((losses * kept).sum(1) / kept.sum(1)).mean()


def _soft_threshold(b: Tensor, by: float) -> Tensor:
    return b.sign() * (b.abs() - by).clamp_min(0)
