"""What a harvest must know of a dictionary before it streams: its self-check, and scales.

Measured once on the plan's first documents and kept beside the plan, so that a resumed harvest and
every shard work with the same numbers.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from backend import selfcheck
from backend.corpus import SequencePlan
from backend.dictionaries.base import Dictionary
from backend.harvest.accumulator import Shape
from backend.harvest.feed import Feed, batches
from backend.harvest.shard import encode
from backend.harvest.statistics import top_octave
from backend.lm import Lm
from backend.processing import Processing

DOCUMENTS = 50
POSITIONS = 128
SCALE_SEQUENCES = 64
PAIR_BUDGET = 1 << 21
"""Pairs of co-active features counted for one dictionary, about."""
SAMPLE_BUDGET = 1 << 21
"""Non-zero activations whose tokens are counted for one dictionary, about."""


@dataclass(frozen=True)
class Probe:
    """One dictionary's measurements, as plain data."""

    check: dict[str, float | None]
    """The fields of `selfcheck.SelfCheck`."""
    words: list[str]
    """What the self-check says in words; empty when nothing is suspicious."""
    largest: float
    """Largest |activation| on the first sequences."""
    coactive_rate: float
    sample_rate: float

    def shape(self, dictionary: Dictionary) -> Shape:
        """What the dictionary's accumulator is made from."""
        return Shape(
            dictionary.d_sae,
            dictionary.signed,
            top_octave(self.largest),
            self.coactive_rate,
            self.sample_rate,
        )

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def probe(
    lm: Lm,
    dictionary: Dictionary,
    feed: Feed,
    processing: Processing,
    forward_batch: int,
    known: selfcheck.Known,
) -> Probe:
    """Check the dictionary on ≥ 50 documents where there are, and measure its scales.

    `known` is shared by the dictionaries of a harvest.
    """
    check = selfcheck.check(lm, dictionary, first_of_documents(feed.plan), known)
    largest = largest_activation(lm, dictionary, feed, processing, forward_batch)
    active = max(check.l0, 1.0)
    pairs = active * max(active - 1, 1.0) / 2
    return Probe(
        check=asdict(check),
        words=selfcheck.words(check),
        largest=largest,
        coactive_rate=min(1.0, PAIR_BUDGET / (pairs * feed.plan.n_tokens)),
        sample_rate=min(1.0, SAMPLE_BUDGET / (active * feed.plan.n_tokens)),
    )


def first_of_documents(plan: SequencePlan) -> list[list[int]]:
    """The first sequence of each of the first documents, cut for the self-check."""
    _, numbers = np.unique(np.asarray(plan.document), return_index=True)
    return [plan.tokens(int(i))[:POSITIONS].tolist() for i in numbers[:DOCUMENTS]]


@torch.inference_mode()
def largest_activation(
    lm: Lm, dictionary: Dictionary, feed: Feed, processing: Processing, forward_batch: int
) -> float:
    """Largest |activation| on the first sequences; 0 if nothing fires there."""
    lengths = np.asarray(feed.plan.length[:SCALE_SEQUENCES])
    largest = 0.0
    for sequences in batches(lengths, forward_batch):
        batch = feed.batch(sequences)
        acts = lm.activations(batch.tokens, [dictionary.hook_name], processing)
        values = encode(dictionary, acts[dictionary.hook_name], batch, "exact").value
        largest = max(largest, float(values.abs().max()) if len(values) else 0.0)
    return largest


@torch.inference_mode()
def at_bos(lm: Lm, dictionary: Dictionary, processing: Processing, bos: int | None) -> np.ndarray:
    """Every feature's activation on a sequence's first token; NaN where there is no BOS.

    Attention is causal, so it is the same in every sequence.
    """
    if bos is None:
        return np.full(dictionary.d_sae, np.nan, dtype=np.float32)
    hook = dictionary.hook_name
    acts = lm.activations(torch.tensor([[bos]]), [hook], processing)[hook]
    return dictionary.encode(acts).reshape(-1).float().cpu().numpy()
