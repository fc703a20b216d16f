"""Shuffled model: a null in which each tensor of the transformer blocks holds the same numbers in
random order.

Every parameter of the blocks, norms' gains and biases among them, has its own entries permuted;
embeddings, the final norm and the unembedding are unchanged. So every step keeps its scale and
loses what it was trained to compute, while tokens still enter as the vectors that a dictionary was
trained on.
"""

import copy

import torch
from torch import Tensor, nn

from backend.dictionaries.null_dictionaries import derive_null_seed
from backend.model.language_model import LanguageModel
from feature_store.null_dictionaries import SHUFFLED


def shuffle_model(lm: LanguageModel, seed: int) -> LanguageModel:
    """Make a shuffled copy of a language model, with a lock of its own: the entries of each weight
    tensor of its blocks are put in random order, drawn from a seed.

    It shares everything outside the blocks with the original, so that it costs only the blocks'
    memory; the same seed gives the same model on any machine. A tensor that blocks share is
    permuted once; one that is used outside of them as well is unchanged.
    """
    shuffled_ids = block_parameter_ids(lm)
    shared = {id(p): p for p in lm.bare.parameters() if id(p) not in shuffled_ids}
    network = copy.deepcopy(lm.bare, shared)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if id(parameter) not in shared:
                parameter.copy_(permute_entries(parameter, derive_null_seed(seed, name, SHUFFLED)))
    return LanguageModel.wrap(network, lm.tokenizer, lm.name, lm.placement)


def block_parameter_ids(lm: LanguageModel) -> set[int]:
    """Return the `id` of every parameter that only blocks use: those that the shuffled model
    permutes."""
    blocks = {id(lm.block(layer)) for layer in range(lm.n_layers)}
    inside: set[int] = set()
    outside: set[int] = set()

    def walk(module: nn.Module, ids: set[int]) -> None:
        ids.update(id(one) for one in module.parameters(recurse=False))
        for child in module.children():
            walk(child, inside if id(child) in blocks else ids)

    walk(lm.bare, outside)
    return inside - outside


def permute_entries(tensor: Tensor, seed: int) -> Tensor:
    """Return a tensor of the same entries and shape in random order, drawn on the CPU whatever the
    device, for the shuffled model."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return tensor.detach().reshape(-1)[order].reshape(tensor.shape)
