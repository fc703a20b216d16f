"""Explainers: ways to write an explanation of a feature, one per file, each with an entry in the
table EXPLAINERS."""

from autointerp.explainers import (
    attention,
    best_of_k,
    contrastive,
    max_activating,
    nearest_text,
    pattern,
    strata,
    token_activation,
    with_logits,
)
from autointerp.explainers.explainer_interface import Explainer

MODULES = (
    pattern,
    max_activating,
    strata,
    token_activation,
    with_logits,
    contrastive,
    attention,
    nearest_text,
    best_of_k,
)
EXPLAINERS: dict[str, Explainer] = {module.NAME: module.EXPLAINER for module in MODULES}
"""Name → explainer, as commands and stored explanations use it; `pattern`, the default, is
first."""
