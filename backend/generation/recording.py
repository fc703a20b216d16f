"""The records of a generation folded into one value: a kept run's `result`. Without torch.

A row's lists run over two scales. *Read* positions are the prompt's tokens, then the row's own:
`shift`, `watched` and `clean` have a value for each (the last is missing where nothing was read
behind the last token). *Drawn* tokens are the row's own alone: `tokens`, `pieces`, `logprob`, `kl`,
`clean_logprob` and `top` have an entry for each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from backend.generation.records import Prompt, Read, Record, Summary, Token
from feature_store.records import FeatureId


@dataclass
class Spoken:
    """One row so far."""

    reads: list[Read] = field(default_factory=list)
    said: list[Token] = field(default_factory=list)
    end: Summary | None = None

    @property
    def text(self) -> str:
        """What can be shown of it."""
        return self.end.text if self.end else "".join(one.piece for one in self.said)

    def to_json(self) -> dict[str, Any]:
        """Plain data; see the head of this module."""
        said, end = self.said, self.end
        return {
            "text": self.text,
            "tokens": [one.id for one in said],
            "pieces": [one.piece for one in said],
            "logprob": [one.logprob for one in said],
            "kl": _all([one.kl for one in said]),
            "clean_logprob": _all([one.clean_logprob for one in said]),
            "top": [[list(entry) for entry in one.top] for one in said],
            "shift": [read.shift for read in self.reads],
            "watched": _series([read.watched for read in self.reads]),
            "clean": _series([read.clean for read in self.reads]),
            "reason": end.reason if end else None,
            "mean_kl": end.mean_kl if end else None,
            "perplexity": end.perplexity if end else None,
            "repetition": end.repetition if end else None,
            "seconds": end.seconds if end else None,
            "notes": list(end.notes) if end else [],
        }


@dataclass
class Recording:
    """Everything that a generation said, record by record."""

    prompt: Prompt | None = None
    rows: dict[str, Spoken] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Recording":
        """A whole generation."""
        made = cls()
        for record in records:
            made.add(record)
        return made

    def add(self, record: Record) -> None:
        """Take the next record."""
        if isinstance(record, Prompt):
            self.prompt = record
            self.rows = {name: Spoken(list(reads)) for name, reads in record.read.items()}
            return
        row = self.rows[record.row]
        if isinstance(record, Token):
            if record.index:  # the first is drawn from the prompt's last position
                row.reads.append(record.read)
            row.said.append(record)
            return
        row.end = record
        if record.last is not None:
            row.reads.append(record.last)

    @property
    def finished(self) -> bool:
        """Whether every row has ended."""
        return bool(self.rows) and all(row.end for row in self.rows.values())

    def to_json(self) -> dict[str, Any]:
        """`{prompt: {tokens, pieces, notes}, rows: {name: …}}`."""
        prompt = self.prompt
        return {
            "prompt": {
                "tokens": list(prompt.tokens) if prompt else [],
                "pieces": list(prompt.pieces) if prompt else [],
                "notes": list(prompt.notes) if prompt else [],
            },
            "rows": {name: row.to_json() for name, row in self.rows.items()},
        }


def _all(values: list[float | None]) -> list[float | None] | None:
    """None for a row of which nothing was measured."""
    return None if all(value is None for value in values) else values


def _series(reads: list[Any]) -> dict[str, list[float]] | None:
    """Feature → its value at each position; None where nothing was read."""
    if not reads or any(read is None for read in reads):
        return None
    names: list[FeatureId] = list(reads[0])
    return {str(name): [read[name] for read in reads] for name in names}
