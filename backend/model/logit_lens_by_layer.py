"""Logit lens of a text by layer: the next tokens that each layer's residual stream would predict if
it were the last.

The stream after each block goes through the model's final norm, unembedding and soft-cap
(nostalgebraist 2020, "interpreting GPT: the logit lens"). The last row is the model's prediction.
"""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backend.engine_protocol import LogitLensRow
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

TOP_TOKENS = 5
POSITIONS_PER_CHUNK = 64
"""Number of positions of a text whose logits are held in memory at once for the logit lens by
layer."""


@torch.no_grad()
def compute_logit_lens_rows(lm: LanguageModel, tokens: Int[Tensor, "pos"]) -> list[LogitLensRow]:
    """Compute the logit lens of a text by layer: one row a layer, the first layer first.

    Raise InputError for a model whose logits are not the unembedding of its last residual stream.
    """
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in range(lm.n_layers)]
    check_lens_matches_logits(lm, hooks[-1])
    streams = lm.activations(tokens[None], hooks)
    return [rank_layer_tokens(lm, layer, streams[hook][0]) for layer, hook in enumerate(hooks)]


def rank_layer_tokens(
    lm: LanguageModel, layer: int, stream: Float[Tensor, "pos d_model"]
) -> LogitLensRow:
    """Return the most probable next tokens at each position by the logit lens of one layer's
    residual stream [pos, d_model]."""
    best = [
        unembed_stream(lm, part)
        .softmax(-1)[:, : lm.n_nameable]
        .topk(min(TOP_TOKENS, lm.n_nameable))
        for part in stream.split(POSITIONS_PER_CHUNK)
    ]
    tokens = torch.cat([one.indices for one in best])
    probabilities = torch.cat([one.values for one in best])
    return LogitLensRow(layer, tokens.cpu().numpy(), probabilities.cpu().numpy())


@torch.no_grad()
def unembed_stream(
    lm: LanguageModel, stream: Float[Tensor, "... d_model"]
) -> Float[Tensor, "... vocab"]:
    """Return the logits [..., n_vocab] that the model would give if this residual stream came out
    of its last block."""
    norm = getattr(lm.component("ln_final"), "original_component", None)
    head = lm.bare.get_output_embeddings()
    if norm is None or head is None:
        raise InputError(f"{lm.name} has no final norm or unembedding for a logit lens.")
    logits = cast(nn.Module, head)(norm(stream.to(lm.placement.dtype))).float()
    cap = getattr(lm.bare.config.get_text_config(), "final_logit_softcapping", None)
    return logits if not cap else cap * torch.tanh(logits / cap)


def check_lens_matches_logits(lm: LanguageModel, last: str) -> None:
    """Raise InputError when the logit lens of the last layer does not give the model's own
    logits."""
    expected = lm.logits(lm.probe_tokens)[0].float().log_softmax(-1)
    actual = unembed_stream(lm, lm.activations(lm.probe_tokens, [last])[last][0]).log_softmax(-1)
    bound = 1e-3 if lm.placement.dtype in (torch.float32, torch.float64) else 0.2
    if (actual - expected).abs().max() > bound * expected.abs().max():
        raise InputError(
            f"The logit lens is not defined for {lm.name}: its logits are not the unembedding of "
            "its last stream's norm."
        )
