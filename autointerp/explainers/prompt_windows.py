"""Windows in the prompt of an explainer: fewer windows, then shorter ones, for servers with a small
context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autointerp.text_windows import TextWindow, cut_window

WINDOW_SHARES = (1.0, 0.75, 0.5, 0.25)
"""Shares of an explainer's windows that are tried one after the other until the prompt fits."""
MIN_WINDOWS_SHOWN = 5
"""Minimum number of windows in a prompt."""
WINDOW_WIDTHS = (16, 8)
"""Widths in tokens to which the fewest windows are cut, tried one after the other."""


@dataclass(frozen=True)
class ShownWindows:
    """One version of the windows in an explainer's prompt: all that should be shown, or fewer or
    shorter ones for a server with a small context."""

    windows: tuple[TextWindow, ...]
    """The windows as they are shown in the prompt."""
    places: tuple[int, ...]
    """Indices of the shown windows among all windows."""
    width: int | None = None
    """Width in tokens to which the windows were cut; None if they are whole."""


def shrink_windows(shown: Sequence[TextWindow], *, cut: bool = True) -> Iterator[ShownWindows]:
    """Yield versions of a prompt's windows: ever fewer ones, spread evenly over `shown`, then ever
    shorter ones.

    Without `cut` the windows stay whole, for explainers whose prompt lists each of their tokens.
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
