"""Counts of tokens that a run puts through the model, from which the run's duration is estimated.

Counts follow from the request alone. They leave out what is small compared with the model's passes
(dictionaries, sampling, statistics), so an estimate is right to within a factor of about two.
"""

from dataclasses import dataclass

from feature_store.model_speeds import ModelSpeed

GRADIENT_PASSES = 3.0
"""Cost of a forward with its backward pass, in forward passes."""


@dataclass(frozen=True)
class RunTokenCounts:
    """Token counts of a run: tokens read by whole forward passes, and tokens written one by one."""

    read: float
    written: float = 0.0

    def estimate_seconds(self, speed: ModelSpeed) -> float | None:
        """Estimate a run's duration in seconds from its token counts and the model's speed; None
        when the model cannot write."""
        if self.written and speed.write is None:
            return None
        return self.read / speed.read + (self.written / speed.write if speed.write else 0.0)


def count_sweep_tokens(
    texts: int, prompt_tokens: int, new_tokens: int, n_features: int
) -> RunTokenCounts:
    """Count the tokens of a dose-response sweep: every text is written, then read again together
    with its clean twin, and once more where features are read in it."""
    again = 2 * (prompt_tokens + new_tokens) + (new_tokens if n_features else 0)
    return RunTokenCounts(read=texts * (prompt_tokens + again), written=texts * new_tokens)


def count_ablation_tokens(prompt_tokens: int, n_parts: int, n_controls: int) -> RunTokenCounts:
    """Count the tokens of an ablation over prompts: the clean and the ablated pass, one for each
    part alone where there are several, and one for each matched control.

    `prompt_tokens` is the number of tokens of all prompts together.
    """
    singles = n_parts if n_parts > 1 else 0
    return RunTokenCounts(read=prompt_tokens * (2 + singles + n_controls))


def count_ranking_tokens(
    prompt_tokens: int, n_dictionaries: int, gradient_steps: int, n_exact: int
) -> RunTokenCounts:
    """Count the tokens of a ranking of features by effect: for each dictionary one reading pass and
    the gradient steps of its estimate, then an exact ablation of each of the strongest features."""
    estimated = n_dictionaries * (1 + GRADIENT_PASSES * gradient_steps)
    return RunTokenCounts(read=prompt_tokens * (1 + estimated + n_exact))


def count_cluster_tokens(
    n_tokens: int, context: int, n_dictionaries: int, n_clusters: int, judged: int = 24
) -> RunTokenCounts:
    """Count the tokens of a prediction-cluster run.

    Sequences of `context` tokens are searched for well-predicted next tokens, effects of all
    features are computed at each by gradients, and the features of each cluster are ablated on up
    to `judged` held-out tokens.
    """
    half = context / 2  # a next token stands on average in the middle of its sequence
    searched = n_tokens * context
    effects = n_tokens * half * (GRADIENT_PASSES + n_dictionaries)
    return RunTokenCounts(read=searched + effects + n_clusters * judged * half * 2)


def count_shift_tokens(
    training_tokens: int, test_tokens: int, n_dictionaries: int, n_exact: int
) -> RunTokenCounts:
    """Count the tokens of SHIFT's ranking: training and test texts are read once for the probe.

    The training texts are read again with a backward pass, once for each dictionary, and once for
    each feature that is ablated by itself.
    """
    again = training_tokens * (GRADIENT_PASSES + n_dictionaries + n_exact)
    return RunTokenCounts(read=training_tokens + test_tokens + again)


FAITHFULNESS_PASSES = 450.0
"""Forward passes of each prompt that a circuit's faithfulness curves and random node sets take,
approximately."""
ATTRIBUTION_PASSES = 85.0
"""Forward passes of each prompt that the integrated gradients of one dictionary's nodes take,
approximately."""


def count_circuit_tokens(prompt_tokens: int, n_dictionaries: int, method: str) -> RunTokenCounts:
    """Count the tokens of a circuit run, as measured on small models.

    Its faithfulness by ablation takes most of them; only sparse feature circuits attribute each
    dictionary by itself.
    """
    if method == "head-codes":
        return RunTokenCounts(read=2.0 * prompt_tokens)
    own = ATTRIBUTION_PASSES * n_dictionaries if method == "sparse-features" else 0.0
    return RunTokenCounts(read=prompt_tokens * (FAITHFULNESS_PASSES + own))
