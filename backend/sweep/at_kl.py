"""The strength at which an edit moves the next-token distribution by so many nats.

Read on texts that do not change with the strength, the model's own continuations without the edit:
so it is a smooth function, and bisection finds where it crosses. The KL of texts that are generated
under the edit is another number, which a sweep gives.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from backend.dictionaries.base import Dictionary
from backend.generation.prompts import Start
from backend.generation.records import Row, Sampling, Summary
from backend.generation.stream import Extras, generate
from backend.generation.turns import turns_of
from backend.interventions.modes import MODES
from backend.interventions.records import Edit
from backend.lm import Lm
from backend.sweep import measures
from backend.sweep.run import Stopped
from feature_store.errors import InputError

STEPS = 15
"""Of bisection."""
TOLERANCE = 0.1
"""Share of the KL asked for."""
DOUBLINGS = 8
"""Beyond the mode's usual range, before it counts as out of reach."""
SHARE = (0.0, 1.0)
"""The usual range of modes whose strength is a share: more than all is not tried."""
Curve = Callable[[float], float]
"""KL by strength."""


@dataclass(frozen=True)
class Found:
    """What was found; `reached` says whether it is within the tolerance."""

    strength: float
    kl: float
    """Mean over the tokens of the texts, nats."""
    wanted: float
    reached: bool
    tried: tuple[tuple[float, float], ...]
    """Every (strength, KL) that was measured, in order."""
    texts: int
    tokens: int

    @property
    def note(self) -> str:
        """One sentence."""
        on = f"(mean over {self.tokens:,} tokens of {self.texts} unedited texts)"
        if self.reached:
            return f"KL {self.kl:.3g} nats/token at strength {self.strength:.4g} {on}."
        nearest = f"{self.kl:.3g} nats/token at strength {self.strength:.4g}"
        return f"KL {self.wanted:g} is not reached: the nearest is {nearest} {on}."


def strength_for_kl(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    edits: Sequence[Edit],
    wanted: float,
    start: Start,
    texts: Sequence[Sequence[int]],
    *,
    swept: int = 0,
    upwards: bool = True,
    stop: threading.Event | None = None,
) -> Found:
    """Bisect the strength of one of the edits, the others held, up or down from its neutral one.

    `texts`: continuations of the prompt, as `unedited` gives. InputError for a KL that is not
    positive. Raises Stopped.
    """
    if not (math.isfinite(wanted) and wanted > 0):
        raise InputError(f"The KL is {wanted}: write a number above 0, in nats per token.")
    texts = [text for text in texts if text]
    if not texts:
        raise InputError("The model ends at once behind this prompt: choose another one.")
    tried: list[tuple[float, float]] = []

    def kl(strength: float) -> float:
        if stop is not None and stop.is_set():
            raise Stopped
        one = (*edits[:swept], replace(edits[swept], strength=strength), *edits[swept + 1 :])
        with turns_of(lm).turn():
            rows = measures.rails(
                lm, dictionaries, [one] * len(texts), start.tokens, texts, start.roles
            )
        n = sum(map(len, texts))
        found = sum(row.kl * len(text) for row, text in zip(rows, texts, strict=True)) / n
        tried.append((strength, found))
        return found

    _search(kl, edits[swept], wanted, upwards)
    best, at = min(tried, key=lambda pair: abs(pair[1] - wanted))
    reached = abs(at - wanted) <= TOLERANCE * wanted
    return Found(best, at, wanted, reached, tuple(tried), len(texts), sum(map(len, texts)))


def _search(kl: Curve, edit: Edit, wanted: float, upwards: bool) -> None:
    """Measure at strengths that close in on the one wanted."""
    mode = MODES[edit.mode]
    low = mode.usual[0] if mode.neutral is None else mode.neutral
    far = mode.usual[1] if upwards else min(mode.usual[0], 2 * low - mode.usual[1])
    if mode.usual == SHARE and not upwards:
        raise InputError(f"{edit.mode} takes strengths from 0 to 1: look upwards.")
    if mode.neutral is None and kl(low) >= wanted:
        return
    doublings = 0 if mode.usual == SHARE else DOUBLINGS
    reach = kl(far)
    while reach < wanted and doublings:
        low, far, doublings = far, far + 2 * (far - low), doublings - 1
        reach = _safe(kl, far)
        if not math.isfinite(reach):
            return
    if reach < wanted:
        return
    for _ in range(STEPS):
        middle = (low + far) / 2
        found = kl(middle)
        if abs(found - wanted) <= TOLERANCE * wanted / 4:
            return
        low, far = (middle, far) if found < wanted else (low, middle)


def _safe(kl: Curve, strength: float) -> float:
    """NaN where the model's numbers are no longer finite."""
    try:
        return kl(strength)
    except InputError:
        return math.nan


def unedited(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    start: Start,
    seeds: Sequence[int],
    sampling: Sampling,
    stop: threading.Event | None = None,
) -> list[list[int]]:
    """The model's own continuations, one for each seed: tokens."""
    rows = [Row(str(seed), (), seed) for seed in seeds]
    records = generate(lm, dictionaries, start, rows, sampling, Extras(guard=False), stop=stop)
    return [record.tokens for record in records if isinstance(record, Summary)]
