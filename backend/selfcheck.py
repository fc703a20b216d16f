"""Does this dictionary fit this model here? Measured before anything it says is shown.

A wrong hook point, a missing normalisation or another model's weights do not raise errors: they
give features that look like features. What they cannot give is a good reconstruction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.lm import Lm
from backend.positions import counted, pad_right, uncounted_ids
from backend.trunk import Edit
from feature_store.errors import InputError

DOCUMENTS = 50
POSITIONS = 128
BATCH = 10
AT_ONCE = 1 << 27
"""At most so many logits, or dense activations, at once (half a gigabyte)."""

LOW_EXPLAINED_VARIANCE = 0.5
L0_FACTOR = 2.0
HIGH_DELTA_CE = 1.0  # nats per token


@dataclass(frozen=True)
class SelfCheck:
    """Every number over counted tokens only: no BOS, padding or special tokens."""

    n_documents: int
    n_tokens: int
    explained_variance: float | None
    """1 - squared error over variance, summed over tokens; None if the activations never vary."""
    l0: float
    """Non-zero features per token."""
    dead_share: float
    """Share of features without any activation in these n_tokens."""
    dead_bound: float
    """3/n: a feature that never fired is rarer than this, with 95 % confidence."""
    ce_clean: float
    """Cross-entropy of the next token, nats; also below."""
    ce_spliced: float
    """With the reconstruction in place of the activation."""
    ce_zero: float
    """With zero in its place."""
    ce_mean: float
    """With the mean over all counted tokens in its place."""
    delta_ce: float
    """ce_spliced - ce_clean."""
    recovery_zero: float | None
    """1 - delta_ce over the damage of zero ablation; None where that does no damage."""
    recovery_mean: float | None
    published_l0: float | None
    published_explained_variance: float | None


Known = dict[str, float]
"""Summed losses by what was done to the model; filled by `check`."""


@dataclass(frozen=True)
class _Batch:
    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    counts: Bool[Tensor, "batch pos"]


@dataclass(frozen=True)
class _Fidelity:
    n: int
    mean: Float[Tensor, "d_out"]
    explained_variance: float | None
    n_nonzero: int
    n_fired: int
    rebuilt: list[Float[Tensor, "n d_out"]]
    """Per batch, the reconstruction at its counted positions."""


def bos_for(lm: Lm, found: list[Dictionary]) -> int | None:
    """What stands at the front of each sequence, as the dictionaries were trained."""
    wants = {d.name: bool(d.metadata.get("prepend_bos", True)) for d in found}
    if len(set(wants.values())) > 1:
        yes, no = (next(n for n, want in wants.items() if want is kind) for kind in (True, False))
        raise InputError(
            f"{yes} was trained with a BOS token in front of each sequence and {no} without. "
            "Harvest them separately."
        )
    return lm.bos if all(wants.values()) else None


def fit(lm: Lm, dictionary: Dictionary) -> None:
    """InputError unless the model has the dictionary's hook points, in its widths."""
    _check_width(lm, dictionary.name, dictionary.hook_name, "reads", dictionary.d_in)
    _check_width(lm, dictionary.name, dictionary.hook_out, "writes", dictionary.d_out)
    for hook in (dictionary.hook_name, dictionary.hook_out):  # a processing may be undefined there
        nothing = torch.zeros(1, 1, lm.width(hook), device=lm.placement.device)
        lm.process(hook, nothing, dictionary.processing)


def _check_width(lm: Lm, name: str, hook: str, does: str, width: int) -> None:
    has = lm.width(hook)
    if has == width:
        return
    block = hook.split(".hook")[0].split(".attn")[0].split(".mlp")[0].split(".ln")[0]
    fitting = [h for h in lm.usual_hooks(block) if lm.width(h) == width]
    where = f"there that width is at {', '.join(fitting)}" if fitting else "no usual hook point has"
    tail = where if fitting else f"{where} that width, so it belongs to another model"
    raise InputError(
        f"{name} {does} vectors of {width} at {hook}, where {lm.name} has {has}; {tail}."
    )


@torch.no_grad()
def check(
    lm: Lm,
    dictionary: Dictionary,
    sequences: Sequence[Sequence[int]],
    known: Known | None = None,
) -> SelfCheck:
    """Measure on the first 50 sequences (token ids, BOS included where wanted), 128 tokens each.

    One forward for activations and four for losses; sums in float64. `known` carries losses that
    do not depend on the dictionary from one check to the next on the same sequences. InputError
    when the dictionary does not fit, or nothing can be counted.
    """
    fit(lm, dictionary)
    batches = list(_batches(lm, dictionary, sequences))
    found = _fidelity(lm, dictionary, batches)
    mean = found.mean.to(lm.placement.device, torch.float32)
    clean, spliced, zero, ablated = _losses(
        lm, dictionary, batches, found.rebuilt, mean, {} if known is None else known
    )
    return SelfCheck(
        n_documents=sum(len(batch.tokens) for batch in batches),
        n_tokens=found.n,
        explained_variance=found.explained_variance,
        l0=found.n_nonzero / found.n,
        dead_share=1 - found.n_fired / dictionary.d_sae,
        dead_bound=3 / found.n,
        ce_clean=clean,
        ce_spliced=spliced,
        ce_zero=zero,
        ce_mean=ablated,
        delta_ce=spliced - clean,
        recovery_zero=_left(spliced - clean, zero - clean),
        recovery_mean=_left(spliced - clean, ablated - clean),
        published_l0=_number(dictionary, "l0"),
        published_explained_variance=_number(
            dictionary, "explained_variance", "variance_explained"
        ),
    )


def words(check: SelfCheck) -> list[str]:
    """A sentence for each number that says something is wrong; empty when all is well."""
    found: list[str] = []
    ev, published = check.explained_variance, check.published_l0
    if ev is None:
        found.append(
            "The activations at its hook point never vary: look at the hook point and the text."
        )
    elif ev < LOW_EXPLAINED_VARIANCE:
        found.append(
            f"It explains {ev:.2f} of the variance (expected above {LOW_EXPLAINED_VARIANCE}): look "
            "at the hook point first, then at its input normalisation, then whether it was trained "
            "on this model."
        )
    if published and not 1 / L0_FACTOR <= check.l0 / published <= L0_FACTOR:
        found.append(
            f"{check.l0:.1f} features fire per token where {published:.1f} were published: look at "
            "its input normalisation, whether sequences begin with BOS as in its training, and the "
            "model."
        )
    if check.delta_ce > HIGH_DELTA_CE:
        found.append(
            f"Its reconstruction costs the model {check.delta_ce:.2f} nats per token (from "
            f"{check.ce_clean:.2f} to {check.ce_spliced:.2f}): look at the hook point, the "
            "normalisation and the model before trusting a feature."
        )
    return found


def _batches(
    lm: Lm, dictionary: Dictionary, sequences: Sequence[Sequence[int]]
) -> Iterator[_Batch]:
    uncounted = uncounted_ids(lm.bos, lm.special_ids, dictionary.metadata)
    length = min(POSITIONS, lm.n_ctx)
    cut = sorted((list(s[:length]) for s in sequences[:DOCUMENTS] if len(s) > 1), key=len)
    rows = max(1, min(BATCH, AT_ONCE // (length * lm.d_vocab)))
    for start in range(0, len(cut), rows):  # by length, so that little is padding
        tokens, real = pad_right(cut[start : start + rows], fill=lm.bos or 0)
        tokens, real = tokens.to(lm.placement.device), real.to(lm.placement.device)
        yield _Batch(tokens, real, counted(tokens, real, uncounted))


def _fidelity(lm: Lm, dictionary: Dictionary, batches: list[_Batch]) -> _Fidelity:
    total = torch.zeros(dictionary.d_out, dtype=torch.float64)
    fired = torch.zeros(dictionary.d_sae, dtype=torch.bool)
    rebuilt: list[Tensor] = []
    n = n_nonzero = 0
    square = error = 0.0
    for batch in batches:
        hooks = [dictionary.hook_name, dictionary.hook_out]
        got = lm.activations(batch.tokens, hooks, dictionary.processing)
        features, guess = _rebuild(dictionary, got[dictionary.hook_name], batch.counts)
        y = got[dictionary.hook_out][batch.counts].double().cpu()
        n += len(y)
        n_nonzero += len(features)
        fired[features.cpu()] = True
        total += y.sum(0)
        square += float(y.pow(2).sum())
        error += float((y - guess.double().cpu()).pow(2).sum())
        rebuilt.append(guess)
    if n == 0:
        raise InputError(
            "The self-check found no token to count: give it texts longer than one token."
        )
    explained = _left(error, square - float(total.pow(2).sum()) / n)
    return _Fidelity(n, total / n, explained, n_nonzero, int(fired.sum()), rebuilt)


def _rebuild(
    dictionary: Dictionary, x: Float[Tensor, "batch pos d_in"], at: Bool[Tensor, "batch pos"]
) -> tuple[Int[Tensor, "nonzero"], Float[Tensor, "n d_out"]]:
    """The feature of every non-zero activation, and the reconstruction, at the positions `at`."""
    if dictionary.needs_sequence:
        f = dictionary.encode(x)
        return f[at].nonzero()[:, 1], dictionary.decode(f, x)[at]
    features, guesses = [], []
    for rows in x[at].split(max(1, AT_ONCE // dictionary.d_sae)):
        f = dictionary.encode(rows)
        features.append(f.nonzero()[:, 1])
        guesses.append(dictionary.decode(f, rows))
    return torch.cat(features), torch.cat(guesses)


def _losses(
    lm: Lm,
    dictionary: Dictionary,
    batches: list[_Batch],
    rebuilt: list[Float[Tensor, "n d_out"]],
    mean: Float[Tensor, "d_out"],
    known: Known,
) -> list[float]:
    """Mean next-token loss in nats: clean, spliced, zero-ablated, mean-ablated.

    Losses are counted at the positions that are edited: what BOS predicts never changes.
    """
    n = sum(int(_scored(batch).sum()) for batch in batches)
    if n == 0:
        raise InputError("The self-check found no next token to predict: give it longer texts.")
    uncounted = uncounted_ids(lm.bos, lm.special_ids, dictionary.metadata)
    place = f"{lm.canonical(dictionary.hook_out)} under {dictionary.processing}, {uncounted}"
    ablations = {"zero": torch.zeros_like(mean), "mean": mean}
    total = _total_loss(lm, dictionary, batches, list(rebuilt))
    if (key := f"clean, {uncounted}") not in known:
        known[key] = _total_loss(lm, dictionary, batches, None)
    found = [known[key], total]
    for name, new in ablations.items():
        if (key := f"{name} at {place}") not in known:
            known[key] = _total_loss(lm, dictionary, batches, [new] * len(batches))
        found.append(known[key])
    return [value / n for value in found]


def _total_loss(
    lm: Lm, dictionary: Dictionary, batches: list[_Batch], news: list[Tensor] | None
) -> float:
    """Sum of the scored losses with each of `news` put into its batch; None changes nothing."""
    total = 0.0
    for number, batch in enumerate(batches):
        edits = {}
        if news is not None:
            edits[dictionary.hook_out] = _putting(lm, dictionary, news[number], batch.counts)
        losses = lm.token_losses(batch.tokens, edits)
        total += float(losses[_scored(batch)].double().sum())
    return total


def _scored(batch: _Batch) -> Bool[Tensor, "batch pos-1"]:
    """Positions whose prediction counts."""
    return batch.counts[:, :-1] & batch.real[:, 1:]


def _putting(lm: Lm, dictionary: Dictionary, new: Tensor, at: Bool[Tensor, "batch pos"]) -> Edit:
    """The edit that puts `new` ([n d_out] or [d_out]) at the positions `at`, others unchanged."""

    def edit(h: Tensor) -> Tensor:
        y = lm.process(dictionary.hook_out, h, dictionary.processing)
        # As a difference, so that what the processing folds away of the raw activation survives.
        delta = torch.zeros_like(h)
        delta[at] = (new - y[at]).to(h.dtype)
        return h + delta

    return edit


def _left(part: float, whole: float) -> float | None:
    """1 - part/whole; None where there is nothing to divide by."""
    return 1 - part / whole if whole > 0 else None


def _number(dictionary: Dictionary, *keys: str) -> float | None:
    """The first of the metadata's `keys` that holds a number."""
    for key in keys:
        value = dictionary.metadata.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
