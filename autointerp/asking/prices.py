"""What tokens cost: a table in a file that the user can edit."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autointerp.asking.servers import Server, read_toml, settings
from feature_store.errors import InputError

SHIPPED = Path(__file__).with_name("prices.toml")
FIELDS = ("input", "output")
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
        if not isinstance(entry, dict) or not all(paid(entry.get(name)) for name in FIELDS):
            raise InputError(
                f'["{model}"] in {path} needs input and output, in dollars for a million tokens.'
            )
        found[model] = Price(*(float(entry[name]) for name in FIELDS))
    return found


def paid(value: object) -> bool:
    """Whether something is an amount of money."""
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]
