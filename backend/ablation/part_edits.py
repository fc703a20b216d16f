"""Edits of the forward pass that replace parts of the model (features, dictionaries, error terms,
heads, MLPs, attention) by other values at their hook point.

All parts at one hook point read the same unedited activation and their changes are added; later
hook points read the stream with the earlier changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.model_parts import ModelPart
from backend.attribution.dictionary_activations import DictionaryActivations, list_active_features
from backend.dictionaries.base import Dictionary
from backend.interventions.named_activations import NamedFeatures
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError, pick_by_name
from feature_store.hook_sites import check_single_sites

ReplacementValue = float | Tensor
"""Value that replaces a model part: a number, a vector, or a tensor [batch, position, …]."""


@dataclass(frozen=True)
class PartLocation:
    """Where a model part is read and written: its hook points, dictionary and coordinates."""

    part: ModelPart
    hook: str
    read_at: str
    dictionary: Dictionary | None = None
    span: slice = field(default_factory=lambda: slice(None))
    """Coordinates of the hook that belong to the part (those of one attention head)."""


def locate_part(
    lm: LanguageModel, dictionaries: Mapping[str, Dictionary], part: ModelPart
) -> PartLocation:
    """Find the hook points at which edits read and write a model part.

    Raises InputError if the model or the loaded dictionaries do not have the part.
    """
    if part.kind in ("feature", "dictionary", "error"):
        one = pick_by_name("dictionary", part.dictionary, dictionaries)
        if part.kind == "feature" and not 0 <= part.index < one.d_sae:
            raise InputError(f"{part}: {one.name} has features 0 to {one.d_sae - 1}.")
        check_single_sites([one], "Ablations of parts")
        return PartLocation(
            part, canonical_hook(lm, one.hook_out), canonical_hook(lm, one.hook_name), one
        )
    if not 0 <= part.layer < lm.n_layers:
        raise InputError(f"{part}: {lm.name} has layers 0 to {lm.n_layers - 1}.")
    block = f"blocks.{part.layer}"
    if part.kind == "head":
        if not 0 <= part.index < lm.n_heads:
            raise InputError(f"{part}: {lm.name} has heads 0 to {lm.n_heads - 1} in a layer.")
        hook = canonical_hook(lm, f"{block}.attn.hook_z")
        size = lm.width(hook) // lm.n_heads
        return PartLocation(
            part, hook, hook, span=slice(part.index * size, (part.index + 1) * size)
        )
    hook = f"{block}.hook_mlp_out" if part.kind == "mlp" else f"{block}.hook_attn_out"
    return PartLocation(part, canonical_hook(lm, hook), canonical_hook(lm, hook))


def canonical_hook(lm: LanguageModel, hook: str) -> str:
    """Return one canonical name for a hook point, so that edits at aliases of the same point meet.

    `hook_resid_mid` keeps its own name, since the language model treats it differently from its
    alias.
    """
    lm.check_hook(hook)
    return hook if hook.endswith(".hook_resid_mid") else lm.canonical(hook)


def part_value(at: PartLocation, h: Tensor, x: Tensor, counted: Tensor) -> Tensor:
    """Return the current value of a model part [batch, position, …], which an edit replaces.

    `h` is the activation at the hook that the part writes to, `x` the one at the hook that it
    reads.
    """
    part, one = at.part, at.dictionary
    if one is None:
        return h[..., at.span]
    if part.kind == "feature":
        return NamedFeatures(one, torch.tensor([part.index], device=x.device)).activations(x)
    reading = read_dictionary(one, h, x, counted)
    if part.kind == "error":
        return reading.error_term()
    return reading.decode_feature_values(reading.active.value)


def part_change(
    at: PartLocation, other: ReplacementValue, h: Tensor, x: Tensor, counted: Tensor
) -> Tensor:
    """Return the edit of one part: the change of the activation, Δh [batch, position, width], that
    replaces the part's value by `other`.
    """
    moved = other - part_value(at, h, x, counted)
    one = at.dictionary
    if one is None:
        change = torch.zeros_like(h)
        change[..., at.span] = moved
        return change
    if at.part.kind == "feature":
        named = NamedFeatures(one, torch.tensor([at.part.index], device=x.device))
        return (moved @ named.directions) * named.scale(x)
    return moved


def read_dictionary(
    one: Dictionary, h: Tensor, x: Tensor, counted: Tensor
) -> DictionaryActivations:
    """Return a dictionary's activations and error term on given hook activations, from which the
    values of its parts are computed.
    """
    x = x.to(one.coder.W_dec.dtype)
    return DictionaryActivations(
        one, x, h.to(x.dtype), list_active_features(one, x, counted), counted
    )


def compile_part_edits(
    lm: LanguageModel,
    sites: Sequence[PartLocation],
    others: Mapping[ModelPart, ReplacementValue],
    counted: Bool[Tensor, "batch pos"],
) -> dict[str, ActivationEdit]:
    """Return the edits, by hook point, that run the model with parts replaced at counted positions.

    `others` gives the replacement value of each part. The result is passed to the language model's
    `logits`.
    """
    counted = counted.to(lm.placement.device)
    read: dict[str, Tensor] = {}
    found: dict[str, ActivationEdit] = {}
    for hook in dict.fromkeys(at.hook for at in sites):
        at_hook = [at for at in sites if at.hook == hook]
        found[hook] = _replace_parts(lm, hook, at_hook, others, counted, read)
    for at in sites:
        if at.read_at != at.hook:
            found[at.read_at] = _remember_activation(at.read_at, read, found.get(at.read_at))
    return found


def _remember_activation(
    hook: str, read: dict[str, Tensor], after: ActivationEdit | None
) -> ActivationEdit:
    """Return an edit that stores the activation at a hook, for parts that are written at a later
    hook.
    """

    def remember(h: Tensor) -> Tensor:
        new = h if after is None else after(h)
        read[hook] = new
        return new

    return remember


def _replace_parts(
    lm: LanguageModel,
    hook: str,
    at_hook: Sequence[PartLocation],
    others: Mapping[ModelPart, ReplacementValue],
    counted: Tensor,
    read: Mapping[str, Tensor],
) -> ActivationEdit:
    """Return the edit that replaces the values of all ablated parts that are written at one hook
    point.
    """

    def change(h: Tensor) -> Tensor:
        total = torch.zeros_like(h)
        for at in at_hook:
            x = h if at.read_at == hook else read[at.read_at]
            if at.dictionary is not None:
                x = lm.process(at.read_at, x, at.dictionary.processing)
            total += part_change(at, others[at.part], h, x, counted).to(h.dtype)
        return h + total * counted[..., None]

    return change


@torch.no_grad()
def record_part_values(
    lm: LanguageModel,
    sites: Sequence[PartLocation],
    tokens: Int[Tensor, "batch pos"],
    counted: Bool[Tensor, "batch pos"],
) -> dict[ModelPart, Float[Tensor, "batch pos width"]]:
    """Record the value of each part in an unedited forward pass, [batch, position, width], which
    edits of other prompts use as replacement.
    """
    raw = lm.activations(
        tokens, list(dict.fromkeys(h for at in sites for h in (at.hook, at.read_at)))
    )
    found = {}
    counted = counted.to(lm.placement.device)
    for at in sites:
        x = raw[at.read_at]
        if at.dictionary is not None:
            x = lm.process(at.read_at, x, at.dictionary.processing)
        found[at.part] = part_value(at, raw[at.hook].clone(), x.clone(), counted)
    return found
