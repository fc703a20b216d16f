"""Ways to explain a feature: a file each, and a line in EXPLAINERS."""

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
from autointerp.explainers.records import Explainer

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
"""By name, as commands and stored explanations have it; `pattern`, the default, first."""
