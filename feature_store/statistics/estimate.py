"""Estimate: a number with its 95 % confidence interval, or the reason why there is none."""

from dataclasses import dataclass

MIN_JUDGEMENTS = 20
"""Smallest number of judgements (of the smaller class, where there are two) that gives a value."""
CONFIDENCE_LEVEL = 0.95
TAIL = (1 - CONFIDENCE_LEVEL) / 2
"""Probability that an interval leaves out on each side."""


@dataclass(frozen=True)
class Estimate:
    """Estimate of a quantity: a number with its 95 % confidence interval and the size of the
    sample."""

    value: float | None
    """The point estimate; None where it is undefined or the sample is too small (see `note`)."""
    low: float | None = None
    """Lower limit; None where no interval can be given."""
    high: float | None = None
    n: int = 0
    """Sample size: judgements, prompts, texts, or features; of the smaller class of two."""
    n_documents: int = 0
    """Number of independent units, where judgements are grouped into documents; else 0."""
    note: str = ""
    """Why there is no value or no interval."""

    @property
    def number(self) -> float:
        """Value of the estimate as a float; raises `ValueError`, with the note, where there is
        none."""
        if self.value is None:
            raise ValueError(self.note or "This estimate has no value.")
        return self.value

    def to_record(self) -> dict[str, float | int | None]:
        """Return the estimate's value, limits and sample size as plain data, as results are
        saved."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def none(cls, n: int, n_documents: int, note: str) -> "Estimate":
        """Return an estimate without a value, whose note gives the reason."""
        return cls(None, None, None, n, n_documents, note)

    @classmethod
    def too_few(cls, n: int, n_documents: int, *, found: int, unit: str) -> "Estimate":
        """Return an estimate without a value, because the sample is below MIN_JUDGEMENTS.

        `found` is the number of `unit` (a plural noun) that was compared with MIN_JUDGEMENTS. It
        can differ from `n`: a correlation over tokens has `n` tokens but needs 20 documents.
        """
        return cls.none(n, n_documents, f"too few {unit}: {found}, and {MIN_JUDGEMENTS} are needed")
