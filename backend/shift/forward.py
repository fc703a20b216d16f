"""Texts through the model up to the probe's hook point, some features taken away on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.changes import point
from backend.contrast.reading import batch, batches, complain, tokens
from backend.contrast.texts import Document
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.interventions.reading import Named
from backend.lm import Lm
from backend.trunk import Edit
from feature_store.errors import InputError, pick
from feature_store.records import FeatureId

Pool = Literal["mean", "last"]
"""Of backend/shift/asked.py's POOLS."""


class _There(Exception):
    """Raised at the probe's hook point to leave the forward pass."""


@dataclass(frozen=True, eq=False)
class Laid:
    """Some texts as the model reads them, of like length."""

    rows: np.ndarray
    """Their numbers in the set."""
    tokens: Int[Tensor, "batch pos"]
    counted: Bool[Tensor, "batch pos"]


def lay_out(engine: LocalEngine, texts: Sequence[str]) -> list[Laid]:
    """Batches of a few thousand tokens; InputError for a text without a token that counts."""
    documents = [Document(text, 0) for text in texts]
    read = [tokens(engine, document, "document") for document in documents]
    found = []
    for rows in batches(read):
        ids, use = batch(engine, [read[row] for row in rows])
        complain(documents, rows, use)
        found.append(Laid(rows, ids, use))
    return found


def at_hook(
    lm: Lm, tokens: Int[Tensor, "batch pos"], hook: str, edits: Mapping[str, Edit]
) -> Float[Tensor, "batch pos width"]:
    """The activation at `hook` under edits, its own included; nothing behind it is computed.

    Gradients flow where the caller has them enabled.
    """
    found: list[Tensor] = []
    last, here = point(lm, hook), {point(lm, name): edit for name, edit in edits.items()}
    own = here.pop(last, None)

    def leave(h: Tensor) -> Tensor:
        found.append(h if own is None else own(h))
        raise _There

    try:
        lm.logits(tokens, {**here, last: leave})
    except _There:
        return found[0]
    raise InputError(f"The model never reaches {hook}: choose another hook point for the probe.")


def pooled(
    h: Float[Tensor, "batch pos width"], counted: Bool[Tensor, "batch pos"], pool: Pool
) -> Float[Tensor, "batch width"]:
    """One vector for each text, float32 at least."""
    h = h if h.dtype == torch.float64 else h.float()
    use = counted.to(h.device)
    if pool == "mean":
        return (h * use[..., None]).sum(1) / use.sum(1, keepdim=True)
    at = torch.arange(use.shape[1], device=h.device)
    last = torch.where(use, at, -1).amax(1)
    return h[torch.arange(len(h), device=h.device), last]


def without(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    features: Sequence[FeatureId],
    counted: Bool[Tensor, "batch pos"],
) -> dict[str, Edit]:
    """Edits by which these features are zero at counted positions; error terms stay.

    All at one hook are read from the same activation there, and their changes are added; a
    transcoder's are read where it reads and taken away where it writes. InputError for a feature
    that does not exist.
    """
    by: dict[str, list[int]] = {}
    for feature in dict.fromkeys(features):
        one = pick("dictionary", feature.dictionary, dictionaries)
        if not 0 <= feature.index < one.d_sae:
            raise InputError(f"There is no feature {feature}: it has 0 to {one.d_sae - 1}.")
        by.setdefault(feature.dictionary, []).append(feature.index)
    use, read = counted.to(lm.placement.device)[..., None], {}
    parts: dict[str, list[Callable[[Tensor], Tensor]]] = {}
    away = [(dictionaries[name], ids) for name, ids in by.items()]
    remembered = {
        point(lm, one.hook_name)
        for one, _ in away
        if point(lm, one.hook_name) != point(lm, one.hook_out)
    }
    for one, ids in away:
        named = Named(one, torch.tensor(sorted(ids), device=one.coder.W_dec.device))
        parts.setdefault(point(lm, one.hook_out), []).append(_share(lm, named, read))
    return {
        hook: _changing(parts.get(hook, []), use, read if hook in remembered else None, hook)
        for hook in dict.fromkeys([*remembered, *parts])
    }


def _share(lm: Lm, named: Named, read: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """What some features of one dictionary add where it writes, given the stream there."""
    one = named.dictionary
    reads, writes = point(lm, one.hook_name), point(lm, one.hook_out)

    def share(h: Tensor) -> Tensor:
        x = lm.process(one.hook_name, h if reads == writes else read[reads], one.processing)
        return (named.activations(x) @ named.directions) * named.scale(x)

    return share


def _changing(
    parts: Sequence[Callable[[Tensor], Tensor]],
    use: Tensor,
    read: dict[str, Tensor] | None,
    hook: str,
) -> Edit:
    def change(h: Tensor) -> Tensor:
        new = h
        for part in parts:
            new = new - (part(h) * use).to(h.dtype)
        if read is not None:
            read[hook] = new
        return new

    return change


@torch.no_grad()
def vectors(
    engine: LocalEngine,
    laid: Sequence[Laid],
    hook: str,
    pool: Pool,
    features: Sequence[FeatureId] = (),
    tick: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "n width"]:
    """One pooled activation for each text, with features taken away. `tick` may raise to stop."""
    lm = engine.lm
    n = sum(len(one.rows) for one in laid)
    found = np.zeros((n, lm.width(hook)), np.float64)
    for one in laid:
        edits = without(lm, engine.dictionaries, features, one.counted)
        h = at_hook(lm, one.tokens, hook, edits)
        found[one.rows] = pooled(h, one.counted, pool).double().cpu().numpy()
        tick()
    return found
