"""What a pattern label says, as data, and the words for how often."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

PatternKind = Literal["token", "beginning", "shape"]
ADVERB_RATES: dict[str, float] = {
    "": 0.9,
    "usually": 0.7,
    "often": 0.5,
    "sometimes": 0.3,
    "rarely": 0.15,
}
"""The adverb of a pattern, and the share of its occurrences on which the feature fires."""


@dataclass(frozen=True)
class TokenPattern:
    """A kind of token on which a feature fires."""

    kind: PatternKind
    """`token`: the text itself; `beginning`: longer tokens that begin so; `shape`: of SHAPES."""
    target: str
    after: str | None = None
    """Text that has to stand directly before, one token or several; None: whatever stands there."""
    often: str = ""
    """A key of RATES."""

    @property
    def rate(self) -> float:
        """Share of the occurrences on which the feature fires, as the adverb says it."""
        return ADVERB_RATES[self.often]


@dataclass(frozen=True)
class PatternRule:
    """All that a pattern label says."""

    patterns: tuple[TokenPattern, ...] = ()
    """In the order of the sentence. Where several match a token, the highest rate counts."""
    promoted: tuple[str, ...] = ()
    """Tokens that the feature makes likelier."""

    def as_json(self) -> dict[str, Any]:
        """Fit for JSON, for the provenance."""
        return {"patterns": [asdict(p) for p in self.patterns], "promoted": list(self.promoted)}
