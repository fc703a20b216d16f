"""Exact sparse encoding of activations in tiles: rows of tokens by blocks of features, never a
dense code of all features.

TopK does not sort a row. The k-th largest of the maxima of any k or more disjoint groups is a lower
bound on the k-th largest entry (k groups hold an entry at least as large), so one comparison leaves
k entries and a few more, and only those are trimmed. On a CPU, numpy finds the survivors in the
matrix product's own memory, several times faster than `torch.nonzero`; on other devices torch does.
"""

import threading

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.activation_rules import ActivationRule, GroupMaxRule, LinearRule
from backend.dictionaries.base import Triples
from backend.dictionaries.select_numpy import NumpySelector
from backend.dictionaries.select_torch import TorchSelector

TILE_TOKENS = 256
"""Tokens in an encoder tile. Measured at d_in 256 on one core: 64 is a quarter slower, 512 is not
faster."""
TILE_FEATURES = 16_384
"""Features in an encoder tile: with TILE_TOKENS, 16 MB of float32."""
DENSE = TILE_TOKENS * TILE_FEATURES
"""Largest number of entries of an encoder tile where an activation rule needs whole rows."""


class _ThreadBuffers(threading.local):
    """Reusable tile buffers of each thread."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, int, torch.dtype, torch.device], Tensor] = {}


_buffers = _ThreadBuffers()


def borrow_buffer(name: str, rows: int, width: int, like: Tensor) -> Tensor:
    """Return a [rows width] buffer for a tile of the sparse encoder; the same thread reuses it for
    its next tile, so that memory stays flat."""
    key = (name, width, like.dtype, like.device)
    held = _buffers.held.get(key)
    if held is None or len(held) < rows:
        with torch.inference_mode(False):  # a harvest's buffer must serve what is live as well
            held = _buffers.held[key] = torch.empty(
                max(rows, 1), width, dtype=like.dtype, device=like.device
            )
    return held[:rows]


def encode_tiles(
    x: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, "d_sae"],
    rule: ActivationRule,
    *,
    rows: int = TILE_TOKENS,
    block: int = TILE_FEATURES,
    numpy: bool | None = None,
) -> Triples:
    """Return the non-zero feature activations of an affine encoder, rule(x @ W_enc + b_enc), as
    triples, computed tile by tile.

    Weights in bfloat16 make the product approximate. `numpy` is whether the non-zero activations
    are found by numpy instead of torch; with None the device decides. Neither that choice nor the
    tile size changes the result.
    """
    d_sae = W_enc.shape[1]
    if isinstance(rule, GroupMaxRule | LinearRule):  # these need whole rows
        block = d_sae
        rows = max(1, min(rows, DENSE // d_sae))
    selector_class = (
        NumpySelector if (x.device.type == "cpu" if numpy is None else numpy) else TorchSelector
    )
    found = []
    for first in range(0, len(x), rows):
        tile = x[first : first + rows]
        selector = selector_class(rule, len(tile), d_sae)
        for start in range(0, d_sae, block):
            end = min(start + block, d_sae)
            pre = _multiply_tile(tile, W_enc[:, start:end], b_enc[start:end])
            selector.add_block(pre, start)
        token, feature, value = selector.collect()
        found.append(Triples(token + first, feature, value))
    return join_triples(found, x)


def _multiply_tile(
    x: Float[Tensor, "n d_in"], W: Float[Tensor, "d_in width"], b: Float[Tensor, "width"]
) -> Float[Tensor, "n width"]:
    """Return the pre-activations x @ W + b of one encoder tile, written to a reused buffer."""
    pre = borrow_buffer("pre", len(x), W.shape[1], b)
    if W.dtype == b.dtype:
        return torch.addmm(b, x, W, out=pre)
    # bfloat16 has no addmm into float32: multiply first, add the bias in float32
    product = torch.mm(x.to(W.dtype), W, out=borrow_buffer("rough", len(x), W.shape[1], W))
    return torch.add(product, b, out=pre)


def join_triples(found: list[Triples], like: Tensor) -> Triples:
    """Concatenate the triples of successive tiles; without tiles, return empty triples of `like`'s
    dtype and device."""
    if not found:
        none = torch.empty(0, dtype=torch.int32, device=like.device)
        return Triples(none, none, torch.empty(0, dtype=like.dtype, device=like.device))
    return Triples(*(torch.cat(column) for column in zip(*found, strict=True)))


def dense_to_triples(f: Float[Tensor, "n d_sae"]) -> Triples:
    """Return the non-zero entries of dense feature activations [n d_sae] as (token, feature, value)
    triples."""
    token, feature = f.nonzero(as_tuple=True)
    return Triples(token.int(), feature.int(), f[token, feature])
