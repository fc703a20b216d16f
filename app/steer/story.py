"""What a run has told so far, as plain data: for the page, for the catalog, for a file.

Lists run over a row's tokens, or over its positions where a comment says so. They only ever grow,
so that a page can be sent what is new (`tail`) and put it behind what it has.
"""

import math
from collections.abc import Callable
from typing import Any

from app.wording import ABSENT, measure, plural
from backend.generation.records import (
    GenerationRecord,
    PositionReading,
    PromptRecord,
    SummaryRecord,
    TokenRecord,
)

DIGITS = 5
REASONS = {
    "length": "",
    "end": "the model ended it",
    "stop": "ended at a stop string",
    "context": "the model's limit",
    "stopped": "stopped",
    "time": "out of time",
}
"""Why a text ended, in words."""


class Story:
    """Takes a generation's records in turn. `data` is plain; written by one thread."""

    def __init__(self, rows: list[str]) -> None:
        self.seconds = 0.0
        """That it took; not of the data, which are the same each time."""
        self.data: dict[str, Any] = {
            "prompt": {"tokens": [], "pieces": [], "counted": [], "template": []},
            "notes": [],
            "rows": {name: _row() for name in rows},
        }

    def take(self, record: GenerationRecord, counts: Callable[[list[int]], list[bool]]) -> None:
        """Fold in one record; `counts` says of tokens whether they are neither BOS nor special."""
        if isinstance(record, PromptRecord):
            template = list(record.template) or [False] * len(record.tokens)
            words = zip(counts(record.tokens), template, strict=True)
            counted = [ordinary and not by_template for ordinary, by_template in words]
            new = {
                "tokens": record.tokens,
                "pieces": record.pieces,
                "counted": counted,
                "template": template,
            }
            for name, values in new.items():
                self.data["prompt"][name] += values
            self.data["notes"] += record.notes
            for name, reads in record.read.items():
                for read in reads:
                    _measured(self.data["rows"][name], read)
        elif isinstance(record, TokenRecord):
            row = self.data["rows"][record.row]
            if record.index:  # the first was drawn from the prompt's last token, which was read
                _measured(row, record.read)
            row["kl"].append(_plain(record.kl))
            row["logprob"].append(_plain(record.logprob))
            row["clean_logprob"].append(_plain(record.clean_logprob))
            row["pieces"].append(record.piece)
            row["counted"] += counts([record.id])
            row["tokens"].append(record.id)
        else:
            row = self.data["rows"][record.row]
            if record.last is not None:
                _measured(row, record.last)
            row["end"] = _ended(record)
            self.seconds = max(self.seconds, record.seconds)

    @property
    def n(self) -> int:
        """Tokens of the longest row."""
        return max(len(row["tokens"]) for row in self.data["rows"].values())


def _row() -> dict[str, Any]:
    return {
        "tokens": [],
        "pieces": [],
        "counted": [],
        "logprob": [],
        "clean_logprob": [],
        "kl": [],
        "shift": [],
        "watched": {},
        "clean": {},  # over positions, the prompt's first
        "end": None,
    }


def _measured(row: dict[str, Any], read: PositionReading) -> None:
    row["shift"].append(_plain(read.shift))
    for name, values in (("watched", read.watched), ("clean", read.clean or {})):
        for feature, value in values.items():
            row[name].setdefault(str(feature), []).append(_plain(value))


def _ended(record: SummaryRecord) -> dict[str, Any]:
    return {
        "reason": record.reason,
        "text": record.text,
        "mean_kl": _plain(record.mean_kl),
        "perplexity": _plain(record.perplexity),
        "repetition": _plain(record.repetition),
        "notes": list(record.notes),
    }


def _plain(value: float | None) -> float | None:
    """With few digits; None for what JSON has no number for."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def tail(now: Any, seen: dict[str, Any]) -> Any:
    """What `now` has that was not there at the last call with this `seen`: lists lose their known
    beginning, everything else is whole."""
    if isinstance(now, dict):
        return {name: tail(now[name], seen.setdefault(name, {})) for name in list(now)}
    if isinstance(now, list):
        known = seen.get("", 0)
        seen[""] = len(now)
        return now[known : seen[""]]
    return now


def rail(row: dict[str, Any]) -> str:
    """The guard rails of a row in a line: KL, relative size of the edit, perplexity."""
    parts = []
    kls = [value for value in row["kl"] if value is not None]
    if kls:
        parts.append(f"KL {measure(sum(kls) / len(kls), 2)} nats/token")
    moved = [value for value in row["shift"] if value]
    if moved:
        on = f"on {len(moved)} of {plural(len(row['shift']), 'token')}"
        parts.append(f"‖Δh‖/‖h‖ {measure(sum(moved) / len(moved), 2)} {on}")
    parts.append(f"perplexity {measure(perplexity(row), 3)} under the clean model")
    return " · ".join(parts) + f" · {plural(len(row['tokens']), 'token')}"


def perplexity(row: dict[str, Any]) -> float | None:
    """Of a row's text under the clean model, given the prompt."""
    found = [value for value in row["clean_logprob"] if value is not None]
    return math.exp(-sum(found) / len(found)) if found else None


def warnings(row: dict[str, Any]) -> list[str]:
    """What a finished row warns of."""
    return row["end"]["notes"] if row["end"] else []


def ending(row: dict[str, Any]) -> str:
    """Why it ended, in words; empty while it goes on, and where it just has its length."""
    return REASONS.get(row["end"]["reason"], ABSENT) if row["end"] else ""
