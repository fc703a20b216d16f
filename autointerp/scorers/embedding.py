"""The embedding scorer: are firing windows nearer to the label in meaning than silent ones?

Value: AUC of the cosine between the embeddings of label and window, firing against random silent
windows. It needs no judge; a label without any word known to the embedder has no value.
"""

import asyncio

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.scorers.auc_scores import score_split_windows, score_window_values
from autointerp.scorers.scorer_interface import LabelScore, Scorer, ScorerTools
from feature_store.errors import InputError

NAME = "embedding"


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by embedding: the AUC of its cosines with firing and silent windows."""
    if tools.embed is None:
        raise InputError(f"The scorer {NAME!r} needs an embedder: name a model2vec model.")
    texts = score_split_windows(windows)
    # in a thread, so that a job's other calls continue
    found = await asyncio.to_thread(tools.embed, [label, *(e.text for e in texts)])
    vectors = np.asarray(found, np.float64)
    # row 0 is the label, the others are the windows
    cosines = vectors[1:] @ vectors[0]
    return score_window_values(NAME, texts, cosines.round(6), len(windows.positives))


SCORER = Scorer(
    "Embedding",
    "How much nearer in meaning firing windows are to the label than silent ones; needs no judge.",
    "AUC",
    0.5,
    score,
    judges=frozenset(),
    needs=frozenset(("embedder",)),
)
