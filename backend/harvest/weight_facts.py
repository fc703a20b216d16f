"""Weight facts: what follows from a dictionary's weights alone (logit lens, nearest decoder
directions, norms), computed once per model and dictionary and cached on disk."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.features.logit_lens import lens_of_decoder_rows
from backend.harvest.stage_timings import StageTimings
from backend.model.language_model import LanguageModel

LENS_ARRAYS = (
    "promoted_tokens",
    "promoted_values",
    "suppressed_tokens",
    "suppressed_values",
    "logit_kurtosis",
)
"""Names of the weight facts that come from the logit lens."""
MAX_LISTED = 10
"""Logit-lens tokens and nearest neighbours stored for each feature."""
TILE_FEATURES = 512
"""Features whose weight facts are computed at a time, at most."""
TILE_LOGITS = 1 << 25
"""Logits of features held at once, in each of a few copies of 128 MB: with a vocabulary of 262,144
tokens, a tile has 128 features."""
CACHE_VERSION = 1
"""Version of the cached weight facts. Increase it when their computation changes, so that old cache
files are not read."""

WeightArrays = dict[str, np.ndarray]
"""Weight facts of one dictionary: arrays by name, with one row per feature."""


def compute_weight_facts(
    lm: LanguageModel, dictionary: Dictionary, cache: Path, stages: StageTimings
) -> Iterator[tuple[int, WeightArrays | None]]:
    """Compute the weight facts of a dictionary, or read them from the cache.

    Yields (features done, None) during the work, then (d_sae, the arrays). Arrays [d_sae,
    MAX_LISTED]: promoted_tokens, promoted_values, suppressed_tokens, suppressed_values (absent
    where the logit lens is undefined), nearest, nearest_cosine. Arrays [d_sae]: logit_kurtosis,
    decoder_norm, encoder_decoder_cosine (NaN where there is no linear encoder).
    """
    path = cache / f"{weight_cache_key(lm, dictionary)}.safetensors"
    if (cached := read_weight_cache(path)) is not None:
        yield dictionary.d_sae, cached
        return
    arrays: WeightArrays = {}
    W_dec = dictionary.W_dec.detach().float()
    norm = W_dec.norm(dim=1)
    unit = W_dec / norm.clamp(min=1e-30)[:, None]
    size = max(1, min(TILE_FEATURES, TILE_LOGITS // lm.n_nameable))
    for begin in range(0, dictionary.d_sae, size):
        tile = slice(begin, begin + size)
        with stages("logits"), torch.inference_mode():
            part = compute_lens_tile(lens_of_decoder_rows(lm, dictionary, W_dec[tile]))
        with stages("neighbours"), torch.inference_mode():
            part |= find_neighbours_tile(unit, tile)
        fill_tile(arrays, part, tile, dictionary.d_sae)
        yield min(begin + size, dictionary.d_sae), None
    arrays["decoder_norm"] = norm.cpu().numpy()
    arrays["encoder_decoder_cosine"] = encoder_decoder_cosine(dictionary, unit)
    write_weight_cache(path, arrays)
    yield dictionary.d_sae, arrays


def drop_lens_arrays(arrays: WeightArrays) -> WeightArrays:
    """Return the weight facts without those of the logit lens, for a dictionary that reads the
    shuffled model: decoder and unembedding would only repeat the trained dictionary's rows."""
    return {name: rows for name, rows in arrays.items() if name not in LENS_ARRAYS}


def fill_tile(arrays: WeightArrays, part: WeightArrays, tile: slice, n: int) -> None:
    """Copy the weight facts (logit lens, neighbours, norms) of a tile of features into arrays of
    `n` features, which are allocated at the first tile: small results kept between large
    temporaries would fragment memory."""
    for name, rows in part.items():
        if name not in arrays:
            arrays[name] = np.empty((n, *rows.shape[1:]), dtype=rows.dtype)
        arrays[name][tile] = rows


def weight_cache_key(lm: LanguageModel, dictionary: Dictionary) -> str:
    """Return the cache key of a dictionary's weight facts: a hash of the model's and the
    dictionary's weights, the hook points that it writes, and the tokenizer's size where it is
    smaller than the vocabulary."""
    written = "+".join(dictionary.write_hooks)
    text = f"{CACHE_VERSION}/{lm.model_hash}/{dictionary.weights_hash}/{written}"
    if lm.n_nameable < lm.d_vocab:  # the same weights with another tokenizer list other tokens
        text += f"/{lm.n_nameable}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def compute_lens_tile(logits: Float[Tensor, "n vocab"] | None) -> WeightArrays:
    """Return the most promoted and most suppressed tokens of each feature by the logit lens, and
    the kurtosis of its logits over the vocabulary."""
    if logits is None:
        return {}
    n = min(MAX_LISTED, logits.shape[1])
    high, low = logits.topk(n, dim=1), logits.topk(n, dim=1, largest=False)
    centred = logits - logits.mean(dim=1, keepdim=True)
    square = centred * centred
    kurtosis = (square * square).mean(dim=1) / square.mean(dim=1).clamp(min=1e-30) ** 2
    return {
        "promoted_tokens": high.indices.to(torch.int32).cpu().numpy(),
        "promoted_values": high.values.cpu().numpy(),
        "suppressed_tokens": low.indices.to(torch.int32).cpu().numpy(),
        "suppressed_values": low.values.cpu().numpy(),
        "logit_kurtosis": kurtosis.cpu().numpy(),
    }


def find_neighbours_tile(unit: Float[Tensor, "d_sae d_out"], tile: slice) -> WeightArrays:
    """Return for each feature of a tile the other features with the nearest decoder directions, and
    their cosines."""
    cosine = unit[tile] @ unit.T
    rows = torch.arange(len(cosine), device=cosine.device)
    cosine[rows, rows + tile.start] = -torch.inf
    best = cosine.topk(min(MAX_LISTED, len(unit) - 1), dim=1)
    return {
        "nearest": best.indices.to(torch.int32).cpu().numpy(),
        "nearest_cosine": best.values.cpu().numpy(),
    }


def encoder_decoder_cosine(
    dictionary: Dictionary, unit: Float[Tensor, "d_sae d_out"]
) -> np.ndarray:
    """Return the cosine of each feature's encoder and decoder directions; NaN without a linear
    encoder, or where the two are at different hook points."""
    W_enc = dictionary.W_enc
    if W_enc is None or dictionary.is_transcoder:
        return np.full(len(unit), np.nan, dtype=np.float32)
    reads = W_enc.detach().float().T
    cosine = (reads * unit).sum(1) / reads.norm(dim=1).clamp(min=1e-30)
    return cosine.cpu().numpy()


def read_weight_cache(path: Path) -> WeightArrays | None:
    """Return the cached weight facts, or None where the cache file is missing or damaged."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None


def write_weight_cache(path: Path, arrays: WeightArrays) -> None:
    """Write weight facts to the cache for the next harvest with the same weights, replacing the
    file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new_file = path.with_suffix(".new")
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, new_file)
    new_file.replace(path)
