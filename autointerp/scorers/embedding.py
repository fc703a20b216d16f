"""Embedding: are firing windows nearer to the label in meaning than silent ones?

Value: AUC of the cosine between the label's embedding and the window's, firing against random
silent windows. No judge is asked; a label that the embedder knows nothing of has no value.
"""

import asyncio

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.scorers.auc_scores import score_split_windows, score_window_values
from autointerp.scorers.records import LabelScore, Scorer, ScorerTools
from feature_store.errors import InputError

NAME = "embedding"


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """AUC of the cosines."""
    if tools.embed is None:
        raise InputError(f"The scorer {NAME!r} needs an embedder: name a model2vec model.")
    texts = score_split_windows(windows)
    # in a thread: a job's other calls go on meanwhile
    found = await asyncio.to_thread(tools.embed, [label, *(e.text for e in texts)])
    vectors = np.asarray(found, np.float64)
    cosines = vectors[1:] @ vectors[0]
    return score_window_values(NAME, texts, cosines.round(6), len(windows.positives))


SCORER = Scorer(
    "Embedding",
    "How much nearer in meaning firing windows are to the label than silent ones; asks nobody.",
    "AUC",
    0.5,
    score,
    judges=frozenset(),
    needs=frozenset(("embedder",)),
)
