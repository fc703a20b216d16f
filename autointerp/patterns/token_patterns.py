"""Records of pattern labels: token patterns, pattern rules, and the adverbs for how often a pattern
fires."""

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
"""Adverb of a pattern → share of the pattern's occurrences on which the feature fires."""


@dataclass(frozen=True)
class TokenPattern:
    """Pattern of a token on which a feature fires: a token, the beginning of a word, or a shape,
    perhaps after a given text."""

    kind: PatternKind
    """`token`: the text itself; `beginning`: longer tokens that begin with it; `shape`: a key of
    TOKEN_SHAPES."""
    target: str
    after: str | None = None
    """Text that must stand directly before the token, of one or several tokens; None for any
    text."""
    often: str = ""
    """Adverb of frequency, a key of ADVERB_RATES."""

    @property
    def rate(self) -> float:
        """Share of the token pattern's occurrences on which the feature fires, according to its
        adverb."""
        return ADVERB_RATES[self.often]


@dataclass(frozen=True)
class PatternRule:
    """The content of a pattern label: token patterns, and the tokens that the feature promotes."""

    patterns: tuple[TokenPattern, ...] = ()
    """Patterns in the order of the sentence. Where several match a token, the highest rate
    counts."""
    promoted: tuple[str, ...] = ()
    """Tokens that the feature makes likelier."""

    def as_json(self) -> dict[str, Any]:
        """Return the pattern rule as plain data, for the provenance of an explanation."""
        return {"patterns": [asdict(p) for p in self.patterns], "promoted": list(self.promoted)}
