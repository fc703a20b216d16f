"""The surprisal scorer: does the label make firing windows likelier to a language model than silent
ones?

For each window: mean nats per token after a plain prefix, minus those after the label. Value: AUC
of this difference, firing against random silent windows. It needs log probabilities of the texts
that are sent, which chat servers do not give: a local model has to be provided
(ScorerTools.surprisal).
"""

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.scorers.auc_scores import score_split_windows, score_window_values
from autointerp.scorers.prompt_templates import load_score_prompt, quote_as_json
from autointerp.scorers.scorer_interface import LabelScore, Scorer, ScorerTools
from feature_store.errors import InputError

NAME = "surprisal"


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by surprisal: the AUC of the nats per token that the label saves."""
    if tools.surprisal is None:
        raise InputError(
            f"The scorer {NAME!r} needs log probabilities of the texts it sends, which chat "
            "servers do not give; it works with a local model only."
        )
    texts = score_split_windows(windows)
    with_label, without_label = load_score_prompt(NAME), load_score_prompt(f"{NAME}_plain")
    prefixes = [with_label.fill(label=quote_as_json(label))] * len(texts) + [
        without_label.fill()
    ] * len(texts)
    texts_read = [e.text for e in texts]
    nats = np.asarray(await tools.surprisal(prefixes, [*texts_read, *texts_read]), np.float64)
    # the first half has the label before each window, the second half a plain sentence
    saved = nats[len(texts) :] - nats[: len(texts)]
    versions = f"{with_label.version}, {without_label.version}"
    return score_window_values(NAME, texts, saved, len(windows.positives), {"prompt": versions})


SCORER = Scorer(
    "Surprisal",
    "Nats per token that the label saves a local model, on firing against silent windows.",
    "AUC",
    0.5,
    score,
    judges=frozenset(),
    needs=frozenset(("surprisal",)),
)
