"""Reconstruction check: does this dictionary fit this model? Its figures, and warnings about those
that look wrong.

A wrong hook point, a missing normalisation or another model's weights raise no errors: they give
features that look like features. But they cannot give a good reconstruction. The figures are
measured in `reconstruction_measurement.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import list_hooks
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.number_format import format_fixed as short

LOW_EXPLAINED_VARIANCE = 0.5
L0_FACTOR = 2.0
HIGH_DELTA_CE = 1.0  # nats per token
ENOUGH_DOCUMENTS = 50
"""Number of documents below which the reconstruction check warns that its figures rest on few
texts."""
UNIGRAM_SHARE = 0.9
"""Share of the unigram loss above which the reconstruction check warns that the text means nothing
to the model."""


@dataclass(frozen=True)
class ReconstructionCheck:
    """Figures of a dictionary's reconstruction check, over counted tokens only: no BOS, padding or
    special tokens."""

    n_documents: int
    n_pieces: int
    """Number of pieces of these documents, at most 128 tokens each."""
    n_tokens: int
    explained_variance: float | None
    """Explained variance: 1 - squared error of the reconstruction over variance, summed over
    tokens; None if the activations never vary."""
    l0: float
    """L0 of the reconstruction: number of non-zero features per token."""
    dead_share: float
    """Share of features without any activation in the n_tokens of the reconstruction check."""
    dead_bound: float
    """Upper bound 3/n on the density of a feature that never fired in the reconstruction check, at
    95 % confidence."""
    largest: float
    """Largest |activation| of any feature in the reconstruction check."""
    ce_clean: float
    """Cross-entropy of the next token of the unedited model, in nats, as for the other `ce_`
    figures."""
    ce_unigram: float
    """Cross-entropy of predicting each token from the other tokens' frequencies in these pieces
    (Witten-Bell smoothing)."""
    ce_spliced: float
    """Cross-entropy when the dictionary's reconstruction replaces the activation."""
    ce_zero: float | None
    """Cross-entropy when zero replaces the activation; None where nothing is spliced: a layer's own
    neurons."""
    ce_mean: float | None
    """Cross-entropy when the mean over all counted tokens replaces the activation."""
    delta_ce: float
    """Increase of the cross-entropy by the reconstruction: ce_spliced - ce_clean."""
    delta_ce_margin: float | None
    """Half the width of the 95 % interval of delta_ce; None where delta_ce is exact or has no
    interval."""
    delta_ce_pieces: int
    """Number of pieces on which delta_ce was measured: fewer than n_pieces if the interval was
    narrow earlier."""
    recovery_zero: float | None
    """Loss recovered by the reconstruction: 1 - delta_ce over the damage of zero ablation; None
    where that does no damage."""
    recovery_mean: float | None
    published_l0: float | None
    published_explained_variance: float | None

    def plain(self) -> dict[str, Any]:
        """Return the figures of the reconstruction check for JSON and the store, with None for
        values that are not finite."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def choose_bos_token(lm: LanguageModel, dictionaries: list[Dictionary]) -> int | None:
    """Return the BOS token that the dictionaries of one reconstruction check or harvest expect at
    the front of sequences, or None.

    Raise InputError when some were trained with BOS and others without.
    """
    expected = {d.name: expects_bos(d) for d in dictionaries}
    if len(set(expected.values())) > 1:
        yes, no = (
            next(n for n, value in expected.items() if value is kind) for kind in (True, False)
        )
        raise InputError(
            f"{yes} was trained with a BOS token in front of each sequence and {no} without. "
            "Harvest them separately."
        )
    return lm.bos if all(expected.values()) else None


def expects_bos(dictionary: Dictionary) -> bool:
    """Return whether a dictionary was trained on sequences that begin with BOS."""
    return bool(dictionary.metadata.get("prepend_bos", True))


def check_dictionary_fits(lm: LanguageModel, dictionary: Dictionary) -> None:
    """Raise InputError unless the model has the dictionary's hook points, with matching widths; run
    before the reconstruction check."""
    for site in dictionary.reads:
        _check_hook_width(lm, dictionary.name, site.hook, "reads", site.width)
    for site in dictionary.writes:
        _check_hook_width(lm, dictionary.name, site.hook, "writes", site.width)
    for hook in list_hooks([dictionary], writes=True):  # a processing may be undefined there
        nothing = torch.zeros(1, 1, lm.width(hook), device=lm.placement.device)
        lm.process(hook, nothing, dictionary.processing)


def _check_hook_width(lm: LanguageModel, name: str, hook: str, verb: str, width: int) -> None:
    actual = lm.width(hook)
    if actual == width:
        return
    block = hook.split(".hook")[0].split(".attn")[0].split(".mlp")[0].split(".ln")[0]
    fitting = [h for h in lm.usual_hooks(block) if lm.width(h) == width]
    where = f"there that width is at {', '.join(fitting)}" if fitting else "no usual hook point has"
    tail = where if fitting else f"{where} that width, so it belongs to another model"
    raise InputError(
        f"{name} {verb} vectors of {width} at {hook}, where {lm.name} has {actual}; {tail}."
    )


def unigram_loss(tokens: Sequence[int] | np.ndarray, d_vocab: int) -> float:
    """Return the mean loss in nats of predicting each token from the other tokens' frequencies: a
    baseline of the reconstruction check.

    Witten-Bell: of N other tokens of T kinds, a token seen n times has probability n / (N + T), and
    a share T / (N + T) is spread evenly over the vocabulary. Leaving the token itself out keeps a
    small sample from looking predictable.
    """
    ids, index, counts = np.unique(np.asarray(tokens), return_inverse=True, return_counts=True)
    others = counts[index] - 1
    kinds = len(ids) - (others == 0)
    n = len(index) - 1
    if n <= 0:
        return math.log(d_vocab)
    return float(-np.log((others + kinds / d_vocab) / (n + kinds)).mean())


def describe_check_problems(check: ReconstructionCheck) -> list[str]:
    """Describe each figure of a reconstruction check that looks wrong in a sentence; an empty list
    when all is well.

    Each comparison tests for the good case, so that NaN, which compares as false, is reported.
    """
    sentences = [*describe_text_problems(check), *describe_reconstruction_problems(check)]
    numbers = asdict(check)
    not_finite = [
        name for name, v in numbers.items() if isinstance(v, float) and not math.isfinite(v)
    ]
    if not_finite:
        sentences.insert(
            0,
            f"Not a finite number on this text: {', '.join(not_finite)}. The model or the "
            "dictionary overflows: load both in float32, and check the weights.",
        )
    return sentences


def describe_text_problems(check: ReconstructionCheck) -> list[str]:
    """Describe what is wrong with the texts of a reconstruction check: few documents, or a model
    that predicts them badly."""
    sentences = []
    if not check.ce_clean < UNIGRAM_SHARE * check.ce_unigram:
        sentences.append(
            f"This model cannot predict these texts: its loss is {short(check.ce_clean)} nats per "
            f"token, and token frequencies alone give {short(check.ce_unigram)}. Check the "
            "language and format of the texts, and whether model and tokenizer belong together."
        )
    if not check.n_documents >= ENOUGH_DOCUMENTS:
        documents = "document" if check.n_documents == 1 else "documents"
        sentences.append(
            f"Measured on {check.n_pieces} pieces of only {check.n_documents} {documents} "
            f"(at least {ENOUGH_DOCUMENTS} are needed): the figures may not hold for other texts."
        )
    return sentences


def describe_reconstruction_problems(check: ReconstructionCheck) -> list[str]:
    """Describe what is wrong with the reconstruction in a check: low explained variance, L0 far
    from the published one, high ΔCE."""
    sentences = []
    explained, published = check.explained_variance, check.published_l0
    if explained is None:
        sentences.append(
            "The activations at its hook point never vary: check the hook point and the text."
        )
    elif not explained >= LOW_EXPLAINED_VARIANCE:
        sentences.append(
            f"It explains {short(explained)} of the variance (expected above "
            f"{LOW_EXPLAINED_VARIANCE}): check the hook point first, then its input normalisation, "
            "then whether it was trained on this model."
        )
    if published and not 1 / L0_FACTOR <= check.l0 / published <= L0_FACTOR:
        sentences.append(
            f"{short(check.l0, 1)} features fire per token where {short(published, 1)} were "
            "published: check its input normalisation, whether sequences begin with BOS as in "
            "its training, and the model."
        )
    if not check.delta_ce <= HIGH_DELTA_CE:
        sentences.append(
            f"Its reconstruction costs the model {short(check.delta_ce)} nats per token (from "
            f"{short(check.ce_clean)} to {short(check.ce_spliced)}): check the hook point, the "
            "normalisation and the model before trusting a feature."
        )
    if check.recovery_mean is not None and not check.recovery_mean >= 0:
        sentences.append(
            "Its reconstruction harms the model more than the mean activation would "
            f"(loss recovered {short(check.recovery_mean)} against mean ablation): it does not fit "
            "this model at this hook point."
        )
    return sentences
