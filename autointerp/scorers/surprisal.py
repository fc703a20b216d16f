"""Surprisal: does the label make firing windows likelier to a language model than silent ones?

For each window: mean nats per token behind a plain prefix, less those behind the label. Value: AUC
of this, firing against random silent windows. It needs log probabilities of a text that was sent,
which chat servers do not give: a local model has to be handed in (Tools.surprisal).
"""

import numpy as np

from autointerp.contexts import Sampled
from autointerp.scorers.ranking import asked, of_values
from autointerp.scorers.records import Scored, Scorer, Tools
from autointerp.scorers.sheets import quoted, sheet
from feature_store.errors import InputError

NAME = "surprisal"


async def score(label: str, windows: Sampled, tools: Tools) -> Scored:
    """AUC of the nats per token that the label saves."""
    if tools.surprisal is None:
        raise InputError(
            f"The scorer {NAME!r} needs log probabilities of the texts it sends, which chat "
            "servers do not give; it works with a local model only."
        )
    texts = asked(windows)
    told, plain = sheet(NAME), sheet(f"{NAME}_plain")
    prefixes = [told.fill(label=quoted(label))] * len(texts) + [plain.fill()] * len(texts)
    read = [e.text for e in texts]
    nats = np.asarray(await tools.surprisal(prefixes, [*read, *read]), np.float64)
    saved = nats[len(texts) :] - nats[: len(texts)]
    versions = f"{told.version}, {plain.version}"
    return of_values(NAME, texts, saved, len(windows.positives), {"prompt": versions})


SCORER = Scorer(
    "Surprisal",
    "How many nats per token the label saves a local model, firing against silent windows.",
    "AUC",
    0.5,
    score,
    judges=frozenset(),
    needs=frozenset(("surprisal",)),
)
