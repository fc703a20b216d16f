"""One row's text as it grows: whole characters, stop strings cut off, reasons to end."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.generation.records import EndReason, PositionReading, SamplingSettings
from backend.interventions.token_text import TokenTextDecoder


class RowDecoder:
    """Decodes one row. What may turn out to be the beginning of a stop string is held back."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Collection[str]) -> None:
        self._pieces = TokenTextDecoder(tokenizer, prompt)
        self._stops = stops
        self._held = ""
        self.stopped = False
        self.text = ""

    def add(self, token: int) -> str:
        """The text that can be shown now; sets `stopped` at a stop string."""
        return self._take(self._held + self._pieces.add(token))

    def rest(self) -> str:
        """What was held back, when nothing more comes."""
        piece = self._take(self._held + self._pieces.rest())
        held, self._held = ("" if self.stopped else self._held), ""
        self.text += held
        return piece + held

    def _take(self, new: str) -> str:
        found = [at for one in self._stops if (at := new.find(one)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            shown = new[: min(found)]
        else:
            n = self._unsure(new)
            shown, self._held = new[: len(new) - n], new[len(new) - n :]
        self.text += shown
        return shown

    def _unsure(self, new: str) -> int:
        """Length of the longest end of `new` with which a stop string begins."""
        longest = max(map(len, self._stops), default=1) - 1
        lengths = range(min(longest, len(new)), 0, -1)
        return next((n for n in lengths if any(s.startswith(new[-n:]) for s in self._stops)), 0)


@dataclass
class RowState:
    """One row's state: what it said, and what was measured on the way."""

    voice: RowDecoder
    tokens: list[int] = field(default_factory=list)
    reason: EndReason | None = None
    kls: list[float] = field(default_factory=list)
    clean_logprobs: list[float] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)
    last: PositionReading | None = None

    def say(self, token: int, sampling: SamplingSettings, ends: Collection[int], room: int) -> str:
        """Take a token, say what text it gives, and decide whether it is the last.

        `room`: how many tokens the model can still read after this one.
        """
        self.tokens.append(token)
        if token in ends:
            self.reason = "end"
            return self.voice.rest()
        piece = self.voice.add(token)
        if self.voice.stopped:
            self.reason = "stop"
        elif len(self.tokens) >= sampling.max_new:
            self.reason = "length"
        elif room <= 0:
            self.reason = "context"
        return piece if self.reason in (None, "stop") else piece + self.voice.rest()
