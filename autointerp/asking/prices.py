"""What tokens cost: a table in a file that the user can edit."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autointerp.asking.servers import Server, read_toml, settings
from feature_store.errors import InputError

SHIPPED = Path(__file__).with_name("prices.toml")
DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars for so many tokens."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


FREE = Price(0.0, 0.0)


def prices() -> dict[str, Price]:
    """Model → price: the shipped table under the user's. InputError for a file that is wrong."""
    found = read(SHIPPED)
    if named := os.environ.get("SAEFARI_PRICES"):
        return found | read(Path(named).expanduser())
    own = settings() / "prices.toml"
    return found | read(own) if own.exists() else found


def price(model: str, server: Server, table: Mapping[str, Price]) -> Price | None:
    """What a model costs on a server; None where that is not known.

    Nothing on a server that is configured as free, or that runs on this machine while no price is
    given for the model.
    """
    if server.free:
        return FREE
    known = table.get(model) or table.get(DATED.sub("", model))
    return known or (FREE if server.loopback else None)


def read(path: Path) -> dict[str, Price]:
    """A file's prices, or an InputError that names the file and what is wrong."""
    found: dict[str, Price] = {}
    for model, entry in read_toml(path).items():
        numbers = [entry.get(name) for name in ("input", "output")] if type(entry) is dict else []
        if not numbers or not all(type(n) in (int, float) and n >= 0 for n in numbers):
            raise InputError(
                f'["{model}"] in {path} needs input and output, in dollars for a million tokens.'
            )
        found[model] = Price(*map(float, numbers))  # type: ignore[arg-type] - checked above
    return found
