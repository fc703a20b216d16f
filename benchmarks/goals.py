"""A figure, what it should be, and whether it is."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A bound on a measured figure."""

    name: str
    figure: float
    bound: float
    unit: str = ""
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure keeps the bound."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def __str__(self) -> str:
        verdict = "met   " if self.met else "MISSED"
        sign = "≥" if self.at_least else "≤"
        note = f"   ({self.note})" if self.note else ""
        return (
            f"  {verdict} {self.name}: {self.figure:.4g}{self.unit}, "
            f"goal {sign} {self.bound:g}{self.unit}{note}"
        )

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def table(title: str, columns: list[str], rows: list[list[Any]]) -> str:
    """Right-aligned text columns under a title."""
    cells = [columns, *([show(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "  " + "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells
    ]
    return "\n".join(["", title, *lines])


def show(value: Any) -> str:
    """A cell."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
