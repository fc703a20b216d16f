"""Activations of the demo's model on its own texts, for training and evaluating the demo's
dictionaries."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.demo import MODEL, demo_documents
from backend.demo.model_trainer import DemoBatch, padded_batches
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel

DICTIONARY_SEED = 1
"""Seed of the stories on which the demo's dictionaries are trained."""


def load_demo_model() -> LanguageModel:
    """Load the demo's model on the CPU in float32, where its figures are comparable between
    machines."""
    return LanguageModel.load(str(MODEL), choose_placement("cpu", "float32"))


def counted_token_mask(lm: LanguageModel, tokens: DemoBatch) -> Bool[Tensor, "document position"]:
    """Return which tokens of a demo batch are counted, that is neither BOS nor padding: bool
    [document, position]."""
    special = torch.tensor(sorted(lm.special_ids))
    return ~torch.isin(tokens, special)


def demo_token_batches(seed: int, tokens: int) -> Iterator[DemoBatch]:
    """Yield token batches of the demo's texts until they hold `tokens` tokens, padding and BOS
    included."""
    out = 0
    for batch in padded_batches(demo_documents(seed), MODEL):
        yield batch
        out += batch.numel()
        if out >= tokens:
            return


def collect_activations(
    lm: LanguageModel, batches: Iterable[DemoBatch], hooks: Sequence[str]
) -> dict[str, Float[Tensor, "token width"]]:
    """Return the demo model's activations at `hooks` on all counted tokens, in the hook points' own
    units: [token, width] by hook point."""
    parts: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    for tokens in batches:
        keep = counted_token_mask(lm, tokens)
        for hook, values in lm.activations(tokens, hooks).items():
            parts[hook].append(values[keep])
    return {hook: torch.cat(each) for hook, each in parts.items()}


def shuffled_row_batches(rows: int, size: int, seed: int) -> Iterator[Int[Tensor, "row"]]:
    """Yield batches of row numbers of activations without end, for training a demo dictionary:
    every row once per round, in a new random order each round."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(rows, generator=generator)
        yield from order[: rows // size * size].view(-1, size)
