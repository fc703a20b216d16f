"""Token marks of windows, for fuzzing and intruder questions: the tokens on which the feature
fires, or wrong ones.

Wrong marks copy the mask of a random firing window, so that neither their number nor their position
in the window distinguishes them from true ones.
"""

from collections.abc import Sequence

import numpy as np

from autointerp.text_windows import TextWindow

MARK_THRESHOLD = 0.3
"""Share of the window's largest |activation| from which a token is marked."""
TokenMarks = frozenset[int]


def true_marks(example: TextWindow) -> TokenMarks:
    """Return the marks of the tokens on which the feature fires strongly; at least the peak of a
    firing window."""
    peak = max((abs(a) for a in example.activations), default=0.0)
    if peak <= 0:
        return frozenset()
    return frozenset(
        i for i, a in enumerate(example.activations) if abs(a) >= MARK_THRESHOLD * peak
    )


def wrong_marks(
    example: TextWindow, firing: Sequence[TextWindow], generator: np.random.Generator
) -> TokenMarks | None:
    """Return wrong marks for a window: as many as one of the `firing` windows has, at the same
    positions, on silent tokens.

    A mark that would be on a firing token or beyond the window's end goes to a random silent token.
    A hard window's shared token is always marked. None where there are too few silent tokens.
    """
    mask = true_marks(firing[int(generator.integers(len(firing)))])
    silent = {i for i, a in enumerate(example.activations) if not a}
    if len(silent) < len(mask):
        return None
    kept = sorted(mask & silent)
    if example.shared in silent and example.shared not in kept:
        # the shared token replaces a mark, so that the number of marks stays the same
        kept = [example.shared, *kept[1:]] if len(kept) == len(mask) else [example.shared, *kept]
    left = sorted(silent - set(kept))
    more = generator.permutation(left)[: len(mask) - len(kept)].tolist()
    return frozenset((*kept, *more))
