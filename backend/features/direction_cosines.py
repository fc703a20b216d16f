"""Cosines between feature directions (encoder columns or decoder rows) that lie in the same space.

Two decoder rows can be compared when both write into the same space: at the same hook point, or
both into the residual stream (attention's z through W_O). Two encoder columns can be compared when
both read at the same hook point, or both from the residual stream. Between other directions a
cosine has no meaning.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.features.logit_lens import STREAM_POINTS, map_to_residual_stream
from backend.model.language_model import LanguageModel
from feature_store.records import FeatureId

ROWS_PER_CHUNK = 16_384
"""Number of decoder rows whose cosines are computed at once, so that no second copy of a dictionary
is held."""
EncoderOrDecoder = Literal["encoder", "decoder"]


@torch.inference_mode()
def compute_pairwise_cosines(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    features: Sequence[FeatureId],
    side: EncoderOrDecoder,
) -> list[list[float | None]]:
    """Compute the cosine of every pair of features, by encoder column or decoder row.

    Return None for a pair in different spaces, or without a linear encoder.
    """
    vectors = [
        feature_direction(lm, dictionaries[feature.dictionary], feature.index, side)
        for feature in features
    ]
    return [[cosine_within_space(a, b) for b in vectors] for a in vectors]


DirectionInSpace = tuple[str, Float[Tensor, "width"]]
"""Direction with the name of its space (a hook point or the residual stream), so that cosines are
only taken within one space."""


def feature_direction(
    lm: LanguageModel, dictionary: Dictionary, index: int, side: EncoderOrDecoder
) -> DirectionInSpace | None:
    """Return a feature's encoder or decoder direction and its space: the residual stream where
    possible, else its hook point."""
    if side == "encoder":
        W_enc = dictionary.W_enc
        if W_enc is None:
            return None
        on_stream = len(dictionary.reads) == 1 and is_residual_stream(lm, dictionary.hook_name)
        space = RESIDUAL_STREAM_SPACE if on_stream else joint_space(lm, dictionary.read_hooks)
        return space, W_enc[:, index].float()
    space, rows = decoder_rows_in_space(lm, dictionary, dictionary.W_dec[index : index + 1])
    return space, rows[0]


def decoder_rows_in_space(
    lm: LanguageModel, dictionary: Dictionary, rows: Float[Tensor, "n d_out"]
) -> tuple[str, Float[Tensor, "n width"]]:
    """Return the name of the space in which the cosines of a dictionary's decoder rows are taken,
    and the rows in that space: the residual stream where possible, else the hook points written.

    Rows of several write sites are compared side by side, with rows of the same sites only.
    """
    if len(dictionary.writes) == 1:
        written = map_to_residual_stream(lm, rows, dictionary.hook_out)
        if written is not None:
            return RESIDUAL_STREAM_SPACE, written
    return joint_space(lm, dictionary.write_hooks), rows.float()


def joint_space(lm: LanguageModel, hooks: Sequence[str]) -> str:
    """Return the name of the space of decoder or encoder directions concatenated over these hook
    points, in which cosines are taken."""
    return " + ".join(map(lm.canonical, hooks))


RESIDUAL_STREAM_SPACE = "the residual stream"


def is_residual_stream(lm: LanguageModel, hook: str) -> bool:
    """Return whether a hook point is the residual stream itself, so that directions there share one
    space."""
    name = lm.canonical(hook)
    block = ".".join(name.split(".")[:2])
    known = lm.hook_names()
    aliases = [f"{block}.hook_{key}" for key in STREAM_POINTS]
    return name in [lm.canonical(alias) for alias in aliases if alias in known]


def cosine_within_space(a: DirectionInSpace | None, b: DirectionInSpace | None) -> float | None:
    """Return the cosine of two directions, or None when they lie in different spaces or one has no
    length."""
    if a is None or b is None or a[0] != b[0]:
        return None
    norm = a[1].norm() * b[1].norm()
    return float(a[1] @ b[1] / norm) if norm else None


@torch.inference_mode()
def find_nearest_features(
    lm: LanguageModel, dictionary: Dictionary, index: int, other: Dictionary, n: int
) -> list[tuple[int, float]] | None:
    """Find the `n` features of `other` whose decoder rows have the largest cosine with a feature's
    decoder direction.

    Return (feature, cosine) pairs, largest first, or None when the two dictionaries write into
    different spaces.
    """
    target = feature_direction(lm, dictionary, index, "decoder")
    if target is None or target[1].norm() == 0:
        return None
    cosines: list[Tensor] = []
    for rows in other.W_dec.split(ROWS_PER_CHUNK):
        space, written = decoder_rows_in_space(lm, other, rows)
        if space != target[0]:
            return None
        cosines.append(row_cosines(written, target[1]))
    best = torch.cat(cosines).topk(min(n, other.d_sae))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def row_cosines(
    rows: Float[Tensor, "n width"], target: Float[Tensor, "width"]
) -> Float[Tensor, "n"]:
    """Return the cosine of each row [n, width] with the direction `target` [width]; 0 for a row of
    zeros."""
    norms = rows.norm(dim=-1).clamp(min=torch.finfo(rows.dtype).tiny)
    return rows @ target / (norms * target.norm())
