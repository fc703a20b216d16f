"""The text of one row during generation: decoding into whole characters, stop strings, and the
reason why the text ends.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.generation.records import EndReason, PositionReading, SamplingSettings
from backend.interventions.token_text import TokenTextDecoder


class RowDecoder:
    """Decodes the generated tokens of one row into text; text that may be the beginning of a stop
    string is held back.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Collection[str]) -> None:
        self._pieces = TokenTextDecoder(tokenizer, prompt)
        self._stops = stops
        self._held = ""
        self.stopped = False
        self.text = ""

    def add(self, token: int) -> str:
        """Decode one more token and return the text that can be shown now; sets `stopped` at a stop
        string.
        """
        return self._split_at_stop(self._held + self._pieces.add(token))

    def flush(self) -> str:
        """Return the row's text that was held back, for when no more tokens come."""
        piece = self._split_at_stop(self._held + self._pieces.flush())
        held, self._held = ("" if self.stopped else self._held), ""
        self.text += held
        return piece + held

    def _split_at_stop(self, new: str) -> str:
        found = [at for one in self._stops if (at := new.find(one)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            shown = new[: min(found)]
        else:
            n = self._stop_prefix_length(new)
            shown, self._held = new[: len(new) - n], new[len(new) - n :]
        self.text += shown
        return shown

    def _stop_prefix_length(self, new: str) -> int:
        """Return the length of the longest end of a row's text that is the beginning of a stop
        string.
        """
        longest = max(map(len, self._stops), default=1) - 1
        lengths = range(min(longest, len(new)), 0, -1)
        return next((n for n in lengths if any(s.startswith(new[-n:]) for s in self._stops)), 0)


@dataclass
class RowState:
    """State of one row, a text being generated: its tokens, its decoded text, why it ended, and the
    measurements so far.
    """

    decoder: RowDecoder
    tokens: list[int] = field(default_factory=list)
    reason: EndReason | None = None
    kls: list[float] = field(default_factory=list)
    clean_logprobs: list[float] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)
    last: PositionReading | None = None

    def append_token(
        self, token: int, sampling: SamplingSettings, ends: Collection[int], room: int
    ) -> str:
        """Append a generated token to the row, return the text that it adds, and set the end reason
        if it is the last.

        `room` is the number of tokens that the model's context can take after this one.
        """
        self.tokens.append(token)
        if token in ends:
            self.reason = "end"
            return self.decoder.flush()
        piece = self.decoder.add(token)
        if self.decoder.stopped:
            self.reason = "stop"
        elif len(self.tokens) >= sampling.max_new:
            self.reason = "length"
        elif room <= 0:
            self.reason = "context"
        return piece if self.reason in (None, "stop") else piece + self.decoder.flush()
