"""Fewer windows, and shorter ones, for servers with a small context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autointerp.text_windows import TextWindow, cut_window

WINDOW_SHARES = (1.0, 0.75, 0.5, 0.25)
"""Of the windows that an explainer would show, one after the other until the question fits."""
MIN_WINDOWS_SHOWN = 5
"""Windows below which their number does not go."""
WINDOW_WIDTHS = (16, 8)
"""Tokens to which the fewest windows are cut, one after the other."""


@dataclass(frozen=True)
class ShownWindows:
    """The windows of a question."""

    windows: tuple[TextWindow, ...]
    """As they are shown."""
    places: tuple[int, ...]
    """Which of all windows these are."""
    width: int | None = None
    """Tokens to which they were cut; None where they are whole."""


def shrink_windows(shown: Sequence[TextWindow], *, cut: bool = True) -> Iterator[ShownWindows]:
    """Yield ever fewer windows, spread evenly over `shown`, then ever shorter ones.

    Without `cut` they stay whole, for explainers that say something of each of their tokens.
    """
    n, last = len(shown), 0
    few: Sequence[TextWindow] = shown
    places: tuple[int, ...] = ()
    for share in WINDOW_SHARES:
        k = min(n, max(MIN_WINDOWS_SHOWN, round(n * share)))
        if k != last:
            places = tuple(i * n // k for i in range(k))
            few = [shown[i] for i in places]
            yield ShownWindows(tuple(few), places)
        last = k
    longest = max((len(e.tokens) for e in few), default=0)
    for width in WINDOW_WIDTHS if cut else ():
        if width < longest:
            short = tuple(cut_window(e, width) for e in few)
            yield ShownWindows(short, places, width)
