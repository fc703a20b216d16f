"""Run documents through the model and encode them with dictionaries: each document's strongest
activation of every feature and of every coordinate of the hook point.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.contrast.contrast_texts import ContrastDocument, ReadingUnit
from backend.contrast.strongest_activations import StrongestActivations, keep_strongest
from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import join_sites, list_hooks
from backend.engine import LocalEngine
from backend.model.counted_positions import mark_counted_positions, pad_right, uncounted_token_ids
from feature_store.errors import InputError, pick_by_name

TOKENS_PER_PASS = 2_048
"""Maximum number of tokens in one forward pass, which bounds how long other visitors wait."""
MAX_DOCUMENT_TOKENS = 1_024
"""Maximum number of tokens of a document that are encoded, if the model's context is longer."""


@dataclass(frozen=True)
class DocumentTokens:
    """Token ids of one document of a contrast, and the positions at which dictionaries encode
    it.
    """

    ids: list[int]
    at: int | None
    """The single position that is encoded; None for all positions."""
    cut: bool
    """True if the document was truncated."""


@dataclass(frozen=True)
class DocumentEncodings:
    """Strongest activations of the dictionaries' features, and largest coordinates of the hook
    points that they read, on every document of a contrast; rows are documents.
    """

    features: dict[str, StrongestActivations]
    """Strongest activations of features, by dictionary name."""
    neurons: dict[str, np.ndarray]
    """Strongest value of each coordinate, by hook point: float32 [documents, width]."""
    cut: int
    """Number of documents that were truncated."""


def encode_documents(
    engine: LocalEngine,
    documents: Sequence[ContrastDocument],
    names: Sequence[str],
    unit: ReadingUnit,
    tick: Callable[[int], None] = lambda done: None,
) -> DocumentEncodings:
    """Encode documents with dictionaries, at all tokens or at one token each.

    `tick` is called with the number of documents done after each forward pass and may raise to
    stop. Raises InputError for a document without a counted token.
    """
    chosen = {name: pick_by_name("dictionary", name, engine.dictionaries) for name in names}
    hooks = list_hooks(list(chosen.values()))
    texts = [tokenize_document(engine, document, unit) for document in documents]
    parts: dict[str, list] = {name: [] for name in names}
    neurons: dict[str, np.ndarray] = {
        h: np.zeros((len(texts), engine.lm.width(h)), np.float32) for h in hooks
    }
    processing = next(iter(chosen.values())).processing
    done = 0
    for rows in batch_documents(texts):
        ids, use = pad_documents(engine, [texts[row] for row in rows])
        check_readable(documents, rows, use)
        acts = engine.lm.activations(ids, hooks, processing)
        for name, one in chosen.items():
            x = join_sites([acts[hook] for hook in one.read_hooks])
            document, feature, value = encode_positions(one, x, use)
            parts[name].append(keep_strongest(rows[document], feature, value))
        for hook, x in acts.items():
            neurons[hook][rows] = strongest_coordinates(x, use)
        done += len(rows)
        tick(done)
    features = {
        name: StrongestActivations.from_batches(parts[name], len(texts), one.d_sae)
        for name, one in chosen.items()
    }
    return DocumentEncodings(features, neurons, sum(text.cut for text in texts))


def tokenize_document(
    engine: LocalEngine, document: ContrastDocument, unit: ReadingUnit
) -> DocumentTokens:
    """Tokenize a document and truncate it to the model's context.

    Tokens after the one that is read cannot change its activation and are left out. A document that
    is too long loses its end, or, if a single token is read, its beginning.
    """
    lm = engine.lm
    front = [] if engine.bos is None else [engine.bos]
    room = min(lm.n_ctx, MAX_DOCUMENT_TOKENS) - len(front)
    settings: dict[str, Any] = {"add_special_tokens": False, "split_special_tokens": True}
    if unit == "marked":
        ids = tokens_up_to_mark(lm.tokenizer, document, settings)
    else:
        ids = lm.tokenizer(document.text, **settings)["input_ids"]
    if unit == "document":
        return DocumentTokens(front + ids[:room], None, len(ids) > room)
    kept = front + ids[-room:]
    return DocumentTokens(kept, len(kept) - 1, len(ids) > room)


def tokens_up_to_mark(tokenizer, document: ContrastDocument, settings: dict[str, Any]) -> list[int]:
    """Return the tokens of a document up to the last one that overlaps the marked span."""
    if not tokenizer.is_fast:
        raise InputError(
            "This model's tokenizer does not report character offsets, so marks cannot be "
            "located. Read the last token instead, and end the texts where the mark ends."
        )
    found = tokenizer(document.text, return_offsets_mapping=True, **settings)
    assert document.end is not None, "texts.documents reads the mark"
    spans = enumerate(found["offset_mapping"])
    before = [i for i, (start, end) in spans if start < min(end, document.end)]
    return found["input_ids"][: max(before, default=-1) + 1]


def batch_documents(texts: Sequence[DocumentTokens]) -> Iterator[np.ndarray]:
    """Yield the indices of documents of similar length in batches, at most TOKENS_PER_PASS tokens
    each including padding, to be encoded in one forward pass.
    """
    order = np.argsort([len(text.ids) for text in texts], kind="stable")[::-1]
    first = 0
    while first < len(order):
        size = max(TOKENS_PER_PASS // max(len(texts[order[first]].ids), 1), 1)
        yield order[first : first + size]
        first += size


def pad_documents(engine: LocalEngine, texts: Sequence[DocumentTokens]) -> tuple[Tensor, Tensor]:
    """Return token ids [batch, position], padded on the right, and a mask of the positions that are
    encoded.
    """
    ids, real = pad_right([text.ids for text in texts])
    use = mark_counted_positions(
        ids, real, uncounted_token_ids(engine.lm.bos, engine.lm.special_ids, {})
    )
    for row, text in enumerate(texts):
        if text.at is not None:
            use[row] &= torch.arange(ids.shape[1]) == text.at
    return ids, use


def check_readable(documents: Sequence[ContrastDocument], rows: np.ndarray, use: Tensor) -> None:
    """Raise InputError if a document of the batch has no counted token to encode."""
    for row, any_token in zip(rows, use.any(dim=1).tolist(), strict=True):
        if not any_token:
            excerpt = documents[row].text[:40]
            raise InputError(
                f"The text {excerpt!r} has no counted token (only special ones). Leave it out."
            )


@torch.inference_mode()
def encode_positions(
    one: Dictionary, x: Tensor, use: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encode the masked positions of a batch of documents with a dictionary; return the nonzero
    activations as (batch row, feature, value).
    """
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
def strongest_coordinates(x: Tensor, use: Tensor) -> np.ndarray:
    """Return, for each document of a batch, the value of largest magnitude of each hook coordinate
    over the masked positions, [batch, width].
    """
    ignored = ~use.to(x.device)[..., None]
    high = x.masked_fill(ignored, -torch.inf).amax(dim=1)
    low = x.masked_fill(ignored, torch.inf).amin(dim=1)
    return torch.where(high >= -low, high, low).float().cpu().numpy()
