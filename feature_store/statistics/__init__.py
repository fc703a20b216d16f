"""Statistics of scores and effects: estimates with confidence intervals whose coverage was measured
(docs/scores.md)."""

from feature_store.statistics.answer_rates import (
    ClassAnswers,
    answer_rate,
    balanced_accuracy,
    f1_score,
    independent_difference,
    precision_at_density,
)
from feature_store.statistics.auc_intervals import roc_auc
from feature_store.statistics.difference_verdict import DifferenceVerdict, judge_difference
from feature_store.statistics.estimate import MIN_JUDGEMENTS, Estimate
from feature_store.statistics.feature_means import mean_over_features, mean_paired_difference
from feature_store.statistics.token_correlations import (
    explained_variance,
    mean_by_document,
    pearson_correlation,
    spearman_correlation,
)

__all__ = [
    "MIN_JUDGEMENTS",
    "ClassAnswers",
    "Estimate",
    "DifferenceVerdict",
    "roc_auc",
    "balanced_accuracy",
    "pearson_correlation",
    "independent_difference",
    "explained_variance",
    "f1_score",
    "judge_difference",
    "mean_by_document",
    "mean_over_features",
    "mean_paired_difference",
    "precision_at_density",
    "answer_rate",
    "spearman_correlation",
]
