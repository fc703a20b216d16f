"""Exact sparse encoding in tiles: rows of tokens by blocks of features, never more.

TopK does not sort a row. The k-th largest of the maxima of any k or more disjoint groups is a lower
bound on the k-th largest entry (k groups hold an entry at least as large), so one comparison leaves
k entries and a few more, and only those are trimmed. On a CPU, numpy finds the survivors in the
matrix product's own memory, several times faster than `torch.nonzero`; elsewhere torch does.
"""

import threading

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Triples
from backend.dictionaries.rules import GroupMax, Linear, Rule
from backend.dictionaries.select_numpy import NumpyPick
from backend.dictionaries.select_torch import TorchPick

ROWS = 256
"""Tokens a tile. Measured at d_in 256 on one core: 64 is a quarter slower, 512 no faster."""
BLOCK = 16_384
"""Features a block: with ROWS, 16 MB of float32."""
DENSE = ROWS * BLOCK
"""Entries a tile may have where a rule needs whole rows."""


class _Scratch(threading.local):
    """Each thread's own buffers."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, int, torch.dtype, torch.device], Tensor] = {}


_scratch = _Scratch()


def scratch(name: str, rows: int, width: int, like: Tensor) -> Tensor:
    """A [rows width] buffer of this thread's, used again by its next tile: memory stays flat."""
    key = (name, width, like.dtype, like.device)
    held = _scratch.held.get(key)
    if held is None or len(held) < rows:
        with torch.inference_mode(False):  # a harvest's buffer must serve what is live as well
            held = _scratch.held[key] = torch.empty(
                max(rows, 1), width, dtype=like.dtype, device=like.device
            )
    return held[:rows]


def encode_tiles(
    x: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, "d_sae"],
    rule: Rule,
    *,
    rows: int = ROWS,
    block: int = BLOCK,
    numpy: bool | None = None,
) -> Triples:
    """The survivors of rule(x @ W_enc + b_enc).

    Weights in bfloat16 make the product approximate. `numpy` chooses how survivors are found;
    None lets the device say. Neither it nor the tiles change the result.
    """
    d_sae = W_enc.shape[1]
    if isinstance(rule, GroupMax | Linear):  # these need whole rows
        block = d_sae
        rows = max(1, min(rows, DENSE // d_sae))
    pick = NumpyPick if (x.device.type == "cpu" if numpy is None else numpy) else TorchPick
    found = []
    for first in range(0, len(x), rows):
        tile = x[first : first + rows]
        picker = pick(rule, len(tile), d_sae)
        for start in range(0, d_sae, block):
            end = min(start + block, d_sae)
            pre = _product(tile, W_enc[:, start:end], b_enc[start:end])
            picker.take(pre, start)
        token, feature, value = picker.kept()
        found.append(Triples(token + first, feature, value))
    return join(found, x)


def _product(
    x: Float[Tensor, "n d_in"], W: Float[Tensor, "d_in width"], b: Float[Tensor, "width"]
) -> Float[Tensor, "n width"]:
    pre = scratch("pre", len(x), W.shape[1], b)
    if W.dtype == b.dtype:
        return torch.addmm(b, x, W, out=pre)
    product = torch.mm(x.to(W.dtype), W, out=scratch("rough", len(x), W.shape[1], W))
    return torch.add(product, b, out=pre)


def join(found: list[Triples], like: Tensor) -> Triples:
    """Triples of successive tiles as one; of no tiles, empty ones of `like`'s dtype and device."""
    if not found:
        none = torch.empty(0, dtype=torch.int32, device=like.device)
        return Triples(none, none, torch.empty(0, dtype=like.dtype, device=like.device))
    return Triples(*(torch.cat(column) for column in zip(*found, strict=True)))


def dense_to_triples(f: Float[Tensor, "n d_sae"]) -> Triples:
    """The non-zero entries of a dense code."""
    token, feature = f.nonzero(as_tuple=True)
    return Triples(token.int(), feature.int(), f[token, feature])
