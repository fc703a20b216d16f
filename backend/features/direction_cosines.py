"""Directions of features compared: cosines within a space, and the whole of a logit lens.

Two decoders can be compared where both write into the same space: at the same hook point, or both
into the residual stream (attention's z through W_O). Two encoders where both read at the same hook
point, or both from the residual stream. Elsewhere a cosine would be a number without a meaning.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.features.logit_lens import STREAM_POINTS, compute_logit_lens, map_to_residual_stream
from backend.model.language_model import LanguageModel
from feature_store.records import FeatureId

ROWS_PER_CHUNK = 16_384
"""Decoder rows compared at once, so that no second copy of a dictionary is held."""
EncoderOrDecoder = Literal["encoder", "decoder"]


@torch.inference_mode()
def feature_logit_lens(lm: LanguageModel, one: Dictionary, index: int) -> np.ndarray | None:
    """A feature's lens value for every token of the vocabulary, as backend.features.logit_lens
    defines it; None
    where it has no direct path to the logits."""
    found = compute_logit_lens(lm, one.W_dec[index : index + 1], one.hook_out)
    return None if found is None else found[0].float().cpu().numpy()


@torch.inference_mode()
def compute_pairwise_cosines(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    features: Sequence[FeatureId],
    side: EncoderOrDecoder,
) -> list[list[float | None]]:
    """Pairwise cosines of encoder columns or decoder rows; None where two live in different spaces
    (or where one has no linear encoder)."""
    vectors = [
        feature_direction(lm, dictionaries[one.dictionary], one.index, side) for one in features
    ]
    return [[cosine_within_space(a, b) for b in vectors] for a in vectors]


DirectionInSpace = tuple[str, Float[Tensor, "width"]]
"""The name of a space and a direction in it."""


def feature_direction(
    lm: LanguageModel, one: Dictionary, index: int, side: EncoderOrDecoder
) -> DirectionInSpace | None:
    """A feature's direction in the residual stream if it has one there, else at its hook point."""
    if side == "encoder":
        W_enc = one.W_enc
        if W_enc is None:
            return None
        return (
            RESIDUAL_STREAM_SPACE
            if is_residual_stream(lm, one.hook_name)
            else lm.canonical(one.hook_name)
        ), (W_enc[:, index].float())
    row = one.W_dec[index : index + 1]
    written = map_to_residual_stream(lm, row, one.hook_out)
    if written is not None:
        return RESIDUAL_STREAM_SPACE, written[0]
    return lm.canonical(one.hook_out), row[0].float()


RESIDUAL_STREAM_SPACE = "the residual stream"


def is_residual_stream(lm: LanguageModel, hook: str) -> bool:
    """Whether a hook point is the residual stream itself."""
    name = lm.canonical(hook)
    block = ".".join(name.split(".")[:2])
    known = lm.hook_names()
    aliases = [f"{block}.hook_{key}" for key in STREAM_POINTS]
    return name in [lm.canonical(alias) for alias in aliases if alias in known]


def cosine_within_space(a: DirectionInSpace | None, b: DirectionInSpace | None) -> float | None:
    """The cosine of two directions of one space."""
    if a is None or b is None or a[0] != b[0]:
        return None
    norm = a[1].norm() * b[1].norm()
    return float(a[1] @ b[1] / norm) if norm else None


@torch.inference_mode()
def find_nearest_features(
    lm: LanguageModel, mine: Dictionary, index: int, other: Dictionary, n: int
) -> list[tuple[int, float]] | None:
    """The `n` features of `other` whose decoder rows have the largest cosine with a feature's;
    None where the two write into different spaces."""
    target = feature_direction(lm, mine, index, "decoder")
    if target is None or target[1].norm() == 0:
        return None
    found: list[Tensor] = []
    for rows in other.W_dec.split(ROWS_PER_CHUNK):
        written = map_to_residual_stream(lm, rows, other.hook_out)
        space = RESIDUAL_STREAM_SPACE if written is not None else lm.canonical(other.hook_out)
        if space != target[0]:
            return None
        found.append(row_cosines(rows.float() if written is None else written, target[1]))
    best = torch.cat(found).topk(min(n, other.d_sae))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def row_cosines(
    rows: Float[Tensor, "n width"], target: Float[Tensor, "width"]
) -> Float[Tensor, "n"]:
    """Cosine of each row with `target`; 0 for a row of zeros."""
    norms = rows.norm(dim=-1).clamp(min=torch.finfo(rows.dtype).tiny)
    return rows @ target / (norms * target.norm())
