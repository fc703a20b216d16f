"""How likely a text is behind another one, by the model itself."""

import torch

from backend.engine_protocol import TokenizedText
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


def mean_loss_after_prefix(lm: LanguageModel, before: TokenizedText, text: str) -> float:
    """Mean nats per token of `text` behind `before`, which keeps its tokens.

    InputError where both together are more than the model reads at once, or the text is empty.
    """
    after = lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if not after:
        raise InputError("There is no text to read: type some.")
    whole = [*before.token_ids, *after]
    if len(whole) > lm.n_ctx:
        raise InputError(
            f"Prefix and text have {len(whole):,} tokens together; {lm.name} reads at most "
            f"{lm.n_ctx:,} at once. Use a model with a longer context."
        )
    losses = lm.token_losses(torch.tensor([whole]))[0]
    return float(losses[len(before.token_ids) - 1 :].mean())
