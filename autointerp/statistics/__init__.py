"""Estimates with intervals that hold: docs/scores.md says what each is and how well it covers."""

from autointerp.statistics.estimate import ENOUGH, Estimate
from autointerp.statistics.jobs import over_features, paired
from autointerp.statistics.ranking import auc
from autointerp.statistics.rates import (
    Answers,
    balanced_accuracy,
    difference,
    f1,
    precision,
    rate,
)
from autointerp.statistics.series import correlation, explained, mean, spearman
from autointerp.statistics.verdict import Verdict, judge_difference

__all__ = [
    "ENOUGH",
    "Answers",
    "Estimate",
    "Verdict",
    "auc",
    "balanced_accuracy",
    "correlation",
    "difference",
    "explained",
    "f1",
    "judge_difference",
    "mean",
    "over_features",
    "paired",
    "precision",
    "rate",
    "spearman",
]
