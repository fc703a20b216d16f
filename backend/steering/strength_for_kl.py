"""Find the strength at which an edit changes the next-token distribution by a given KL divergence.

The KL is measured on continuations generated without the edit, which do not change with the
strength: so it is a smooth function of strength, and bisection finds where it crosses. A sweep
measures the KL of texts generated under the edit, which is a different number.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from backend.dictionaries.base import Dictionary
from backend.generation.fair_lock import fair_lock_of
from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import GenerationRow, SamplingSettings, SummaryRecord
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit
from backend.model.language_model import LanguageModel
from backend.steering import text_measures
from backend.steering.strength_sweep import SweepStopped
from feature_store.errors import InputError

BISECTION_STEPS = 15
"""Maximum number of bisection steps in the search for a strength."""
KL_TOLERANCE = 0.1
"""Relative tolerance of the KL that is asked for."""
MAX_DOUBLINGS = 8
"""Number of times the strength is doubled beyond the mode's usual range before the KL counts as out
of reach.
"""
SHARE_RANGE = (0.0, 1.0)
"""Usual range of modes whose strength is a share, which is never exceeded."""
KlByStrength = Callable[[float], float]
"""Function that returns the KL divergence at a strength."""


@dataclass(frozen=True)
class StrengthForKl:
    """Steering strength found for a wanted KL divergence from the unedited model; `reached` says
    whether its KL is within the tolerance.
    """

    strength: float
    kl: float
    """Mean KL(clean ‖ edited) over the tokens of the texts, in nats."""
    wanted: float
    reached: bool
    tried: tuple[tuple[float, float], ...]
    """Every (strength, KL) that was measured, in order."""
    texts: int
    tokens: int

    @property
    def note(self) -> str:
        """One sentence that reports the strength and the KL found."""
        on = f"(mean over {self.tokens:,} tokens of {self.texts} unedited texts)"
        if self.reached:
            return f"KL {self.kl:.3g} nats/token at strength {self.strength:.4g} {on}."
        nearest = f"{self.kl:.3g} nats/token at strength {self.strength:.4g}"
        return f"KL {self.wanted:g} is not reached: the nearest is {nearest} {on}."


def find_strength_for_kl(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    edits: Sequence[Edit],
    wanted: float,
    start: PromptTokens,
    texts: Sequence[Sequence[int]],
    *,
    swept: int = 0,
    upwards: bool = True,
    stop: threading.Event | None = None,
) -> StrengthForKl:
    """Find by bisection the strength of one edit, with the others fixed, at which the KL divergence
    is `wanted` nats per token.

    `texts` are continuations of the prompt, as `generate_unedited` returns. The search goes up or
    down from the strength that has no effect. Raises InputError for a KL that is not positive, and
    SweepStopped.
    """
    if not (math.isfinite(wanted) and wanted > 0):
        raise InputError(f"The KL is {wanted}: write a number above 0, in nats per token.")
    texts = [text for text in texts if text]
    if not texts:
        raise InputError("The model ends the text right after this prompt: choose another prompt.")
    tried: list[tuple[float, float]] = []

    def kl(strength: float) -> float:
        if stop is not None and stop.is_set():
            raise SweepStopped
        one = (*edits[:swept], replace(edits[swept], strength=strength), *edits[swept + 1 :])
        with fair_lock_of(lm).turn():
            rows = text_measures.measure_guards(
                lm, dictionaries, [one] * len(texts), start.tokens, texts, start.roles
            )
        n = sum(map(len, texts))
        found = sum(row.kl * len(text) for row, text in zip(rows, texts, strict=True)) / n
        tried.append((strength, found))
        return found

    _bisect_strength(kl, edits[swept], wanted, upwards)
    best, at = min(tried, key=lambda pair: abs(pair[1] - wanted))
    reached = abs(at - wanted) <= KL_TOLERANCE * wanted
    return StrengthForKl(best, at, wanted, reached, tuple(tried), len(texts), sum(map(len, texts)))


def _bisect_strength(kl: KlByStrength, edit: Edit, wanted: float, upwards: bool) -> None:
    """Measure the KL of an edit at strengths that converge to the one whose KL is `wanted`: further
    and further from the neutral strength, then by bisection. `kl` records what it measures.
    """
    mode = MODES[edit.mode]
    low = mode.usual[0] if mode.neutral is None else mode.neutral
    far = mode.usual[1] if upwards else min(mode.usual[0], 2 * low - mode.usual[1])
    if mode.usual == SHARE_RANGE and not upwards:
        raise InputError(f"{edit.mode} takes strengths from 0 to 1: search upwards.")
    if mode.neutral is None and kl(low) >= wanted:
        return
    # Double the distance until the KL is reached, then bisect.
    doublings = 0 if mode.usual == SHARE_RANGE else MAX_DOUBLINGS
    reach = kl(far)
    while reach < wanted and doublings:
        low, far, doublings = far, far + 2 * (far - low), doublings - 1
        reach = _kl_or_nan(kl, far)
        if not math.isfinite(reach):
            return
    if reach < wanted:
        return
    for _ in range(BISECTION_STEPS):
        middle = (low + far) / 2
        found = kl(middle)
        if abs(found - wanted) <= KL_TOLERANCE * wanted / 4:
            return
        low, far = (middle, far) if found < wanted else (low, middle)


def _kl_or_nan(kl: KlByStrength, strength: float) -> float:
    """Return the KL at a strength, or NaN if the model's logits are not finite there."""
    try:
        return kl(strength)
    except InputError:
        return math.nan


def generate_unedited(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    start: PromptTokens,
    seeds: Sequence[int],
    sampling: SamplingSettings,
    stop: threading.Event | None = None,
) -> list[list[int]]:
    """Generate the texts on which the KL of a strength is measured: one continuation of the prompt
    without edits for each seed, as token ids.
    """
    rows = [GenerationRow(str(seed), (), seed) for seed in seeds]
    records = stream_tokens(
        lm, dictionaries, start, rows, sampling, StreamOptions(guard=False), stop=stop
    )
    return [record.tokens for record in records if isinstance(record, SummaryRecord)]
