"""Measurements of a dictionary that a harvest needs before it streams: the self-check, the largest
activation and the sampling rates.

They are made once on the plan's first documents and saved with the plan, so that a resumed harvest
and every shard use the same numbers.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from backend.corpus import SequencePlan
from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import read_activations
from backend.evaluation import reconstruction_check
from backend.evaluation.reconstruction_batches import MAX_PIECE_TOKENS, MAX_PIECES, TextPiece
from backend.evaluation.reconstruction_check import ReconstructionCheck
from backend.evaluation.reconstruction_measurement import (
    ReconstructionCheckProgress,
    check_reconstructions,
)
from backend.harvest.accumulator import AccumulatorShape
from backend.harvest.activation_sums import highest_histogram_octave
from backend.harvest.coactivation import initial_sample_level, pair_table_fits
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import WeightProcessing
from feature_store.errors import InputError

SAMPLE_BUDGET = 1 << 21
"""Non-zero activations whose tokens are counted in one dictionary's token sample, about."""
MIN_PIECE_TOKENS = 16
"""Tokens below which the remainder of a sequence is not used as a piece of the self-check."""


@dataclass(frozen=True)
class DictionaryMeasurement:
    """Measurements of one dictionary before the harvest, as plain data: self-check, activation
    scale and sampling rates."""

    check: dict[str, Any]
    """Fields of `selfcheck.SelfCheck`; values that are not finite are absent."""
    words: list[str]
    """Sentences about what the self-check found suspicious; empty where nothing is."""
    largest: float
    """Largest activation magnitude on the first sequences."""
    coactive_level: int
    """Level of tokens at which the co-activation sample begins."""
    sample_rate: float
    """Share of tokens in the token sample, between 0 and 1."""

    def shape(self, dictionary: Dictionary, n_dictionaries: int) -> AccumulatorShape:
        """Return the shape of the dictionary's accumulator, in a harvest of `n_dictionaries`
        dictionaries."""
        return AccumulatorShape(
            dictionary.d_sae,
            dictionary.signed,
            highest_histogram_octave(self.largest),
            pair_table_fits(dictionary.d_sae, n_dictionaries),
            self.coactive_level,
            self.sample_rate,
        )

    def plain(self) -> dict[str, Any]:
        """Return the measurements as plain data for JSON."""
        return asdict(self)


def measure_dictionaries(
    lm: LanguageModel, dictionaries: Sequence[Dictionary], plan: SequencePlan
) -> Generator[ReconstructionCheckProgress, None, dict[str, DictionaryMeasurement]]:
    """Run the self-check of the dictionaries on 50 pieces of the plan's documents, and measure
    their activation scales there.

    Raises InputError where activations or features are not finite, since nothing of them could be
    stored.
    """
    checks = yield from check_reconstructions(lm, dictionaries, select_check_pieces(plan))
    return {
        name: measurement_from_check(name, check, plan.n_tokens) for name, check in checks.items()
    }


def measurement_from_check(
    name: str, check: ReconstructionCheck, n_tokens: int
) -> DictionaryMeasurement:
    """Return the measurements that a harvest of `n_tokens` tokens needs from a dictionary's
    self-check. Raises InputError where they are not finite."""
    words = reconstruction_check.describe_check_problems(check)
    if not all(map(math.isfinite, (check.largest, check.explained_variance or 0.0))):
        raise InputError(f"{name} cannot be harvested. {words[0]}")
    active = max(check.l0, 1.0)
    return DictionaryMeasurement(
        check=check.plain(),
        words=words,
        largest=check.largest,
        coactive_level=initial_sample_level(active, n_tokens),
        sample_rate=min(1.0, SAMPLE_BUDGET / (active * n_tokens)),
    )


def select_check_pieces(plan: SequencePlan) -> list[TextPiece]:
    """Return up to 50 pieces of the plan for the self-check, from as many documents as possible.

    With 50 documents or more these are the beginnings of the first 50; with fewer, further pieces
    are taken from the middles of the longer documents, spread evenly over each.
    """
    by_document: dict[int, list[TextPiece]] = {}
    for number in range(plan.n_sequences):
        document = int(plan.document[number])
        if document not in by_document and len(by_document) == MAX_PIECES:
            break
        of_sequence = cut_sequence(plan.tokens(number).tolist(), plan.bos)
        by_document.setdefault(document, []).extend(TextPiece(t, document) for t in of_sequence)
    documents = list(by_document.values())
    shares = share_evenly([len(pieces) for pieces in documents], MAX_PIECES)
    return [
        pieces[index]
        for pieces, n in zip(documents, shares, strict=True)
        for index in np.linspace(0, len(pieces) - 1, n).round().astype(int).tolist()
    ]


def cut_sequence(tokens: list[int], bos: int | None) -> list[list[int]]:
    """Cut a sequence into pieces of at most 128 tokens for the self-check, each with BOS in front
    where the model uses one."""
    front = tokens[:1] if bos is not None else []
    body, step = tokens[len(front) :], MAX_PIECE_TOKENS - len(front)
    cut = [front + body[i : i + step] for i in range(0, max(len(body), 1), step)]
    return [cut[0], *(piece for piece in cut[1:] if len(piece) >= MIN_PIECE_TOKENS)]


def share_evenly(available: list[int], n: int) -> list[int]:
    """Return how many self-check pieces each document gives so that together they give `n`, or all
    that they have, as evenly as possible."""
    shares = [0] * len(available)
    while sum(shares) < min(n, sum(available)):
        for i in sorted(range(len(available)), key=lambda i: (shares[i], i)):
            if shares[i] < available[i] and sum(shares) < n:
                shares[i] += 1
    return shares


@torch.inference_mode()
def bos_activations(
    lm: LanguageModel, dictionary: Dictionary, processing: WeightProcessing, bos: int | None
) -> np.ndarray:
    """Return the activation of every feature on BOS, the first token of a sequence; NaN where there
    is no BOS. Attention is causal, so the activations are the same in every sequence."""
    if bos is None:
        return np.full(dictionary.d_sae, np.nan, dtype=np.float32)
    x = read_activations(lm, dictionary, torch.tensor([[bos]]), processing)
    return dictionary.encode(x).reshape(-1).float().cpu().numpy()
