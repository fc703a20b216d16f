"""Which tokens of a window are marked: those on which the feature fires, or others.

Wrong marks copy the mask of a firing window drawn at random, so that neither their number nor where
they stand in the window tells them from true ones.
"""

from collections.abc import Sequence

import numpy as np

from autointerp.text_windows import TextWindow

MARK_THRESHOLD = 0.3
"""Share of the window's largest |activation| from which a token is marked."""
TokenMarks = frozenset[int]


def true_marks(example: TextWindow) -> TokenMarks:
    """The tokens on which the feature fires strongly; at least the peak of a firing window."""
    peak = max((abs(a) for a in example.activations), default=0.0)
    if peak <= 0:
        return frozenset()
    return frozenset(
        i for i, a in enumerate(example.activations) if abs(a) >= MARK_THRESHOLD * peak
    )


def wrong_marks(
    example: TextWindow, firing: Sequence[TextWindow], dice: np.random.Generator
) -> TokenMarks | None:
    """As many marks as on one of `firing`, where they stand there, on tokens that do not fire.

    A mark that would stand on a firing token or beyond the window's end goes to a random silent
    one. A hard window's shared token is always marked. None where silent tokens do not suffice.
    """
    mask = true_marks(firing[int(dice.integers(len(firing)))])
    silent = {i for i, a in enumerate(example.activations) if not a}
    if len(silent) < len(mask):
        return None
    kept = sorted(mask & silent)
    if example.shared in silent and example.shared not in kept:
        kept = [example.shared, *kept[1:]] if len(kept) == len(mask) else [example.shared, *kept]
    left = sorted(silent - set(kept))
    more = dice.permutation(left)[: len(mask) - len(kept)].tolist()
    return frozenset((*kept, *more))
