"""Weight connections: what the weights alone connect, from features to later features (directly or
through an attention head) and from token embeddings to features.

A feature writes its decoder row to the residual stream and another reads its encoder column from
it, so their dot product, at norm scale 1, is the part of their connection that no prompt changes
(Dunefsky et al. 2024, arXiv:2406.11944); through a head the row first passes W_V and W_O. Products
are computed in blocks and only the largest are kept: there is never a features × features
matrix.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.circuits.replacement_model import fold_encoder_rows, layer_of_hook
from backend.dictionaries.base import Dictionary
from backend.features.direction_cosines import is_residual_stream
from backend.features.logit_lens import map_to_residual_stream, norm_gain
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

FEATURE_BLOCK = 4_096
"""Number of features of each side whose decoder rows and encoder columns are multiplied at once: 64
MB of products."""
NORM_OUTPUT_HOOK = re.compile(r"(blocks\.\d+\.ln[12]|ln_final)\.hook_(normalized|out)")
BRANCH_INPUT_HOOK = re.compile(r"(blocks\.\d+)\.(mlp|attn|mlp\.in|mlp\.gate)\.hook_in")


class WeightConnections(NamedTuple):
    """Strongest weight connections between two dictionaries, by falling magnitude, per unit of the
    source's activation."""

    source: Int[Tensor, "k"]
    target: Int[Tensor, "k"]
    value: Float[Tensor, "k"]


class DeEmbeddingTokens(NamedTuple):
    """De-embedding of a feature: the tokens whose embeddings, through the weights alone, raise and
    lower its pre-activation most."""

    up: Int[Tensor, "k"]
    up_value: Float[Tensor, "k"]
    down: Int[Tensor, "k"]
    down_value: Float[Tensor, "k"]


class AttentionHead(NamedTuple):
    """Attention head, by layer and number, that a weight connection passes through."""

    layer: int
    head: int


@torch.no_grad()
def find_weight_connections(
    lm: LanguageModel,
    source: Dictionary,
    target: Dictionary,
    *,
    k: int = 20,
    features: Sequence[int] | None = None,
    through: AttentionHead | None = None,
) -> WeightConnections:
    """Find the k strongest weight connections from features of one dictionary to features of
    another.

    `features` restricts the target features. `through` is an attention head that the connection
    passes instead of the direct path. Raises InputError if the source does not write before the
    target reads, or if either is not on the residual stream.
    """
    check_connection_order(lm, source, target, through)
    wanted = torch.arange(target.d_sae) if features is None else torch.tensor(list(features))
    best = WeightConnections(wanted[:0], wanted[:0], torch.zeros(0))
    columns = [
        (part, encoder_rows_in_stream(lm, target, part)) for part in wanted.split(FEATURE_BLOCK)
    ]
    for begin, rows in iterate_decoder_rows(lm, source):
        carried = rows if through is None else pass_through_head(lm, through, rows)
        for part, column in columns:
            best = _keep_largest_products(best, carried @ column.T, begin, part, k)
    return best


@torch.no_grad()
def find_de_embedding_tokens(
    lm: LanguageModel, d: Dictionary, feature: int, k: int = 20
) -> DeEmbeddingTokens:
    """Find a feature's de-embedding: the tokens whose embeddings raise and lower its pre-activation
    most through the weights alone, at norm scale 1.

    The de-embedding explains features of the first layers; later ones read more than embeddings.
    """
    row = encoder_rows_in_stream(lm, d, torch.tensor([feature]))[0]
    values = read_token_embeddings(lm) @ row
    up, down = values.topk(min(k, len(values))), (-values).topk(min(k, len(values)))
    return DeEmbeddingTokens(up.indices, up.values, down.indices, -down.values)


def read_token_embeddings(lm: LanguageModel) -> Float[Tensor, "vocab d_model"]:
    """Return the rows of the embedding weights W_E as they enter the residual stream, without
    positions and with the model's embedding scale, for the tokens that have a name."""
    module: Any = lm.bare.get_input_embeddings()
    W: Tensor = module.weight.detach().float()
    tokens = lm.probe_tokens
    entered = lm.activations(tokens, ["embed.hook_out"])["embed.hook_out"][0].float()
    own = W[tokens[0].to(W.device)]
    return W[: lm.n_nameable] * ((entered * own).sum() / own.pow(2).sum())


def encoder_rows_in_stream(
    lm: LanguageModel, d: Dictionary, features: Int[Tensor, "n"]
) -> Float[Tensor, "n d_model"]:
    """Return the encoder weights of features as directions of the residual stream that their
    pre-activations read, at norm scale 1.

    Raises InputError if the dictionary reads neither the stream nor the output of one norm.
    """
    rows, _ = fold_encoder_rows(lm, d, features)
    hook = find_norm_before_hook(lm, d.hook_name)
    if hook is None:
        return rows.float()
    norm, kind = hook
    weight = norm_gain(lm, norm) if kind == "out" else None
    rows = rows.float() if weight is None else rows.float() * weight
    return rows if lm.component(norm).uses_rms_norm else rows - rows.mean(-1, keepdim=True)


def find_norm_before_hook(lm: LanguageModel, hook: str) -> tuple[str, str] | None:
    """Return (norm, "normalized" or "out") whose output a hook point reads, so that its gain can be
    folded into the weights; None for a hook point on the residual stream."""
    if is_residual_stream(lm, hook):
        return None
    name = lm.canonical(hook)
    branch = BRANCH_INPUT_HOOK.fullmatch(name)
    if branch is not None:
        name = f"{branch[1]}.{'ln1' if branch[2] == 'attn' else 'ln2'}.hook_out"
    found = NORM_OUTPUT_HOOK.fullmatch(name)
    if found is None or f"{found[1]}.hook_out" not in lm.hook_names():
        raise InputError(
            f"{hook} reads neither the residual stream nor the output of one norm, so no "
            "product of weights leads to it."
        )
    return found[1], found[2]


def iterate_decoder_rows(
    lm: LanguageModel, d: Dictionary
) -> Iterator[tuple[int, Float[Tensor, "block d_model"]]]:
    """Yield blocks of (index of the first feature, what one unit of each feature adds to the
    residual stream).

    Raises InputError if that depends on more than the weights.
    """
    if d.per_token_norm:
        raise InputError(
            f"{d.name} scales its output at every token, so its connections depend on more "
            "than the weights."
        )
    for begin in range(0, d.d_sae, FEATURE_BLOCK):
        rows = map_to_residual_stream(lm, d.W_dec[begin : begin + FEATURE_BLOCK], d.hook_out)
        if rows is None:
            raise InputError(
                f"{d.name} writes at {d.hook_out}, which does not add to the residual stream "
                "directly."
            )
        yield begin, rows


def pass_through_head(
    lm: LanguageModel, head: AttentionHead, rows: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """Pass directions of the residual stream through the W_V and W_O of an attention head, at norm
    scale 1 and attention weight 1."""
    W_V, W_O = read_head_weights(lm, head.layer)
    return rows @ W_V[head.head] @ W_O[head.head]


def read_head_weights(
    lm: LanguageModel, layer: int
) -> tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_head d_model"]]:
    """Return the weights W_V, with the norm before it folded in (mean and gain, scale 1), and W_O
    for each attention head of a layer.

    Key and value heads are repeated for the query heads that share them. Raises InputError if the
    attention output does not enter the stream directly.
    """
    path = f"blocks.{layer}"
    module = getattr(lm.component(f"{path}.attn.v"), "original_component", None)
    W_O = map_to_residual_stream(lm, torch.eye(lm.n_heads * lm.d_head), f"{path}.attn.hook_z")
    norm = lm.component(f"{path}.ln1")
    if module is None or W_O is None or norm is None:
        raise InputError(
            f"The heads of layer {layer} of {lm.name} have no separate weights, so "
            "connections through them are not defined."
        )
    eye = torch.eye(lm.d_model, device=lm.placement.device, dtype=lm.placement.dtype)
    with torch.no_grad():
        W_V = (module(eye) - module(torch.zeros_like(eye[:1]))).float()
    weight = norm_gain(lm, f"{path}.ln1")
    W_V = W_V if weight is None else weight[:, None] * W_V
    W_V = W_V if norm.uses_rms_norm else W_V - W_V.mean(0)
    heads = W_V.unflatten(-1, (-1, lm.d_head)).movedim(1, 0)
    heads = heads.repeat_interleave(lm.n_heads // len(heads), dim=0)
    return heads, W_O.unflatten(0, (lm.n_heads, lm.d_head))


def check_connection_order(
    lm: LanguageModel, source: Dictionary, target: Dictionary, through: AttentionHead | None
) -> None:
    """Raise InputError unless a weight connection is possible: the source dictionary writes before
    the target reads, and the head stands between them."""
    writes, reads = hook_order(lm, source.hook_out), hook_order(lm, target.hook_name)
    if writes >= reads:
        raise InputError(
            f"{source.name} writes at {source.hook_out}, and {target.name} at "
            f"{target.hook_name} does not read it. Name the earlier dictionary first."
        )
    if through is None:
        return
    if not 0 <= through.head < lm.n_heads or not 0 <= through.layer < lm.n_layers:
        raise InputError(
            f"{lm.name} has no head {through.layer}.{through.head}: it has {lm.n_layers} "
            f"layers with {lm.n_heads} heads each."
        )
    if not writes < len(BLOCK_ORDER) * through.layer + HEADS_ORDER < reads:
        raise InputError(
            f"Head {through.layer}.{through.head} is not between {source.name} and {target.name}."
        )


def hook_order(lm: LanguageModel, hook: str) -> int:
    """Return the rank of a hook point in the order of the forward pass, by which a weight
    connection runs from earlier to later hook points."""
    name = lm.canonical(hook)
    layer = layer_of_hook(name)
    rest = name.removeprefix(f"blocks.{layer}.")
    entering = rest.endswith("hook_in") and rest.startswith("mlp")
    for order, beginning in enumerate(BLOCK_ORDER):
        if (beginning == "ln2." and entering) or rest.startswith(beginning):
            return len(BLOCK_ORDER) * layer + order
    raise InputError(f"{hook} is not on the path of the residual stream.")


BLOCK_ORDER = (
    "hook_in",
    "ln1.",
    ("attn", "ln1_post."),
    "ln2.hook_in",
    "ln2.",
    ("mlp", "ln2_post."),
    "hook_out",
)
"""Order of the hook points of a transformer block, by the beginnings of their canonical names."""
HEADS_ORDER = 1
"""Index of the attention heads' input in BLOCK_ORDER."""


def _keep_largest_products(
    best: WeightConnections, products: Tensor, begin: int, features: Int[Tensor, "n"], k: int
) -> WeightConnections:
    """Merge a block of weight products into the k largest connections so far."""
    flat = products.flatten()
    top = flat.abs().topk(min(k, len(flat))).indices
    width = products.shape[1]
    source = torch.cat([best.source, top // width + begin])
    target = torch.cat([best.target, features[top % width]])
    value = torch.cat([best.value, flat[top]])
    order = value.abs().argsort(descending=True, stable=True)[:k]
    return WeightConnections(source[order], target[order], value[order])
