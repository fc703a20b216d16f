"""Next-token probabilities after a text, in the clean model and under a steering request's
edits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from backend.dictionaries.base import Dictionary
from backend.generation.generation_run import tokenize_prompt
from backend.generation.steering_request import SteeringRequest
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.model.language_model import LanguageModel


@dataclass(frozen=True)
class NextTokenProbabilities:
    """Most likely next tokens after a text, with their probabilities in the clean model and under a
    steering request's edits, before temperature and penalties.
    """

    rows: list[tuple[int, float, float]]
    """(token id, probability in the clean model, probability under the edits), ordered by the
    larger of the two.
    """
    kl: float | None
    """KL(clean ‖ edited) of the next-token distribution in nats; None without an edit."""


@torch.inference_mode()
def predict_next_tokens(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    request: SteeringRequest,
    tokens: Sequence[int],
    n: int,
) -> NextTokenProbabilities:
    """Return the `n` most likely next tokens after `tokens` (the prompt and the text generated so
    far), in the clean model and under the steering request's edits.

    Raises InputError for a text that the model cannot read.
    """
    start = tokenize_prompt(lm, request)
    plan = compile_edits(lm, dictionaries, [request.edits], freeze=request.freeze, guard=True)
    n_prompt = min(len(start.tokens), len(tokens))
    found = compute_edited_logits(plan, [list(tokens)], n_prompt=n_prompt, roles=start.roles)
    edited = found.logits[0, -1].float().softmax(-1)
    clean = edited if found.clean is None else found.clean[0, -1].float().softmax(-1)
    nameable = torch.maximum(clean, edited)[: lm.n_nameable]
    best = nameable.topk(min(n, len(nameable))).indices
    rows = zip(best.tolist(), clean[best].tolist(), edited[best].tolist(), strict=True)
    kl = None if found.kl is None or not request.edits else float(found.kl[0, -1])
    return NextTokenProbabilities(list(rows), kl)
