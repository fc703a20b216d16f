"""One window of text with a feature's activations in it, and why a feature has too few."""

from dataclasses import dataclass, replace

from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context, Split


class TooFewWindows(InputError):
    """A feature that cannot be scored; `reason` is `dead`, `few` (windows) or `dense`."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class TextWindow:
    """One window of a document."""

    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """The text of each token; joined they are the window's text."""
    activations: tuple[float, ...]
    """Aligned with the tokens, in the dictionary's units, signed; 0.0 where silent."""
    peak: int
    """Index of the largest |activation|; -1 when silent."""
    document: int
    split: Split
    kind: str
    """`top`, `decile 1` (weakest) to `decile 10`, `random`, `hard`, or `other side`."""
    weight: float | None = None
    """Firing windows of its split that it stands for; None when it is no random sample."""
    sequence: int = 0
    start: int = 0
    """Position in the sequence of the first token."""
    shared: int = -1
    """Hard only: index of a token at which top windows peak; -1 when it has none."""

    @property
    def key(self) -> tuple[int, int]:
        """(sequence, start): names the window within a harvest."""
        return (self.sequence, self.start)

    @property
    def text(self) -> str:
        """The window as a person reads it."""
        return "".join(self.tokens)


def make_window(
    file: HarvestFile, context: Context, kind: str, weight: float | None, sign: str = "both"
) -> TextWindow:
    """A stored context as an example; with a `sign`, the other sign's activations count as 0."""
    ids = file.sequences.window(context.sequence, context.start, context.length)
    acts, peak, largest = [0.0] * len(ids), -1, 0.0
    for position, value in zip(context.positions, context.activations, strict=True):
        if sign == "both" or (value > 0) == (sign == "positive"):
            acts[position - context.start] = value
            if abs(value) > largest:  # positions rise, so of equals the first one stays
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
    """Return the part of a window of at most `width` tokens around its peak, or its middle."""
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
    """A signed feature's contexts of one side, and those in which only the other side fires."""
    if sign == "both":
        return stored, []
    up = 1 if sign == "positive" else -1
    mine = [c for c in stored if c.value * up > 0]
    return mine, [c for c in stored if all(a * up < 0 for a in c.activations)]
