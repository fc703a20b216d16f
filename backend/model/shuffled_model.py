"""A model whose blocks know nothing: the same numbers in every tensor, in another order.

Every parameter of the blocks, norms' gains and biases among them, has its own entries permuted;
embeddings, the final norm and the unembedding stay. So the scale of every step stays and what the
steps were trained to compute goes, while tokens still come in as the vectors that a dictionary
knows them by.
"""

import copy

import torch
from torch import Tensor, nn

from backend.dictionaries.null_dictionaries import derive_null_seed
from backend.model.language_model import LanguageModel
from feature_store.null_dictionaries import SHUFFLED


def shuffle_model(lm: LanguageModel, seed: int) -> LanguageModel:
    """A second model behind a lock of its own. It shares with the first what is not of the blocks,
    so that its weights cost the blocks' memory; the same seed gives the same model anywhere.

    A tensor that blocks share is permuted once; one that is used outside of them, too, stays.
    """
    mine = block_parameter_ids(lm)
    stays = {id(p): p for p in lm.bare.parameters() if id(p) not in mine}
    network = copy.deepcopy(lm.bare, stays)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if id(parameter) not in stays:
                parameter.copy_(permute_entries(parameter, derive_null_seed(seed, name, SHUFFLED)))
    return LanguageModel.wrap(network, lm.tokenizer, lm.name, lm.placement)


def block_parameter_ids(lm: LanguageModel) -> set[int]:
    """The `id` of every parameter that only blocks use."""
    blocks = {id(lm.block(layer)) for layer in range(lm.n_layers)}
    inside: set[int] = set()
    outside: set[int] = set()

    def walk(module: nn.Module, found: set[int]) -> None:
        found.update(id(one) for one in module.parameters(recurse=False))
        for child in module.children():
            walk(child, inside if id(child) in blocks else found)

    walk(lm.bare, outside)
    return inside - outside


def permute_entries(tensor: Tensor, seed: int) -> Tensor:
    """The same entries and shape in a random order, drawn on the CPU whatever the device."""
    dice = torch.Generator().manual_seed(seed)
    order = torch.randperm(tensor.numel(), generator=dice).to(tensor.device)
    return tensor.detach().reshape(-1)[order].reshape(tensor.shape)
