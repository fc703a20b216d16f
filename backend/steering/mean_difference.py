"""A direction from two sets of texts: the difference of their means, in the stream and in features.

A text counts once, however long: its mean over counted tokens. What differs between the sets is
then two things: a vector at a hook point, and a few features that can be named.
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
from feature_store.records import FeatureId

MAX_TEXTS_PER_SET = 512
TEXTS_PER_BATCH = 16
FEW_TEXTS = 5
"""Texts a side below which the difference is mostly that of these very texts."""


@dataclass(frozen=True)
class MeanDifference:
    """From the mean of the second set to that of the first."""

    vector: SteeringVector
    """At the hook point where the dictionary writes; its own length, so that adding it once moves
    a text of the second set's mean to the first's."""
    features: tuple[tuple[FeatureId, float], ...]
    """Those whose mean activation differs most, each by how much it moves the stream; activation
    units, first less second."""
    cosine: float | None
    """Between the vector and what these features add up to; None where that is nothing."""
    cosine_all: float | None
    """The same with all features that differ."""
    n: tuple[int, int]
    """Texts of each set."""
    norm: float
    """Mean length of the stream at counted tokens, to compare the vector's with."""

    @property
    def length(self) -> float:
        return float(torch.tensor(self.vector.values).norm())

    @property
    def notes(self) -> list[str]:
        """Warnings."""
        few = min(self.n)
        return [f"only {few} texts on one side: the direction is theirs"] if few < FEW_TEXTS else []


@torch.inference_mode()
def compute_mean_difference(
    lm: LanguageModel,
    one: Dictionary,
    first: Sequence[TokenizedText],
    second: Sequence[TokenizedText],
    *,
    m: int = 8,
) -> MeanDifference:
    """InputError for a set without texts, with too many, or whose texts have no counted token."""
    for texts in (first, second):
        _check_texts(texts)
    sides = [_compute_text_set_means(lm, one, texts) for texts in (first, second)]
    stream = sides[0].stream - sides[1].stream
    codes = sides[0].codes - sides[1].codes
    if not stream.any():
        raise InputError("The two sets read the same: there is no difference to steer by.")
    moved = codes.abs() * one.W_dec.to(codes).norm(dim=-1)
    best = [i for i in moved.topk(min(m, len(moved))).indices.tolist() if moved[i] > 0]
    kept = torch.zeros_like(codes)
    kept[best] = codes[best]
    norms = [side.norm for side in sides]
    return MeanDifference(
        vector=SteeringVector("difference of means", one.hook_out, tuple(stream.tolist())),
        features=tuple((FeatureId(one.name, i), float(codes[i])) for i in best),
        cosine=_cosine_or_none(stream, kept @ one.W_dec.to(codes)),
        cosine_all=_cosine_or_none(stream, codes @ one.W_dec.to(codes)),
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
            raise InputError(f"Text {number} of a side has no ordinary token: leave it out.")


def _compute_text_set_means(
    lm: LanguageModel, one: Dictionary, texts: Sequence[TokenizedText]
) -> _TextSetMeans:
    """Of one set: means over texts of means over counted tokens."""
    stream = torch.zeros(lm.width(one.hook_out), dtype=torch.float64)
    codes = torch.zeros(one.d_sae, dtype=torch.float64)
    length = 0.0
    hooks = list(dict.fromkeys([one.hook_name, one.hook_out]))
    for begin in range(0, len(texts), TEXTS_PER_BATCH):
        some = texts[begin : begin + TEXTS_PER_BATCH]
        tokens = pad_right([text.token_ids for text in some])[0]
        raw = lm.activations(tokens, hooks)
        x = lm.process(one.hook_name, raw[one.hook_name], one.processing)
        for row, text in enumerate(some):
            counted = torch.tensor(text.counted)
            n = len(counted)
            h = raw[one.hook_out][row, :n][counted].double().cpu()
            stream += h.mean(0)
            length += float(h.norm(dim=-1).mean())
            codes += _mean_feature_activations(one, x[row, :n], counted)
    size = len(texts)
    return _TextSetMeans(stream / size, codes / size, length / size)


def _mean_feature_activations(
    one: Dictionary, x: Float[Tensor, "pos d_in"], counted: Tensor
) -> Tensor:
    """A text's mean activation of every feature over its counted tokens."""
    token, feature, value = one.encode_sparse(x)
    kept = counted.to(token.device)[token.long()]
    summed = torch.zeros(one.d_sae, dtype=torch.float64)
    summed.index_add_(0, feature[kept].long().cpu(), value[kept].double().cpu())
    return summed / int(counted.sum())


def _cosine_or_none(a: Tensor, b: Tensor) -> float | None:
    lengths = a.norm() * b.norm()
    return float(a @ b.to(a) / lengths) if lengths > 0 else None
