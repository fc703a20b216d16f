"""Texts through the model, a few at a time: what each document's features do at their strongest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.contrast.extremes import Extremes, strongest
from backend.contrast.texts import Document, Unit
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.positions import counted, pad_right, uncounted_ids
from feature_store.errors import InputError, pick

TOKENS = 2_048
"""Tokens of a forward pass: other visitors wait for no longer."""
LONGEST = 1_024
"""Tokens of a document, where the model's context is longer."""


@dataclass(frozen=True)
class Tokens:
    """A document as the model reads it."""

    ids: list[int]
    at: int | None
    """The position that is read; None for all of them."""
    cut: bool
    """The document was longer than what is read of it."""


@dataclass(frozen=True)
class Readings:
    """What every document gave; rows are documents."""

    features: dict[str, Extremes]
    """By dictionary."""
    neurons: dict[str, np.ndarray]
    """By hook: float32 [documents width], the hook's own coordinates, reduced alike."""
    cut: int
    """Documents of which a part was read."""


def read(
    engine: LocalEngine,
    documents: Sequence[Document],
    names: Sequence[str],
    unit: Unit,
    tick: Callable[[int], None] = lambda done: None,
) -> Readings:
    """Features of dictionaries on documents, whole or at one token each.

    `tick` gets the documents done after each forward pass, and may raise to stop. InputError for a
    document without a token that counts.
    """
    chosen = {name: pick("dictionary", name, engine.dictionaries) for name in names}
    hooks = list(dict.fromkeys(one.hook_name for one in chosen.values()))
    texts = [tokens(engine, document, unit) for document in documents]
    parts: dict[str, list] = {name: [] for name in names}
    neurons: dict[str, np.ndarray] = {
        h: np.zeros((len(texts), engine.lm.width(h)), np.float32) for h in hooks
    }
    processing = next(iter(chosen.values())).processing
    done = 0
    for rows in batches(texts):
        ids, use = batch(engine, [texts[row] for row in rows])
        complain(documents, rows, use)
        acts = engine.lm.activations(ids, hooks, processing)
        for name, one in chosen.items():
            document, feature, value = encode(one, acts[one.hook_name], use)
            parts[name].append(strongest(rows[document], feature, value))
        for hook, x in acts.items():
            neurons[hook][rows] = extreme(x, use)
        done += len(rows)
        tick(done)
    features = {
        name: Extremes.joined(parts[name], len(texts), one.d_sae) for name, one in chosen.items()
    }
    return Readings(features, neurons, sum(text.cut for text in texts))


def tokens(engine: LocalEngine, document: Document, unit: Unit) -> Tokens:
    """The tokens that are read. What follows the token that counts cannot change it, and is left
    away; a document that is too long loses its end, or, where one token counts, its beginning."""
    lm = engine.lm
    front = [] if engine.bos is None else [engine.bos]
    room = min(lm.n_ctx, LONGEST) - len(front)
    settings: dict[str, Any] = {"add_special_tokens": False, "split_special_tokens": True}
    if unit == "marked":
        ids = until(lm.tokenizer, document, settings)
    else:
        ids = lm.tokenizer(document.text, **settings)["input_ids"]
    if unit == "document":
        return Tokens(front + ids[:room], None, len(ids) > room)
    kept = front + ids[-room:]
    return Tokens(kept, len(kept) - 1, len(ids) > room)


def until(tokenizer, document: Document, settings: dict[str, Any]) -> list[int]:
    """The tokens up to the last one that the marked span touches."""
    if not tokenizer.is_fast:
        raise InputError(
            "This model's tokenizer does not say which characters a token stands for. Read the "
            "last token instead, and cut the texts where the mark ends."
        )
    found = tokenizer(document.text, return_offsets_mapping=True, **settings)
    assert document.end is not None, "texts.documents reads the mark"
    spans = enumerate(found["offset_mapping"])
    before = [i for i, (start, end) in spans if start < min(end, document.end)]
    return found["input_ids"][: max(before, default=-1) + 1]


def batches(texts: Sequence[Tokens]) -> Iterator[np.ndarray]:
    """Rows of documents of like length, at most TOKENS tokens with their padding."""
    order = np.argsort([len(text.ids) for text in texts], kind="stable")[::-1]
    first = 0
    while first < len(order):
        size = max(TOKENS // max(len(texts[order[first]].ids), 1), 1)
        yield order[first : first + size]
        first += size


def batch(engine: LocalEngine, texts: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    """Token ids [batch pos], padded on the right, and which positions are read."""
    ids, real = pad_right([text.ids for text in texts])
    use = counted(ids, real, uncounted_ids(engine.lm.bos, engine.lm.special_ids, {}))
    for row, text in enumerate(texts):
        if text.at is not None:
            use[row] &= torch.arange(ids.shape[1]) == text.at
    return ids, use


def complain(documents: Sequence[Document], rows: np.ndarray, use: Tensor) -> None:
    """InputError where a document has nothing to read."""
    for row, any_token in zip(rows, use.any(dim=1).tolist(), strict=True):
        if not any_token:
            said = documents[row].text[:40]
            raise InputError(f"The text {said!r} has no token that counts. Leave it out.")


@torch.inference_mode()
def encode(one: Dictionary, x: Tensor, use: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Non-zero (row of the batch, feature, value) at the positions that are read."""
    use = use.to(x.device)
    rows, _ = use.nonzero(as_tuple=True)
    if one.needs_sequence:
        triples = one.encode_sparse(x)
        kept = use.flatten()[triples.token.long()]
        row = triples.token.long()[kept] // x.shape[1]
        found = (row, triples.feature[kept], triples.value[kept])
    else:
        triples = one.encode_sparse(x[use])
        found = (rows[triples.token.long()], triples.feature, triples.value)
    row, feature, value = (column.cpu().numpy() for column in found)
    return row, feature.astype(np.int64), value.astype(np.float32)


@torch.inference_mode()
def extreme(x: Tensor, use: Tensor) -> np.ndarray:
    """Of each row and coordinate the value of largest magnitude where it is read: [batch width]."""
    away = ~use.to(x.device)[..., None]
    high = x.masked_fill(away, -torch.inf).amax(dim=1)
    low = x.masked_fill(away, torch.inf).amin(dim=1)
    return torch.where(high >= -low, high, low).float().cpu().numpy()
