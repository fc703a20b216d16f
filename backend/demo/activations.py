"""Activations of the demo's model on its own documents, for training and judging dictionaries."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.demo import MODEL, demo_documents
from backend.demo.model import Batch, batches
from backend.device import choose_placement
from backend.lm import Lm

DICTIONARY_SEED = 1


def load_lm() -> Lm:
    """The demo's model on the CPU, where its figures are comparable from machine to machine."""
    return Lm.load(str(MODEL), choose_placement("cpu", "float32"))


def counted(lm: Lm, tokens: Batch) -> Bool[Tensor, "document position"]:
    """Where a token counts: not at BOS, not at padding."""
    special = torch.tensor(sorted(lm.special_ids))
    return ~torch.isin(tokens, special)


def token_batches(seed: int, tokens: int) -> Iterator[Batch]:
    """Batches of the demo's documents until `tokens` tokens, padding and BOS included, are out."""
    out = 0
    for batch in batches(demo_documents(seed), MODEL):
        yield batch
        out += batch.numel()
        if out >= tokens:
            return


def collect(
    lm: Lm, batches: Iterable[Batch], hooks: Sequence[str]
) -> dict[str, Float[Tensor, "token width"]]:
    """The activations at `hooks` on all counted tokens, in the hooks' own units."""
    parts: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    for tokens in batches:
        keep = counted(lm, tokens)
        for hook, values in lm.activations(tokens, hooks).items():
            parts[hook].append(values[keep])
    return {hook: torch.cat(each) for hook, each in parts.items()}


def shuffled(rows: int, size: int, seed: int) -> Iterator[Int[Tensor, "row"]]:
    """Endless index batches: every row once per round, in a new order each round."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(rows, generator=generator)
        yield from order[: rows // size * size].view(-1, size)
