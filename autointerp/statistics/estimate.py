"""An estimate with its interval, or the reason why there is none."""

from dataclasses import dataclass

MIN_JUDGEMENTS = 20
"""Judgements of a class below which there is no value."""
CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and what it rests on."""

    value: float | None
    """None where it is not defined or rests on too little; `note` says why."""
    low: float | None
    high: float | None
    n: int
    """Judgements, or features for a job's mean; of the smaller class where there are two."""
    n_documents: int
    """Documents, or whatever was drawn at random; of the smaller class where there are two."""
    note: str = ""

    @classmethod
    def none(cls, n: int, n_documents: int, note: str) -> "Estimate":
        """No value, and why."""
        return cls(None, None, None, n, n_documents, note)

    @classmethod
    def too_few(cls, n: int, n_documents: int, *, found: int, unit: str) -> "Estimate":
        """Return an estimate without a value: only `found` of `unit` (a plural), not ENOUGH.

        `found` is what was counted against ENOUGH, which need not be `n`: a correlation over
        tokens has `n` tokens and needs ENOUGH documents.
        """
        return cls.none(n, n_documents, f"too few {unit}: {found}, and {MIN_JUDGEMENTS} are needed")
