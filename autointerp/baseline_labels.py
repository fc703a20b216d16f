"""Baseline labels, with which every score must be compared: a label borrowed from another feature,
a constant label, and one that names the feature's most frequent token."""

import hashlib
import math
from collections.abc import Mapping

from autointerp.contexts import FeatureSample
from autointerp.patterns.pattern_sentence import quote_text
from autointerp.patterns.token_shapes import strip_token

BASELINE_KINDS = ("borrowed", "constant", "token")
CONSTANT_LABEL = "Anything at all."
"""The baseline label that is the same for every feature."""
DENSITY_NEIGHBOURS = 10
"""Number of features next in density among which the lender of a borrowed label is drawn."""


def choose_lenders(density: Mapping[int, float], seed: int = 0) -> dict[int, int]:
    """Choose for each feature a lender: another feature of similar density (share of tokens on
    which it fires), whose label is scored on this feature as the borrowed baseline label.

    Returns feature → lender. The lender is drawn by a hash among the DENSITY_NEIGHBOURS next by log
    density, so that it is the same on every machine. Empty for a single feature.
    """
    order = sorted(density, key=lambda i: (math.log(max(density[i], 1e-12)), i))
    found: dict[int, int] = {}
    for place, feature in enumerate(order):
        begin = min(
            max(place - DENSITY_NEIGHBOURS // 2, 0), max(len(order) - DENSITY_NEIGHBOURS - 1, 0)
        )
        near = [
            other for other in order[begin : begin + DENSITY_NEIGHBOURS + 1] if other != feature
        ]
        if near:
            found[feature] = min(near, key=lambda other: lender_hash(feature, other, seed))
    return found


def lender_hash(feature: int, other: int, seed: int) -> bytes:
    """Return the hash [8 bytes] of a feature, another feature and the seed; the other feature with
    the smallest hash lends its label as the borrowed baseline label."""
    return hashlib.blake2b(f"{seed}/{feature}/{other}".encode(), digest_size=8).digest()


def make_token_label(sampled: FeatureSample) -> str | None:
    """Return the baseline label that names the token on which the feature fires most often."""
    if sampled.top_token is None:
        return None
    return f"fires on {quote_text(strip_token(sampled.top_token))}"
