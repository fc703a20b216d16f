"""Likelihood of a text after a prefix under the language model: its mean cross-entropy in nats per
token."""

import torch

from backend.engine_protocol import TokenizedText
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


def mean_loss_after_prefix(lm: LanguageModel, before: TokenizedText, text: str) -> float:
    """Return the mean cross-entropy in nats per token of `text` after the prefix `before`, under
    the language model.

    The prefix keeps its tokens. Raise InputError when the text is empty, or prefix and text
    together are longer than the model's context.
    """
    text_ids = lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if not text_ids:
        raise InputError("There is no text to read: type some.")
    tokens = [*before.token_ids, *text_ids]
    if len(tokens) > lm.n_ctx:
        raise InputError(
            f"Prefix and text have {len(tokens):,} tokens together; {lm.name} reads at most "
            f"{lm.n_ctx:,} at once. Use a model with a longer context."
        )
    losses = lm.token_losses(torch.tensor([tokens]))[0]
    return float(losses[len(before.token_ids) - 1 :].mean())
