"""Activations at the read sites and write sites of a dictionary, side by side as its encoder and
decoder take them.

A dictionary with one read site gets the activation itself, without a copy.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import WeightProcessing
from feature_store.hook_sites import HookSite, SitedDictionary


def list_hooks(dictionaries: Sequence[SitedDictionary], *, writes: bool = False) -> list[str]:
    """Return the hook points that these dictionaries read, each once; with `writes`, also those
    that they write."""
    found = [hook for one in dictionaries for hook in one.read_hooks]
    if writes:
        found += [hook for one in dictionaries for hook in one.write_hooks]
    return list(dict.fromkeys(found))


def join_sites(parts: Sequence[Float[Tensor, "... _"]]) -> Float[Tensor, "... width"]:
    """Concatenate the activations at a dictionary's hook points (its sites) along the last axis, in
    the order of the sites."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def process_reads(
    lm: LanguageModel, dictionary: Dictionary, raw: Mapping[str, Tensor]
) -> Float[Tensor, "... d_in"]:
    """Return the activations that a dictionary encodes: the model's raw activations at its read
    sites, changed as the weight processing it expects (such as fold_ln) changes them."""
    return _process(lm, dictionary, dictionary.reads, raw)


def process_writes(
    lm: LanguageModel, dictionary: Dictionary, raw: Mapping[str, Tensor]
) -> Float[Tensor, "... d_out"]:
    """Return the activations that a dictionary reconstructs: the model's raw activations at its
    write sites, changed as the weight processing it expects (such as fold_ln) changes them."""
    return _process(lm, dictionary, dictionary.writes, raw)


def read_activations(
    lm: LanguageModel,
    dictionary: Dictionary,
    tokens: Int[Tensor, "batch pos"],
    processing: WeightProcessing,
) -> Float[Tensor, "batch pos d_in"]:
    """Run the model on tokens and return the activations at a dictionary's read sites side by side,
    the dictionary's input [batch pos d_in]."""
    found = lm.activations(tokens, list_hooks([dictionary]), processing)
    return join_sites([found[hook] for hook in dictionary.read_hooks])


def _process(
    lm: LanguageModel,
    dictionary: Dictionary,
    sites: Sequence[HookSite],
    raw: Mapping[str, Tensor],
) -> Tensor:
    processing = dictionary.processing
    return join_sites([lm.process(site.hook, raw[site.hook], processing) for site in sites])
