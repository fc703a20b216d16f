"""Search for features from example texts: which constant steering pushes make the model write such
texts?

Δh = Σ a_i d_i is added at every ordinary token, the same at each; the a_i that make the example
texts most likely are searched. Lengths are relative to the residual stream, b_i = a_i ‖d_i‖ ÷ mean
‖h‖, so that features of all dictionaries are penalised alike. The penalty is λ Σ |b_i|; λ is given
as a share of the smallest one at which no feature enters. Three steps: candidates by the size of
the loss's derivative, proximal gradient descent with the penalty (ISTA with backtracking), and
descent without the penalty on the few features that remain.
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
from feature_store.hook_sites import check_single_sites
from feature_store.records import FeatureId

MAX_FEATURES, MAX_TEXTS, MAX_TEXT_TOKENS = 32, 32, 128
"""Limits of a search for features from examples: features that may be chosen, example texts, and
tokens of a text with its prompt."""
N_CANDIDATES = 128
"""Number of candidate features, by the size of the loss's derivative, among which pushes are
searched."""
MIN_TEXTS_TO_HOLD_OUT = 4
"""Number of example texts from which every second one is held out for evaluation."""
SELECTION_STEPS, REFIT_STEPS = 40, 25
"""Steps of proximal descent with the penalty, and of the refit without it, in a search for features
from examples."""
MAX_STEP_HALVINGS = 8
"""Number of times a descent step is halved before the search ends."""
MAX_RELATIVE_LENGTH = 1.0
"""Largest length of a single push, relative to the mean length of the residual stream."""


@dataclass(frozen=True)
class ExamplesRequest:
    """Request for features from examples: the prompt, the example texts, and how many features to
    choose."""

    start: PromptTokens
    """Prompt in front of every example text."""
    texts: tuple[tuple[int, ...], ...]
    """Token ids of the example texts that should follow the prompt."""
    m: int = 5
    """Maximum number of features to choose from the examples."""
    penalty: float = 0.3
    """Penalty λ of the search, as a share (0 to 1) of the smallest λ at which no feature enters."""

    def check(self, lm: LanguageModel) -> None:
        """Raise InputError for a request whose examples or limits are not valid for this model."""
        if not self.texts or not all(self.texts):
            raise InputError("Write at least one text that the model should write, one a line.")
        if len(self.texts) > MAX_TEXTS:
            raise InputError(f"{len(self.texts)} texts are too many: at most {MAX_TEXTS}.")
        if not 1 <= self.m <= MAX_FEATURES:
            raise InputError(f"{self.m} features: choose 1 to {MAX_FEATURES}.")
        if not 0 <= self.penalty < 1:
            raise InputError(f"The penalty is {self.penalty}: it must be at least 0 and below 1.")
        longest = len(self.start.tokens) + max(map(len, self.texts))
        if longest > min(lm.n_ctx, MAX_TEXT_TOKENS):
            raise InputError(
                f"A text has {longest} tokens with its prompt; the limit here is "
                f"{min(lm.n_ctx, MAX_TEXT_TOKENS)}. Shorten it."
            )


@dataclass(frozen=True)
class FeaturePush:
    """Constant push along one feature's decoder direction, chosen from the examples."""

    feature: FeatureId
    strength: float
    """Strength a_i of the push in activation units; a negative one pushes against the decoder
    direction."""
    length: float
    """Length |b_i| of the push relative to the mean length of the residual stream."""
    alone: float
    """Change of the loss on the fitted example texts with this push alone, in nats per token."""
    without: float
    """Change of the loss on the fitted example texts, in nats per token, when this push is left out
    of all pushes."""


@dataclass(frozen=True)
class ExamplesLoss:
    """Mean cross-entropy in nats per token of example texts before and after the pushes; every text
    counts equally."""

    before: float
    after: float
    texts: int
    tokens: int


@dataclass(frozen=True)
class FeaturesFromExamples:
    """Result of a search for features from examples; `pushes` is empty when no feature lowers the
    loss."""

    pushes: tuple[FeaturePush, ...]
    fitted: ExamplesLoss
    kept_back: ExamplesLoss | None
    """Loss on the held-out example texts; None with fewer than MIN_TEXTS_TO_HOLD_OUT texts."""
    candidates: int
    entered: int
    """Number of features with a non-zero push under the penalty, before only the largest were
    kept."""

    def edits(self) -> tuple[Edit, ...]:
        """Return the pushes as steering edits for the Steer page."""
        return tuple(Edit("add", (one.feature,), one.strength) for one in self.pushes)


ExamplesProgressCallback = Callable[[int, int, str], None]


def find_features_from_examples(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    request: ExamplesRequest,
    *,
    alive: Mapping[str, Bool[np.ndarray, "d_sae"]] | None = None,
    report: ExamplesProgressCallback = lambda done, total, stage: None,
    stop: threading.Event | None = None,
) -> FeaturesFromExamples | None:
    """Find the few features whose constant steering pushes make the model most likely to write the
    example texts.

    `alive` masks the features that may be chosen, by dictionary; by default all may. Return None
    when `stop` is set before the end. Raise InputError for an invalid request, and for dictionaries
    without fixed directions.
    """
    request.check(lm)
    check_fixed_directions(dictionaries)
    check_single_sites(list(dictionaries.values()), "Features from examples")
    fitted_texts, held_out_texts = _split_texts(request.texts)
    search = _PushSearch(lm, dictionaries, request, fitted_texts, alive or {})
    stop = stop or threading.Event()
    total = SELECTION_STEPS + REFIT_STEPS

    def keep_going(done: int, stage: str) -> bool:
        report(done, total, stage)
        return not stop.is_set()

    b = search.descend(
        torch.zeros(len(search.features)),
        search.penalty,
        SELECTION_STEPS,
        lambda n: keep_going(n, "choosing"),
    )
    entered = int((b != 0).sum())
    largest = b.abs().topk(min(request.m, len(b))).indices
    refit = search.only(largest[b[largest] != 0])
    b = refit.descend(
        b[largest][b[largest] != 0],
        0.0,
        REFIT_STEPS,
        lambda n: keep_going(SELECTION_STEPS + n, "fitting"),
    )
    if stop.is_set():
        return None
    fitted = _measure_examples_loss(refit, b, fitted_texts)
    return FeaturesFromExamples(
        pushes=refit.pushes(b, fitted.after),
        fitted=fitted,
        kept_back=_measure_examples_loss(refit.on(held_out_texts), b, held_out_texts)
        if held_out_texts
        else None,
        candidates=len(search.features),
        entered=entered,
    )


def _measure_examples_loss(
    search: "_PushSearch", b: Float[Tensor, "n"], texts: Sequence[Sequence[int]]
) -> ExamplesLoss:
    """Measure the loss of the example texts that `search` holds, without pushes and with pushes of
    the relative lengths b."""
    return ExamplesLoss(
        search.loss(torch.zeros_like(b)), search.loss(b), len(texts), sum(map(len, texts))
    )


def _split_texts(
    texts: tuple[tuple[int, ...], ...],
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Split the example texts into those to fit and those to hold out: every second one of at
    least MIN_TEXTS_TO_HOLD_OUT texts, else none."""
    if len(texts) >= MIN_TEXTS_TO_HOLD_OUT:
        return texts[::2], texts[1::2]
    return texts, ()


def check_fixed_directions(dictionaries: Mapping[str, Dictionary]) -> None:
    """Raise InputError for a dictionary whose decoder directions, in the raw stream, differ between
    tokens: no constant push of it can be searched from examples."""
    for name, one in dictionaries.items():
        if one.per_token_norm or one.processing != NO_PROCESSING:
            raise InputError(
                f"{name} reads a processed or per-token normalised stream, so a constant push has "
                "no fixed direction there: choose other dictionaries."
            )


class _PushSearch:
    """Loss of the example texts as a function of the relative push lengths b over a set of
    features, with its minimisation."""

    def __init__(
        self,
        lm: LanguageModel,
        dictionaries: Mapping[str, Dictionary],
        request: ExamplesRequest,
        texts: Sequence[Sequence[int]],
        alive: Mapping[str, np.ndarray],
    ) -> None:
        self.lm, self.ask, self.dictionaries = lm, request, dictionaries
        self._read(texts)
        hooks = list(dict.fromkeys(dictionary.hook_out for dictionary in dictionaries.values()))
        raw = lm.activations(self.tokens, hooks)
        self.lengths = {
            hook: float(raw[hook].float().norm(dim=-1)[self.acts].mean()) for hook in hooks
        }
        self.features: list[FeatureId] = []
        self.units: list[Tensor] = []
        self._choose(alive)

    def _read(self, texts: Sequence[Sequence[int]]) -> None:
        prompt, device = self.ask.start.tokens, self.lm.placement.device
        tokens, real = pad_right([[*prompt, *text] for text in texts])
        uncounted = torch.tensor(sorted(uncounted_token_ids(self.lm.bos, self.lm.special_ids, {})))
        self.tokens: Int[Tensor, "text pos"] = tokens.to(device)
        self.acts: Bool[Tensor, "text pos"] = (real & ~torch.isin(tokens, uncounted)).to(device)
        scored = real.clone()
        scored[:, : len(prompt)] = False
        self.judged: Bool[Tensor, "text pos-1"] = scored[:, 1:].to(device)

    def _choose(self, alive: Mapping[str, np.ndarray]) -> None:
        """Choose as candidates the features whose pushes of equal length change the loss of the
        example texts most."""
        _, slopes = self._loss_and_slopes({h: torch.zeros(self.lm.width(h)) for h in self.lengths})
        candidates: list[tuple[float, FeatureId]] = []
        for name, dictionary in self.dictionaries.items():
            W_dec = dictionary.W_dec.float()
            norms = W_dec.norm(dim=-1)
            score = (
                (W_dec @ slopes[dictionary.hook_out]).abs()
                / norms
                * self.lengths[dictionary.hook_out]
            )
            score[norms == 0] = 0
            if name in alive:
                score[~torch.tensor(alive[name], device=score.device)] = 0
            best = score.topk(min(N_CANDIDATES, len(score)))
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            candidates += [(value, FeatureId(name, i)) for value, i in pairs if value > 0]
        candidates.sort(key=lambda pair: -pair[0])
        self.features = [feature for _, feature in candidates[:N_CANDIDATES]]
        self.units = [self._unit(feature) for feature in self.features]
        self.penalty = self.ask.penalty * candidates[0][0] if candidates else 0.0

    def _unit(self, feature: FeatureId) -> Tensor:
        """Return a push along a feature's decoder direction, as long as the mean residual
        stream."""
        dictionary = self.dictionaries[feature.dictionary]
        row = dictionary.W_dec[feature.index].float()
        return row / row.norm() * self.lengths[dictionary.hook_out]

    def only(self, indices: Tensor) -> "_PushSearch":
        """Return the search for pushes from examples, restricted to the candidate features with the
        given `indices`."""
        other = object.__new__(_PushSearch)
        other.__dict__ = dict(self.__dict__)
        other.features = [self.features[i] for i in indices.tolist()]
        other.units = [self.units[i] for i in indices.tolist()]
        return other

    def on(self, texts: Sequence[Sequence[int]]) -> "_PushSearch":
        """Return the search for pushes with other example texts."""
        other = object.__new__(_PushSearch)
        other.__dict__ = dict(self.__dict__)
        other._read(texts)
        return other

    def loss(self, b: Float[Tensor, "n"]) -> float:
        """Return the cross-entropy of the example texts under the pushes b, in nats per token;
        every text counts equally."""
        with fair_lock_of(self.lm).turn(), torch.no_grad():
            logits = self.lm.logits(self.tokens, self._edits(self._pushed(b)))
            return float(self._mean_loss(logits))

    def descend(
        self, b: Tensor, penalty: float, steps: int, keep_going: Callable[[int], bool]
    ) -> Float[Tensor, "n"]:
        """Minimise the loss of the example texts + penalty · Σ|b| over the push lengths b by
        proximal gradient descent (ISTA); every step lowers the objective."""
        if not len(b):
            return b
        rate = 0.1
        value, slope = self._slope(b)
        for step in range(steps):
            if not keep_going(step):
                break
            for _ in range(MAX_STEP_HALVINGS):  # backtracking: halve until the objective falls
                new = _soft_threshold(b - rate * slope, rate * penalty).clamp(
                    -MAX_RELATIVE_LENGTH, MAX_RELATIVE_LENGTH
                )
                loss = self.loss(new)
                if loss + penalty * new.abs().sum() < value + penalty * b.abs().sum() - 1e-7:
                    break
                rate /= 2
            else:
                break
            b, rate = new, rate * 1.5
            value, slope = self._slope(b)
        return b

    def pushes(self, b: Float[Tensor, "n"], full_loss: float) -> tuple[FeaturePush, ...]:
        """Return the pushes of lengths b with the change of the example texts' loss for each alone,
        and for leaving it out; `full_loss` is the loss with all of them."""
        clean_loss = self.loss(torch.zeros_like(b))
        pushes = []
        for i, feature in enumerate(self.features):
            dictionary = self.dictionaries[feature.dictionary]
            alone, without = torch.zeros_like(b), b.clone()
            alone[i], without[i] = b[i], 0.0
            norm = float(dictionary.W_dec[feature.index].norm())
            pushes.append(
                FeaturePush(
                    feature,
                    strength=float(b[i]) * self.lengths[dictionary.hook_out] / norm,
                    length=abs(float(b[i])),
                    alone=self.loss(alone) - clean_loss,
                    without=self.loss(without) - full_loss,
                )
            )
        return tuple(sorted(pushes, key=lambda push: -push.length))

    def _slope(self, b: Tensor) -> tuple[float, Float[Tensor, "n"]]:
        value, slopes = self._loss_and_slopes(self._pushed(b))
        hooks = [self.dictionaries[f.dictionary].hook_out for f in self.features]
        slopes_of_b = [unit @ slopes[hook] for unit, hook in zip(self.units, hooks, strict=True)]
        return value, torch.stack(slopes_of_b).cpu()

    def _pushed(self, b: Tensor) -> dict[str, Float[Tensor, "d_out"]]:
        pushes: dict[str, Tensor] = {}
        for value, feature, unit in zip(b.tolist(), self.features, self.units, strict=True):
            if value:
                hook = self.dictionaries[feature.dictionary].hook_out
                pushes[hook] = pushes.get(hook, torch.zeros_like(unit)) + value * unit
        return pushes

    def _loss_and_slopes(self, pushes: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """Return the loss of the example texts under pushes, and its gradient with respect to the
        vector added at each hook point."""
        device = self.lm.placement.device
        leaves = {
            hook: pushes.get(hook, torch.zeros(self.lm.width(hook))).to(device).requires_grad_()
            for hook in self.lengths
        }
        with fair_lock_of(self.lm).turn(), torch.enable_grad():
            value = self._mean_loss(self.lm.logits(self.tokens, self._edits(leaves)))
            gradients = torch.autograd.grad(value, list(leaves.values()))
        return float(value.detach()), {h: g.float() for h, g in zip(leaves, gradients, strict=True)}

    def _edits(self, pushes: Mapping[str, Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
        mask = self.acts[..., None]

        def add_push(push: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda h: h + (mask * push.to(h.device)).to(h.dtype)

        return {hook: add_push(push) for hook, push in pushes.items()}

    def _mean_loss(self, logits: Float[Tensor, "text pos vocab"]) -> Tensor:
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), self.tokens[:, 1:].flatten(), reduction="none"
        ).view(len(self.tokens), -1)
        scored = self.judged.to(losses.dtype)
        return ((losses * scored).sum(1) / scored.sum(1)).mean()


def _soft_threshold(b: Tensor, threshold: float) -> Tensor:
    return b.sign() * (b.abs() - threshold).clamp_min(0)
