"""What a job is given of a feature, made of words by a rule that says on which tokens it fires."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.text_windows import TextWindow
from feature_store.records import FeatureFacts, FeatureId, Split

Fires = Callable[[Sequence[str], int], float]
"""Tokens of a window and an index → the activation there."""
LENGTH = 12


def facts(**changes: Any) -> FeatureFacts:
    """A feature of which only the density and the maximum are known."""
    known: dict[str, Any] = {field.name: None for field in fields(FeatureFacts)}
    known |= {
        "dictionary": "d",
        "feature": 3,
        "n_active": 1000,
        "density": 0.02,
        "window_density": 0.3,
        "max_act": 10.0,
    }
    return FeatureFacts(**(known | changes))


def example(
    tokens: Sequence[str],
    activations: Sequence[float],
    number: int = 0,
    kind: str = "top",
    split: Split = "explain",
) -> TextWindow:
    """A window, of a document of its own."""
    acts = tuple(float(a) for a in activations)
    peak = max(range(len(acts)), key=lambda i: abs(acts[i]))
    return TextWindow(
        tuple(range(len(tokens))),
        tuple(tokens),
        acts,
        peak if acts[peak] else -1,
        number,
        split,
        kind,
        None,
        sequence=number,
        start=0,
    )


def planted(fires: Fires, words: Sequence[str], n: int = 40, seed: int = 0) -> FeatureSample:
    """Windows of random words in which a feature does what a rule says."""
    dice = np.random.default_rng(seed)
    firing: list[TextWindow] = []
    silent: list[TextWindow] = []
    number = 0
    while (len(firing) < 2 * n or len(silent) < 3 * n) and number < 40 * n:
        tokens = tuple(words[i] for i in dice.integers(len(words), size=LENGTH))
        acts = [float(fires(tokens, i)) for i in range(LENGTH)]
        split: Split = "explain" if number % 2 else "score"
        (firing if any(acts) else silent).append(
            example(tokens, acts, number, "top" if any(acts) else "random", split)
        )
        number += 1
    seen = [e for e in firing if e.split == "explain"]
    quiet = [e for e in silent if e.split == "explain"]
    return FeatureSample(
        FeatureId("d", 3),
        facts(),
        ("when", "if", "so", "then"),
        ("sea",),
        tuple(seen[: n // 2]),
        tuple(e for e in firing if e.split == "score"),
        tuple(e for e in silent if e.split == "score"),
        (),
        explain_more=tuple(seen[n // 2 :]),
        explain_random=tuple(quiet),
        top_token=" dog",
    )
