"""Measures of generated texts: KL, likelihood and shift of a continuation, feature activations in a
text, and matches of a pattern.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import read_activations
from backend.interventions.edit_masks import SECONDS, compile_pattern
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.named_activations import NamedFeatures
from backend.interventions.records import Edit
from backend.model.counted_positions import pad_right, uncounted_token_ids
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId


@dataclass(frozen=True)
class GuardMeasures:
    """Side effects of an edit on one generated text, averaged over its tokens (KL to the clean
    model, likelihood, change of the stream); see `sweep_results.SWEEP_MEASURES`.
    """

    kl: float
    nll: float
    shift: float


@torch.inference_mode()
def measure_guards(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    rows: Sequence[tuple[Edit, ...]],
    prompt: Sequence[int],
    texts: Sequence[Sequence[int]],
    roles: Sequence[str | None] = (),
) -> list[GuardMeasures]:
    """Measure the guard rails of generated texts: read each continuation with its edits and in the
    clean model, in one forward pass, and return KL, likelihood and shift.

    Every continuation must have at least one token. What is measured for a token belongs to the
    position from which it was sampled.
    """
    plan = compile_edits(lm, dictionaries, rows, guard=True)
    sequences = [[*prompt, *text] for text in texts]
    found = compute_edited_logits(plan, sequences, n_prompt=len(prompt), roles=roles)
    assert found.clean is not None
    assert found.kl is not None
    first = len(prompt) - 1
    logprobs = found.clean[:, first:].float().log_softmax(-1)
    moved = [one[:, first:] for one in found.shift.values()]
    shift = torch.stack(moved).amax(0) if moved else torch.zeros_like(found.kl[:, first:])
    given = []
    for row, text in enumerate(texts):
        n = len(text)
        drawn = torch.tensor(text, device=logprobs.device)
        given.append(
            GuardMeasures(
                kl=float(found.kl[row, first : first + n].mean()),
                nll=-float(logprobs[row, :n].gather(1, drawn[:, None]).mean()),
                shift=float(shift[row, :n].mean()),
            )
        )
    return given


@torch.inference_mode()
def read_text_activations(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    features: Sequence[FeatureId],
    texts: Sequence[Sequence[int]],
    bos: int | None,
) -> list[Float[Tensor, "token feature"]]:
    """Return the activations of features in generated texts [tokens, features] each, at counted
    tokens, with the clean model reading each text alone after a BOS token, if there is one.
    """
    front = [] if bos is None else [bos]
    tokens, real = pad_right([[*front, *text] for text in texts])
    out = uncounted_token_ids(lm.bos, lm.special_ids, {})
    counted = real & ~torch.isin(tokens, torch.tensor(sorted(out)))
    columns = []
    for feature in features:
        one = dictionaries[feature.dictionary]
        x = read_activations(lm, one, tokens, one.processing)
        ids = torch.tensor([feature.index], device=x.device)
        columns.append(NamedFeatures(one, ids).activations(x))
    values = torch.cat(columns, -1).float().cpu()
    return [row[kept] for row, kept in zip(values, counted, strict=True)]


def pattern_matches(pattern: str, text: str) -> bool:
    """Return whether a text matches a regular expression. Raises InputError if the match takes too
    long.
    """
    try:
        return compile_pattern(pattern).search(text, timeout=SECONDS) is not None
    except TimeoutError:
        raise InputError(
            f"The pattern {pattern!r} takes longer than {SECONDS} s on a text: write a "
            "simpler pattern."
        ) from None
