"""The entry point that loads a dictionary from its specification, with whichever checkpoint format
it has."""

import importlib
from collections.abc import Callable
from dataclasses import replace

import torch

from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary
from backend.dictionaries.dictionary_sources import SOURCE_KINDS, DictionarySource, check_source
from backend.model.device import Placement
from backend.model.finite_weights import check_dictionary_finite
from backend.model.weight_processing import LOADING_OPTIONS
from feature_store.errors import InputError, list_names
from feature_store.record_validation import show_value


def load(
    spec: str,
    *,
    name: str | None = None,
    placement: Placement,
    width: Callable[[str], int] | None = None,
) -> Dictionary:
    """Return the dictionary that a specification names, on the placement's device.

    `width` returns the model's width at a hook point (`LanguageModel.width`); only `identity:HOOK`
    needs it. Weights are float32 whatever the model's dtype is (thresholds do not survive
    rounding), or float64 where the placement asks for it. InputError for mistakes in the
    specification or the files.
    """
    source = check_source(spec)
    dtype = torch.float64 if placement.dtype == torch.float64 else torch.float32
    module = importlib.import_module(SOURCE_KINDS[source.kind].module)
    dictionary: Dictionary = module.load(source, placement.device, dtype, width)
    dictionary = _settle_processing(dictionary, source)
    _check_folded_weights(dictionary, source)
    return dictionary if name is None else replace(dictionary, name=name)


def _settle_processing(dictionary: Dictionary, source: DictionarySource) -> Dictionary:
    """Return the loaded dictionary without those model-loading keywords that the user asked to
    ignore (`?ignore=`), with notes on keywords that do not change what the model computes.

    InputError for weight processing (of the language model's weights) that is not known, and for an
    ignored keyword that the dictionary does not have.
    """
    kwargs = dictionary.model_kwargs
    if absent := sorted(set(source.ignored) - set(kwargs)):
        raise InputError(
            f"{source.spec} asks to ignore {absent[0]!r}, which is not among the dictionary's "
            "model keywords. "
            f"{list_names(sorted(kwargs))}"
        )
    kept = {key: value for key, value in kwargs.items() if key not in source.ignored}
    notes = [
        f"It asks for its model to be loaded with {key} = {show_value(kwargs[key])}, which is "
        "ignored as you asked."
        for key in source.ignored
    ]
    notes += [
        f"It asks for its model to be loaded with {key} = {show_value(value)}, which does not "
        "change what the model computes and is ignored."
        for key, value in kept.items()
        if key in LOADING_OPTIONS and value is not None
    ]
    metadata = {**dictionary.metadata, **({"model_from_pretrained_kwargs": kept} if kwargs else {})}
    settled = replace(dictionary, metadata=metadata, notes=(*dictionary.notes, *notes))
    try:
        _ = settled.processing
    except InputError as bad:
        raise InputError(f"{source.spec}: {bad}") from None
    return settled


def _check_folded_weights(dictionary: Dictionary, source: DictionarySource) -> None:
    """Raise InputError where a loaded dictionary has NaN or infinite weights because multiplying
    scales into its weights has overflowed."""
    coder = dictionary.coder
    found = {"W_enc": coder.W_enc, "W_dec": coder.W_dec, "W_skip": dictionary.W_skip}
    if isinstance(coder, AffineCoder):
        found |= {"b_enc": coder.b_enc, "b_dec": coder.b_dec}
        found["threshold"] = coder.rule.threshold if isinstance(coder.rule, ThresholdRule) else None
    present = {name: tensor for name, tensor in found.items() if tensor is not None}
    check_dictionary_finite(present, f"{source.spec}, with its scales folded in,")
