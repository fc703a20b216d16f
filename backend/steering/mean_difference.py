"""Steering vector from two sets of texts: the difference of their mean activations, as a vector and
in features.

Each text counts once, however long: its mean over counted tokens is taken first. The difference
between the sets is given as a vector at a hook point and as a few features with names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.interventions.records import SteeringVector
from backend.model.counted_positions import pad_right
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.hook_sites import check_single_sites
from feature_store.records import FeatureId

MAX_TEXTS_PER_SET = 512
"""Maximum number of texts in each of the two sets of a mean difference."""
TEXTS_PER_BATCH = 16
FEW_TEXTS = 5
"""Number of texts in a set below which the mean difference mostly describes these very texts, and a
warning is given."""


@dataclass(frozen=True)
class MeanDifference:
    """Difference of means of two text sets: the steering vector from the mean of the second set to
    that of the first."""

    vector: SteeringVector
    """Steering vector at the dictionary's output hook point; its length is such that adding it once
    moves the second set's mean to the first's."""
    features: tuple[tuple[FeatureId, float], ...]
    """Features whose mean activation differs most between the sets, by how far that moves the
    stream; in activation units, first set less second."""
    cosine: float | None
    """Cosine of the steering vector with the sum of the listed features' differences; None where
    that sum is zero."""
    cosine_all: float | None
    """Cosine of the mean difference with the differences of all features, decoded."""
    n: tuple[int, int]
    """Number of texts in the first and in the second set."""
    norm: float
    """Mean length of the residual stream at counted tokens, for comparison with the steering
    vector's."""

    @property
    def length(self) -> float:
        """Length of the mean-difference steering vector, in units of the hook point."""
        return float(torch.tensor(self.vector.values).norm())

    @property
    def notes(self) -> list[str]:
        """Warnings about a mean difference, such as a set with too few texts."""
        few = min(self.n)
        return (
            [f"only {few} texts on one side: the direction may describe only them"]
            if few < FEW_TEXTS
            else []
        )


@torch.inference_mode()
def compute_mean_difference(
    lm: LanguageModel,
    dictionary: Dictionary,
    first: Sequence[TokenizedText],
    second: Sequence[TokenizedText],
    *,
    m: int = 8,
) -> MeanDifference:
    """Compute the difference of mean activations between two sets of texts, with the `m` features
    that differ most.

    Raise InputError for an empty set, a set with too many texts, or a text without a counted token.
    """
    check_single_sites([dictionary], "Differences of means")
    for texts in (first, second):
        _check_texts(texts)
    sides = [_compute_text_set_means(lm, dictionary, texts) for texts in (first, second)]
    stream = sides[0].stream - sides[1].stream
    codes = sides[0].codes - sides[1].codes
    if not stream.any():
        raise InputError(
            "The two sets have the same mean activation, so there is no steering vector."
        )
    shifts = codes.abs() * dictionary.W_dec.to(codes).norm(dim=-1)
    largest = [i for i in shifts.topk(min(m, len(shifts))).indices.tolist() if shifts[i] > 0]
    listed = torch.zeros_like(codes)
    listed[largest] = codes[largest]
    norms = [side.norm for side in sides]
    return MeanDifference(
        vector=SteeringVector("difference of means", dictionary.hook_out, tuple(stream.tolist())),
        features=tuple((FeatureId(dictionary.name, i), float(codes[i])) for i in largest),
        cosine=_cosine_or_none(stream, listed @ dictionary.W_dec.to(codes)),
        cosine_all=_cosine_or_none(stream, codes @ dictionary.W_dec.to(codes)),
        n=(len(first), len(second)),
        norm=sum(norms) / 2,
    )


@dataclass(frozen=True)
class _TextSetMeans:
    stream: Float[Tensor, "d_out"]
    codes: Float[Tensor, "d_sae"]
    norm: float


def _check_texts(texts: Sequence[TokenizedText]) -> None:
    if not texts:
        raise InputError("Each side needs at least one text: write one a line.")
    if len(texts) > MAX_TEXTS_PER_SET:
        raise InputError(
            f"{len(texts)} texts on one side are too many: at most {MAX_TEXTS_PER_SET}."
        )
    for number, text in enumerate(texts, 1):
        if not any(text.counted):
            raise InputError(f"Text {number} of a side has no ordinary token: remove it.")


def _compute_text_set_means(
    lm: LanguageModel, dictionary: Dictionary, texts: Sequence[TokenizedText]
) -> _TextSetMeans:
    """Compute the means of one text set: over texts, of the means over each text's counted
    tokens."""
    stream = torch.zeros(lm.width(dictionary.hook_out), dtype=torch.float64)
    codes = torch.zeros(dictionary.d_sae, dtype=torch.float64)
    length = 0.0
    hooks = list(dict.fromkeys([dictionary.hook_name, dictionary.hook_out]))
    for start in range(0, len(texts), TEXTS_PER_BATCH):
        batch = texts[start : start + TEXTS_PER_BATCH]
        tokens = pad_right([text.token_ids for text in batch])[0]
        raw = lm.activations(tokens, hooks)
        x = lm.process(dictionary.hook_name, raw[dictionary.hook_name], dictionary.processing)
        for row, text in enumerate(batch):
            counted = torch.tensor(text.counted)
            n = len(counted)
            h = raw[dictionary.hook_out][row, :n][counted].double().cpu()
            stream += h.mean(0)
            length += float(h.norm(dim=-1).mean())
            codes += _mean_feature_activations(dictionary, x[row, :n], counted)
    size = len(texts)
    return _TextSetMeans(stream / size, codes / size, length / size)


def _mean_feature_activations(
    dictionary: Dictionary, x: Float[Tensor, "pos d_in"], counted: Tensor
) -> Tensor:
    """Return the mean activation of every feature [d_sae] over the counted tokens of one text."""
    token, feature, value = dictionary.encode_sparse(x)
    kept = counted.to(token.device)[token.long()]
    summed = torch.zeros(dictionary.d_sae, dtype=torch.float64)
    summed.index_add_(0, feature[kept].long().cpu(), value[kept].double().cpu())
    return summed / int(counted.sum())


def _cosine_or_none(a: Tensor, b: Tensor) -> float | None:
    lengths = a.norm() * b.norm()
    return float(a @ b.to(a) / lengths) if lengths > 0 else None
