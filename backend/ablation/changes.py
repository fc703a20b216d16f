"""How each part is taken away: a change of the stream at one hook point, from the pass itself.

All parts at one hook read the same unedited activation, and their changes are added. Later hooks
read the stream as earlier changes left it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.parts import Part
from backend.attribution.nodes import Reading, nodes_of
from backend.dictionaries.base import Dictionary
from backend.interventions.reading import Named
from backend.lm import Lm
from backend.trunk import Edit
from feature_store.errors import InputError, pick

Other = float | Tensor
"""What stands in a part's place: a number, a vector, or [batch pos …] values."""


@dataclass(frozen=True)
class Site:
    """Where a part is: the hook it is written at, and the one it is read at."""

    part: Part
    hook: str
    read_at: str
    dictionary: Dictionary | None = None
    span: slice = field(default_factory=lambda: slice(None))
    """Coordinates of the hook that belong to it (a head's)."""


def site(lm: Lm, dictionaries: Mapping[str, Dictionary], part: Part) -> Site:
    """Where a part is; InputError when the model or the dictionaries do not have it."""
    if part.kind in ("feature", "dictionary", "error"):
        one = pick("dictionary", part.dictionary, dictionaries)
        if part.kind == "feature" and not 0 <= part.index < one.d_sae:
            raise InputError(f"{part}: {one.name} has features 0 to {one.d_sae - 1}.")
        return Site(part, point(lm, one.hook_out), point(lm, one.hook_name), one)
    if not 0 <= part.layer < lm.n_layers:
        raise InputError(f"{part}: {lm.name} has layers 0 to {lm.n_layers - 1}.")
    block = f"blocks.{part.layer}"
    if part.kind == "head":
        if not 0 <= part.index < lm.n_heads:
            raise InputError(f"{part}: {lm.name} has heads 0 to {lm.n_heads - 1} in a layer.")
        hook = point(lm, f"{block}.attn.hook_z")
        size = lm.width(hook) // lm.n_heads
        return Site(part, hook, hook, span=slice(part.index * size, (part.index + 1) * size))
    hook = f"{block}.hook_mlp_out" if part.kind == "mlp" else f"{block}.hook_attn_out"
    return Site(part, point(lm, hook), point(lm, hook))


def point(lm: Lm, hook: str) -> str:
    """One name for each hook point, so that changes at aliases of one meet.

    `hook_resid_mid` keeps its own: `Lm` treats it differently from the point it is an alias of.
    """
    lm.check_hook(hook)
    return hook if hook.endswith(".hook_resid_mid") else lm.canonical(hook)


def value_of(at: Site, h: Tensor, x: Tensor, counted: Tensor) -> Tensor:
    """A part's own value [batch pos …] on activations `h` (written) and `x` (read)."""
    part, one = at.part, at.dictionary
    if one is None:
        return h[..., at.span]
    if part.kind == "feature":
        return Named(one, torch.tensor([part.index], device=x.device)).activations(x)
    whole = reading_of(one, h, x, counted)
    if part.kind == "error":
        return whole.error()
    return whole.features_part(whole.active.value)


def change_of(at: Site, other: Other, h: Tensor, x: Tensor, counted: Tensor) -> Tensor:
    """Δh [batch pos width] that puts `other` in the part's place."""
    moved = other - value_of(at, h, x, counted)
    one = at.dictionary
    if one is None:
        change = torch.zeros_like(h)
        change[..., at.span] = moved
        return change
    if at.part.kind == "feature":
        named = Named(one, torch.tensor([at.part.index], device=x.device))
        return (moved @ named.directions) * named.scale(x)
    return moved


def reading_of(one: Dictionary, h: Tensor, x: Tensor, counted: Tensor) -> Reading:
    """All that a dictionary makes of activations."""
    x = x.to(one.coder.W_dec.dtype)
    return Reading(one, x, h.to(x.dtype), nodes_of(one, x, counted), counted)


def edits(
    lm: Lm,
    sites: Sequence[Site],
    others: Mapping[Part, Other],
    counted: Bool[Tensor, "batch pos"],
) -> dict[str, Edit]:
    """What `Lm.logits` needs to run without the parts, at counted positions."""
    counted = counted.to(lm.placement.device)
    read: dict[str, Tensor] = {}
    found: dict[str, Edit] = {}
    for hook in dict.fromkeys(at.hook for at in sites):
        here = [at for at in sites if at.hook == hook]
        found[hook] = _changing(lm, hook, here, others, counted, read)
    for at in sites:
        if at.read_at != at.hook:
            found[at.read_at] = _remembering(at.read_at, read, found.get(at.read_at))
    return found


def _remembering(hook: str, read: dict[str, Tensor], after: Edit | None) -> Edit:
    def remember(h: Tensor) -> Tensor:
        new = h if after is None else after(h)
        read[hook] = new
        return new

    return remember


def _changing(
    lm: Lm,
    hook: str,
    here: Sequence[Site],
    others: Mapping[Part, Other],
    counted: Tensor,
    read: Mapping[str, Tensor],
) -> Edit:
    def change(h: Tensor) -> Tensor:
        total = torch.zeros_like(h)
        for at in here:
            x = h if at.read_at == hook else read[at.read_at]
            if at.dictionary is not None:
                x = lm.process(at.read_at, x, at.dictionary.processing)
            total += change_of(at, others[at.part], h, x, counted).to(h.dtype)
        return h + total * counted[..., None]

    return change


@torch.no_grad()
def values(
    lm: Lm,
    sites: Sequence[Site],
    tokens: Int[Tensor, "batch pos"],
    counted: Bool[Tensor, "batch pos"],
) -> dict[Part, Float[Tensor, "batch pos width"]]:
    """Every part's own value in a clean pass over other prompts, to be patched in."""
    raw = lm.activations(
        tokens, list(dict.fromkeys(h for at in sites for h in (at.hook, at.read_at)))
    )
    found = {}
    counted = counted.to(lm.placement.device)
    for at in sites:
        x = raw[at.read_at]
        if at.dictionary is not None:
            x = lm.process(at.read_at, x, at.dictionary.processing)
        found[at.part] = value_of(at, raw[at.hook].clone(), x.clone(), counted)
    return found
