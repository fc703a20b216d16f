"""Attention score as two linear readouts: one of the query, with the key fixed, and one of the key,
with the query fixed.

score = q R k / √d, where R rotates between the two positions, is linear in each side when the other
is fixed. Both sides are derivatives of the model's own score, so that rotary embeddings, per-head
norms and soft-caps (at the prompt's own values) are included.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.circuits.replacement_model import LinearReadout
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


@dataclass(frozen=True)
class LinearizedScore:
    """Attention score before the softmax, linearized in its query and in its key."""

    value: float
    query: LinearReadout
    """Readout of the whole attention score from the query alone."""
    key: LinearReadout
    between: Float[Tensor, "d_head d_head"]
    """Derivative of the attention score with respect to both sides: rows for the query, columns for
    the key."""
    query_slice: slice
    """Slices of the attention head's query at hook_q (`query_slice`) and of its key at hook_k
    (`key_slice`)."""
    key_slice: slice


def linearize_attention_score(
    lm: LanguageModel, tokens: Int[Tensor, "1 pos"], layer: int, head: int, query: int, key: int
) -> LinearizedScore:
    """Compute and linearize the attention score with which position `query` attends to position
    `key` in a head.

    Raises InputError for a head or positions that do not exist, or that the causal mask forbids.
    """
    _check_head_and_positions(lm, tokens.shape[1], layer, head, query, key)
    q, k, score = _compute_score_with_leaves(lm, tokens, layer, head, query, key)
    with torch.enable_grad():
        by_q, by_k = torch.autograd.grad(score, (q.leaf, k.leaf), create_graph=True)
        q_slice, k_slice = _find_head_slice(lm, by_q, query), _find_head_slice(lm, by_k, key)
        rows = [
            torch.autograd.grad(one, k.leaf, retain_graph=True, allow_unused=True)[0]
            for one in by_q.flatten(2)[0, query, q_slice].unbind()
        ]
    width = q_slice.stop - q_slice.start
    between = torch.stack(
        [by_q.new_zeros(width) if row is None else row.flatten(2)[0, key, k_slice] for row in rows]
    )
    value = float(score.detach())
    block = f"blocks.{layer}.attn"
    sides = []
    for name, side, slope, at in (("q", q, by_q, query), ("k", k, by_k, key)):
        direction = slope.detach().flatten(2)[0, at]
        offset = value - float(direction @ side.flat[0, at])
        sides.append(LinearReadout(lm.canonical(f"{block}.hook_{name}"), at, direction, offset))
    return LinearizedScore(value, sides[0], sides[1], between.detach(), q_slice, k_slice)


@dataclass
class _ScoreSide:
    leaf: Tensor
    flat: Tensor


def _compute_score_with_leaves(
    lm: LanguageModel, tokens: Int[Tensor, "1 pos"], layer: int, head: int, query: int, key: int
) -> tuple[_ScoreSide, _ScoreSide, Tensor]:
    """Run the model with leaves of the autograd graph at the query and the key, and return them
    with the attention score."""
    sides: dict[str, _ScoreSide] = {}
    scores: list[Tensor] = []

    def entering(name: str):
        def enter(h: Tensor, hook: object) -> Tensor:
            leaf = torch.zeros_like(h, requires_grad=True)
            sides[name] = _ScoreSide(leaf, h.detach().flatten(2))
            return h.detach() + leaf

        return enter

    def grab(h: Tensor, hook: object) -> None:
        scores.append(h)

    block = f"blocks.{layer}.attn"
    hooks = [(f"{block}.hook_{name}", entering(name)) for name in "qk"]
    with (
        torch.enable_grad(),
        lm.hold_bridge([*hooks, (f"{block}.hook_attn_scores", grab)]) as bridge,
    ):
        bridge(tokens.to(lm.placement.device), return_type=None)
    if set(sides) != {"q", "k"} or not scores:
        raise InputError(
            f"{lm.name} does not expose the attention scores of layer {layer}, so they "
            "cannot be traced. Trace a logit or a feature instead."
        )
    return sides["q"], sides["k"], scores[0][0, head, query, key]


def _find_head_slice(lm: LanguageModel, slope: Float[Tensor, "1 pos ..."], position: int) -> slice:
    """Return the slice of the flattened query or key vector that belongs to the attention head: the
    block of d_head numbers on which the attention score depends."""
    touched = torch.nonzero(slope.detach().flatten(2)[0, position])[:, 0]
    if not len(touched):
        raise InputError(
            "This attention score does not depend on a query and a key of its own head, so "
            "it cannot be traced. Trace a logit or a feature instead."
        )
    first = int(touched[0]) // lm.d_head * lm.d_head
    return slice(first, first + lm.d_head)


def _check_head_and_positions(
    lm: LanguageModel, pos: int, layer: int, head: int, query: int, key: int
) -> None:
    if not 0 <= layer < lm.n_layers or not 0 <= head < lm.n_heads:
        raise InputError(
            f"{lm.name} has no head {layer}.{head}: it has layers 0 to {lm.n_layers - 1} "
            f"with heads 0 to {lm.n_heads - 1}."
        )
    if not 0 <= key <= query < pos:
        raise InputError(
            f"Position {query} cannot attend to position {key}: the prompt has positions 0 "
            f"to {pos - 1}, and a query attends only to itself and to earlier positions."
        )
