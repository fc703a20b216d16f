"""Prices of language models per token, read from prices.toml files that the user can edit."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autointerp.llm.server_settings import LlmServer, read_toml_file, user_settings_folder
from feature_store.errors import InputError

SHIPPED_PRICES = Path(__file__).with_name("prices.toml")
PRICE_FIELDS = ("input", "output")
MODEL_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class TokenPrice:
    """Price of a model in US dollars per million input and output tokens."""

    input: float
    output: float

    def cost_of(self, tokens_in: int, tokens_out: int) -> float:
        """Return the US dollars that a call with these numbers of input and output tokens costs."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


FREE_PRICE = TokenPrice(0.0, 0.0)


def load_prices() -> dict[str, TokenPrice]:
    """Return model → price: the shipped prices.toml, overridden by the user's. Raises InputError
    for an invalid file."""
    found = read_price_file(SHIPPED_PRICES)
    if named := os.environ.get("SAEFARI_PRICES"):
        return found | read_price_file(Path(named).expanduser())
    own = user_settings_folder() / "prices.toml"
    return found | read_price_file(own) if own.exists() else found


def find_price(model: str, server: LlmServer, table: Mapping[str, TokenPrice]) -> TokenPrice | None:
    """Return the price per token of a model on a server; None where it is not known.

    The price is zero on a server that is configured as free, and on this machine as long as no
    price is given for the model.
    """
    if server.free:
        return FREE_PRICE
    known = table.get(model) or table.get(MODEL_DATE.sub("", model))
    return known or (FREE_PRICE if server.loopback else None)


def read_price_file(path: Path) -> dict[str, TokenPrice]:
    """Return the prices of a prices.toml file by model. Raises InputError that names the file and
    the problem."""
    found: dict[str, TokenPrice] = {}
    for model, entry in read_toml_file(path).items():
        if not isinstance(entry, dict) or not all(
            is_amount(entry.get(name)) for name in PRICE_FIELDS
        ):
            raise InputError(
                f'["{model}"] in {path} needs input and output, in dollars for a million tokens.'
            )
        found[model] = TokenPrice(*(float(entry[name]) for name in PRICE_FIELDS))
    return found


def is_amount(value: object) -> bool:
    """Return whether a value is a valid token price: a finite number of at least 0."""
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]
