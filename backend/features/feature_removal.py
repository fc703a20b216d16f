"""Feature removal: how setting one feature to zero changes the model's predictions on a text.

The feature is set to zero at every counted position; the other features and the error term stay, so
the edit is Δh = decode(f with entry i := 0) - decode(f), added at the dictionary's output hook
point.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from feature_store.hook_sites import check_single_sites
from feature_store.removal_effects import RemovalEffect

MAX_LISTED_TOKENS = 8
"""Number of tokens kept whose probability the feature's removal changes most."""


@torch.no_grad()
def compute_removal_delta(
    dictionary: Dictionary,
    feature: int,
    x: Float[Tensor, "pos d_in"],
    at: Bool[Tensor, "pos"],
) -> Float[Tensor, "pos d_out"]:
    """Compute the change Δh [pos, d_out] of the activations when a feature is set to zero at the
    positions `at`; zero elsewhere.

    x [pos, d_in] is processed as the dictionary expects.
    """
    delta = torch.zeros(len(x), dictionary.d_out, device=x.device, dtype=dictionary.W_dec.dtype)
    sparse = dictionary.encode_sparse(x)
    active = torch.zeros_like(at)
    active[sparse.token[sparse.feature == feature].long().to(at.device)] = True
    rows = active & at
    if not rows.any():
        return delta
    # Some dictionaries encode a whole sequence at once; others only where something changes.
    needed = torch.ones_like(rows) if dictionary.needs_sequence else rows
    inputs = x[needed]
    f = dictionary.encode(inputs)
    without = f.clone()
    without[rows[needed], feature] = 0
    delta[needed] = dictionary.decode(without, inputs) - dictionary.decode(f, inputs)
    return delta


@torch.no_grad()
def compute_removal_logits(
    lm: LanguageModel,
    dictionary: Dictionary,
    feature: int,
    tokens: Int[Tensor, "pos"],
    counted: Bool[Tensor, "pos"],
) -> Float[Tensor, "2 pos vocab"]:
    """Compute logits [2, pos, vocab] of a text in one pass of two rows: the clean model, and the
    model with one feature removed at counted positions."""
    check_single_sites([dictionary], "Effects of removing a feature")
    change: dict[str, Tensor] = {}

    def read(h: Tensor) -> Tensor:
        x = lm.process(dictionary.hook_name, h[1], dictionary.processing)
        change["delta"] = compute_removal_delta(dictionary, feature, x, counted.to(h.device))
        return h

    def write(h: Tensor) -> Tensor:
        new = h.clone()
        new[1] += change["delta"].to(h)
        return new

    if lm.canonical(dictionary.hook_name) == lm.canonical(dictionary.hook_out):
        replace = {dictionary.hook_out: lambda h: write(read(h))}
    else:
        replace = {dictionary.hook_name: read, dictionary.hook_out: write}
    return lm.logits(tokens.expand(2, -1), replace)


def measure_feature_removal(
    lm: LanguageModel,
    dictionary: Dictionary,
    feature: int,
    tokens: Int[Tensor, "pos"],
    counted: Bool[Tensor, "pos"],
    *,
    sequence: int,
    window: tuple[int, int],
    peak: int,
) -> RemovalEffect:
    """Measure the effect of removing a feature in one context: a window [start, end) of a sequence
    given from its beginning.

    Tokens after the window's end and the token that follows the peak do not matter and are cut.
    """
    start, end = window
    length = min(len(tokens), max(end, peak + 2))
    tokens, counted = tokens[:length], counted[:length]
    logits = compute_removal_logits(lm, dictionary, feature, tokens, counted)
    logprobs = logits.float().log_softmax(-1).cpu()
    next_tokens = tokens[1:].cpu()
    loss_increase = -(logprobs[1, :-1] - logprobs[0, :-1]).gather(-1, next_tokens[:, None])[
        :, 0
    ]  # [pos-1]
    scored = counted[1:].cpu()
    inside = torch.zeros_like(scored)
    inside[start : end - 1] = True
    inside &= scored
    before, after = logprobs[:, peak].exp()
    change = (after - before).abs()[: lm.n_nameable]
    listed = change.topk(min(MAX_LISTED_TOKENS, len(change))).indices
    has_next = peak + 1 < length and bool(scored[peak])
    return RemovalEffect(
        sequence=sequence,
        start=start,
        peak=peak,
        next_loss=float(loss_increase[peak]) if has_next else None,
        window_loss=float(loss_increase[inside].sum()),
        window_n=int(inside.sum()),
        tokens=listed.tolist(),
        before=before[listed].tolist(),
        after=after[listed].tolist(),
    )
