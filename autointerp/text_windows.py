"""Text windows: a window of corpus text with a feature's activations on its tokens, and the error
for a feature with too few of them."""

from dataclasses import dataclass, replace

from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context, Split


class TooFewWindows(InputError):
    """Error for a feature that has too few text windows to be scored; `reason` is `dead`, `few` or
    `dense`."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class TextWindow:
    """Window of a document's text, with a feature's activation on each token."""

    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """Text of each token; joined they are the window's text."""
    activations: tuple[float, ...]
    """Activation on each token, signed, in the dictionary's units; 0.0 where the feature is
    silent."""
    peak: int
    """Index of the token with the largest |activation|; −1 in a silent window."""
    document: int
    split: Split
    kind: str
    """`top`, `decile 1` (weakest) to `decile 10`, `random`, `hard`, or `other side`."""
    weight: float | None = None
    """Number of firing windows of its split that the window represents; None if it is not part of a
    random sample."""
    sequence: int = 0
    start: int = 0
    """Position of the window's first token in its sequence."""
    shared: int = -1
    """For hard negatives: index of a token on which the feature's top windows peak; −1 if there is
    none."""

    @property
    def key(self) -> tuple[int, int]:
        """(sequence, start) of the text window: number of its token sequence and position of its
        first token; unique within a harvest."""
        return (self.sequence, self.start)

    @property
    def text(self) -> str:
        """Text of the window as a person reads it."""
        return "".join(self.tokens)


def make_window(
    file: HarvestFile, context: Context, kind: str, weight: float | None, sign: str = "both"
) -> TextWindow:
    """Return a stored context as a text window; with a `sign`, activations of the other sign count
    as 0."""
    ids = file.sequences.window(context.sequence, context.start, context.length)
    acts, peak, largest = [0.0] * len(ids), -1, 0.0
    for position, value in zip(context.positions, context.activations, strict=True):
        if sign == "both" or (value > 0) == (sign == "positive"):
            acts[position - context.start] = value
            if abs(value) > largest:  # positions increase, so the first of equal peaks is kept
                peak, largest = position - context.start, abs(value)
    return TextWindow(
        tuple(ids.tolist()),
        tuple(file.vocabulary.display(ids)),
        tuple(acts),
        peak,
        context.document,
        context.split,
        kind,
        weight,
        context.sequence,
        context.start,
    )


def cut_window(example: TextWindow, width: int) -> TextWindow:
    """Return the part of a text window of at most `width` tokens around its peak, or around its
    middle if it is silent."""
    n = len(example.tokens)
    if n <= width:
        return example
    middle = example.peak if example.peak >= 0 else n // 2
    low = min(max(0, middle - width // 2), n - width)
    high = low + width
    return replace(
        example,
        token_ids=example.token_ids[low:high],
        tokens=example.tokens[low:high],
        activations=example.activations[low:high],
        start=example.start + low,
        peak=example.peak - low if example.peak >= 0 else -1,
        shared=example.shared - low if low <= example.shared < high else -1,
    )


def split_by_sign(stored: list[Context], sign: str) -> tuple[list[Context], list[Context]]:
    """Return a signed feature's windows (stored contexts) whose peak has the given sign, and those
    in which only the other sign fires; for `both` all of them and none."""
    if sign == "both":
        return stored, []
    up = 1 if sign == "positive" else -1
    mine = [c for c in stored if c.value * up > 0]
    return mine, [c for c in stored if all(a * up < 0 for a in c.activations)]
