"""The explainer `nearest-text`: the words of a list that are nearest in meaning to the strongest
windows; it needs no language model.

Windows are embedded around their peaks; the mean embedding of silent windows is subtracted, so that
what all texts of the corpus have in common does not choose the words.
"""

import asyncio
from functools import lru_cache

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.explainers import window_text
from autointerp.explainers.explainer_interface import (
    EmbedTexts,
    Explainer,
    ExplainerTools,
    WrittenExplanation,
)
from autointerp.llm.requests_and_replies import RequestFailure
from autointerp.text_windows import TextWindow
from feature_store.errors import InputError

NAME = "nearest-text"
WORDS_NAMED = 3
TOKENS_AROUND_PEAK = 6
"""Number of tokens to either side of the peak that are embedded with it."""


async def explain(
    sampled: FeatureSample, tools: ExplainerTools
) -> WrittenExplanation | RequestFailure:
    """Explain a feature as `about a, b, c` by the three words nearest to the text of its windows;
    `detail` has their cosines."""
    if tools.embed is None or not tools.words:
        raise InputError("The explainer 'nearest-text' needs an embedder and a list of words.")
    shown = window_text.strongest_windows(sampled)
    silent = sampled.explain_random or sampled.explain_hard
    near = await asyncio.to_thread(nearest_words, tools.embed, tuple(tools.words), shown, silent)
    if not near:
        return RequestFailure("unreadable", "The embedder knows nothing of what these windows say.")
    words = [word for word, _ in near]
    detail = {"words": [{"word": word, "cosine": round(cosine, 4)} for word, cosine in near]}
    keys = tuple(example.key for example in shown)
    return WrittenExplanation("about " + ", ".join(words), NAME, shown=keys, detail=detail)


def nearest_words(
    embed: EmbedTexts,
    words: tuple[str, ...],
    shown: tuple[TextWindow, ...],
    silent: tuple[TextWindow, ...],
) -> list[tuple[str, float]]:
    """Return (word, cosine) of the words nearest to the text of the shown windows; empty where the
    embedder knows none of it."""
    query = embed([text_around_peak(example) for example in shown]).mean(0)
    if silent:
        # what all texts of the corpus have in common must not choose the words
        query = query - embed([example.text for example in silent]).mean(0)
    length = float(np.linalg.norm(query))
    if length == 0:
        return []
    cosines = embed_words(embed, words) @ (query / length)
    order = np.argsort(-cosines, kind="stable")[:WORDS_NAMED]
    return [(words[i], float(cosines[i])) for i in order.tolist() if cosines[i] > 0]


@lru_cache(maxsize=2)  # a job uses the same list for every feature
def embed_words(embed: EmbedTexts, words: tuple[str, ...]) -> np.ndarray:
    """Return the embeddings [words, dimensions] of the list from which nearest words are chosen."""
    return embed(words)


def text_around_peak(example: TextWindow) -> str:
    """Return the text of the tokens around a window's peak, which is embedded to find the nearest
    words."""
    begin = max(example.peak - TOKENS_AROUND_PEAK, 0)
    return "".join(example.tokens[begin : example.peak + TOKENS_AROUND_PEAK + 1])


EXPLAINER = Explainer(
    "Nearest words",
    "No language model: the words nearest in meaning to the strongest windows.",
    explain,
    frozenset(("embedder",)),
    uses_silent=True,
)
