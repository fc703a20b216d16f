"""The probe: a logistic regression on pooled activations, stored as a weight vector and a bias."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

INVERSE_PENALTY = 1.0
"""Inverse strength of the L2 penalty of the logistic regression, on coordinates scaled to variance
1.
"""
MAX_ITERATIONS = 2_000
"""Maximum number of iterations when the logistic regression is fitted."""


@dataclass(frozen=True, eq=False)
class LogisticProbe:
    """A fitted logistic probe, which gives the log-odds of the second label in nats."""

    weights: Float[np.ndarray, "width"]
    bias: float

    def logit(self, x: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n"]:
        """Return the probe's log-odds for each row of x; positive where the second label is more
        likely.
        """
        return x @ self.weights + self.bias

    def is_correct(
        self, x: Float[np.ndarray, "n width"], signs: Int[np.ndarray, "n"]
    ) -> np.ndarray:
        """Return, for each text, whether the probe classifies it correctly: bool [n]."""
        return (self.logit(x) > 0) == (signs > 0)


def fit_logistic_probe(
    x: Float[np.ndarray, "n width"], signs: Int[np.ndarray, "n"]
) -> LogisticProbe:
    """Fit a logistic probe to labels −1 and +1, both of which must occur; deterministic."""
    from sklearn.linear_model import LogisticRegression

    centre, scale = x.mean(0), x.std(0)
    scale[scale < 1e-12] = 1.0
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS).fit(
        (x - centre) / scale, signs
    )
    # Undo the scaling, so that the probe applies to unscaled activations.
    weights = model.coef_[0] / scale
    return LogisticProbe(weights, float(model.intercept_[0] - centre @ weights))
