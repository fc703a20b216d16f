"""Loading a dictionary by its specification."""

import importlib
from collections.abc import Callable
from dataclasses import replace

import torch

from backend.device import Placement
from backend.dictionaries.base import Dictionary
from backend.dictionaries.sources import KINDS, check_source


def load(
    spec: str,
    *,
    name: str | None = None,
    placement: Placement,
    width: Callable[[str], int] | None = None,
) -> Dictionary:
    """The dictionary that `spec` names, on the placement's device.

    `width` gives the model's width at a hook point (`Lm.width`); only `identity:HOOK` needs it.
    Weights are float32 whatever the model's dtype is (thresholds do not survive rounding), or
    float64 where the placement asks for that. Raises InputError for what the user can mend.
    """
    source = check_source(spec)
    dtype = torch.float64 if placement.dtype == torch.float64 else torch.float32
    module = importlib.import_module(KINDS[source.kind].module)
    dictionary: Dictionary = module.load(source, placement.device, dtype, width)
    _ = dictionary.processing  # a processing that we do not know is refused now
    return dictionary if name is None else replace(dictionary, name=name)
