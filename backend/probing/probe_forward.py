"""Forward passes for a probe: run texts up to the probe's hook point, with features ablated on the
way, and pool the activations into one vector per text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.ablation.part_edits import canonical_hook
from backend.contrast.contrast_texts import ContrastDocument
from backend.contrast.document_encoding import (
    batch_documents,
    check_readable,
    pad_documents,
    tokenize_document,
)
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.interventions.named_activations import NamedFeatures
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError, pick_by_name
from feature_store.hook_sites import check_single_sites
from feature_store.records import FeatureId

Pooling = Literal["mean", "last"]
"""One of the keys of POOLING_CHOICES in shift_request.py."""


class _HookReached(Exception):
    """Raised at the probe's hook point to leave the forward pass early."""


@dataclass(frozen=True, eq=False)
class TextBatch:
    """A batch of tokenized texts of similar length, for a forward pass up to the probe's hook
    point.
    """

    rows: np.ndarray
    """Indices of the texts in their set."""
    tokens: Int[Tensor, "batch pos"]
    counted: Bool[Tensor, "batch pos"]


def batch_texts(engine: LocalEngine, texts: Sequence[str]) -> list[TextBatch]:
    """Tokenize texts into batches of a few thousand tokens for the probe's forward passes. Raises
    InputError for a text without a counted token.
    """
    documents = [ContrastDocument(text, 0) for text in texts]
    read = [tokenize_document(engine, document, "document") for document in documents]
    found = []
    for rows in batch_documents(read):
        ids, use = pad_documents(engine, [read[row] for row in rows])
        check_readable(documents, rows, use)
        found.append(TextBatch(rows, ids, use))
    return found


def activation_at_hook(
    lm: LanguageModel,
    tokens: Int[Tensor, "batch pos"],
    hook: str,
    edits: Mapping[str, ActivationEdit],
) -> Float[Tensor, "batch pos width"]:
    """Return the activation [batch, position, width] at the probe's hook point under edits; nothing
    after it is computed.

    An edit at the hook point itself is applied too. Gradients flow if the caller has them enabled.
    """
    found: list[Tensor] = []
    last, here = (
        canonical_hook(lm, hook),
        {canonical_hook(lm, name): edit for name, edit in edits.items()},
    )
    own = here.pop(last, None)

    def leave(h: Tensor) -> Tensor:
        found.append(h if own is None else own(h))
        raise _HookReached  # nothing after the probe's hook point is needed

    try:
        lm.logits(tokens, {**here, last: leave})
    except _HookReached:
        return found[0]
    raise InputError(f"The model never reaches {hook}: choose another hook point for the probe.")


def pool_tokens(
    h: Float[Tensor, "batch pos width"],
    counted: Bool[Tensor, "batch pos"],
    pool: Pooling,
) -> Float[Tensor, "batch width"]:
    """Pool the activations of each text's counted tokens into one vector for the probe (mean or
    last token), in float32 at least.
    """
    h = h if h.dtype == torch.float64 else h.float()
    use = counted.to(h.device)
    if pool == "mean":
        return (h * use[..., None]).sum(1) / use.sum(1, keepdim=True)
    at = torch.arange(use.shape[1], device=h.device)
    last = torch.where(use, at, -1).amax(1)
    return h[torch.arange(len(h), device=h.device), last]


def feature_ablation_edits(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    features: Sequence[FeatureId],
    counted: Bool[Tensor, "batch pos"],
) -> dict[str, ActivationEdit]:
    """Return the edits of the forward pass that set features to zero at counted positions; error
    terms stay.

    All features of one hook point are read from the same activation and their contributions are
    subtracted; a transcoder's features are read where it reads and subtracted where it writes.
    Raises InputError for a feature that does not exist.
    """
    by: dict[str, list[int]] = {}
    for feature in dict.fromkeys(features):
        one = pick_by_name("dictionary", feature.dictionary, dictionaries)
        if not 0 <= feature.index < one.d_sae:
            raise InputError(
                f"There is no feature {feature}: {one.name} has features 0 to {one.d_sae - 1}."
            )
        by.setdefault(feature.dictionary, []).append(feature.index)
    use, read = counted.to(lm.placement.device)[..., None], {}
    parts: dict[str, list[Callable[[Tensor], Tensor]]] = {}
    ablated = [(dictionaries[name], ids) for name, ids in by.items()]
    check_single_sites([one for one, _ in ablated], "Probes")
    remembered = {
        canonical_hook(lm, one.hook_name)
        for one, _ in ablated
        if canonical_hook(lm, one.hook_name) != canonical_hook(lm, one.hook_out)
    }
    for one, ids in ablated:
        named = NamedFeatures(one, torch.tensor(sorted(ids), device=one.coder.W_dec.device))
        parts.setdefault(canonical_hook(lm, one.hook_out), []).append(
            _features_contribution(lm, named, read)
        )
    return {
        hook: _subtract_contributions(
            parts.get(hook, []), use, read if hook in remembered else None, hook
        )
        for hook in dict.fromkeys([*remembered, *parts])
    }


def _features_contribution(
    lm: LanguageModel, named: NamedFeatures, read: Mapping[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return a function that computes, during the forward pass, what some features of one
    dictionary add to the stream where it writes.
    """
    one = named.dictionary
    reads, writes = canonical_hook(lm, one.hook_name), canonical_hook(lm, one.hook_out)

    def share(h: Tensor) -> Tensor:
        x = lm.process(one.hook_name, h if reads == writes else read[reads], one.processing)
        return (named.activations(x) @ named.directions) * named.scale(x)

    return share


def _subtract_contributions(
    parts: Sequence[Callable[[Tensor], Tensor]],
    use: Tensor,
    read: dict[str, Tensor] | None,
    hook: str,
) -> ActivationEdit:
    def change(h: Tensor) -> Tensor:
        new = h
        for part in parts:
            new = new - (part(h) * use).to(h.dtype)
        if read is not None:
            read[hook] = new
        return new

    return change


@torch.no_grad()
def pooled_activations(
    engine: LocalEngine,
    batches: Sequence[TextBatch],
    hook: str,
    pool: Pooling,
    features: Sequence[FeatureId] = (),
    tick: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "n width"]:
    """Return the probe's input: one pooled activation per text, [texts, width], with features
    ablated. `tick` may raise to stop.
    """
    lm = engine.lm
    n = sum(len(one.rows) for one in batches)
    found = np.zeros((n, lm.width(hook)), np.float64)
    for one in batches:
        edits = feature_ablation_edits(lm, engine.dictionaries, features, one.counted)
        h = activation_at_hook(lm, one.tokens, hook, edits)
        found[one.rows] = pool_tokens(h, one.counted, pool).double().cpu().numpy()
        tick()
    return found
