"""What removing one feature does to the predictions of a text.

The feature is set to zero at every counted position; the rest of the code and the error term stay,
so the edit is Δh = decode(f with entry i := 0) - decode(f), added at the dictionary's output hook.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from feature_store.removal_effects import RemovalEffect

MAX_LISTED_TOKENS = 8
"""Tokens kept whose probability moves most."""


@torch.no_grad()
def compute_removal_delta(
    dictionary: Dictionary,
    feature: int,
    x: Float[Tensor, "pos d_in"],
    at: Bool[Tensor, "pos"],
) -> Float[Tensor, "pos d_out"]:
    """Δh of setting a feature to zero at the positions `at`; zeros elsewhere. x is processed as
    the dictionary expects."""
    delta = torch.zeros(len(x), dictionary.d_out, device=x.device, dtype=dictionary.W_dec.dtype)
    found = dictionary.encode_sparse(x)
    active = torch.zeros_like(at)
    active[found.token[found.feature == feature].long().to(at.device)] = True
    rows = active & at
    if not rows.any():
        return delta
    # One sequence's code depends on all of it; other codes are only made where something changes.
    here = torch.ones_like(rows) if dictionary.needs_sequence else rows
    seen = x[here]
    f = dictionary.encode(seen)
    without = f.clone()
    without[rows[here], feature] = 0
    delta[here] = dictionary.decode(without, seen) - dictionary.decode(f, seen)
    return delta


@torch.no_grad()
def compute_removal_logits(
    lm: LanguageModel,
    dictionary: Dictionary,
    feature: int,
    tokens: Int[Tensor, "pos"],
    counted: Bool[Tensor, "pos"],
) -> Float[Tensor, "2 pos vocab"]:
    """Logits as they are and with the feature removed at counted positions, of one pass."""
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
    """The effect in one context: a window [start, end) of a sequence given from its beginning.

    Later tokens than the one after the peak and the window's last do not matter and are cut.
    """
    start, end = window
    length = min(len(tokens), max(end, peak + 2))
    tokens, counted = tokens[:length], counted[:length]
    logits = compute_removal_logits(lm, dictionary, feature, tokens, counted)
    logprobs = logits.float().log_softmax(-1).cpu()
    chosen = tokens[1:].cpu()
    gained = -(logprobs[1, :-1] - logprobs[0, :-1]).gather(-1, chosen[:, None])[:, 0]  # [pos-1]
    scored = counted[1:].cpu()
    inside = torch.zeros_like(scored)
    inside[start : end - 1] = True
    inside &= scored
    before, after = logprobs[:, peak].exp()
    change = (after - before).abs()[: lm.n_nameable]
    moved = change.topk(min(MAX_LISTED_TOKENS, len(change))).indices
    has_next = peak + 1 < length and bool(scored[peak])
    return RemovalEffect(
        sequence=sequence,
        start=start,
        peak=peak,
        next_loss=float(gained[peak]) if has_next else None,
        window_loss=float(gained[inside].sum()),
        window_n=int(inside.sum()),
        tokens=moved.tolist(),
        before=before[moved].tolist(),
        after=after[moved].tolist(),
    )
