"""Model speeds: how many tokens per second this machine reads and writes with a store's models,
measured for time estimates.

`speeds.json`, next to the catalog, holds the speeds of each machine and model. They are specific to
the machine, like `places.json`: in a copy of the store on another machine they are measured again.
"""

import hashlib
import os
import platform
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from feature_store.atomic_file import write_file
from feature_store.errors import InputError
from feature_store.strict_json import dump_json, parse_json


class ModelSpeed(BaseModel):
    """Speed of one model on one machine in tokens per second, measured while nothing else ran on
    the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    read: float = Field(gt=0, allow_inf_nan=False)
    """Tokens of given texts that pass through the complete model per second."""
    write: float | None = Field(gt=0, allow_inf_nan=False)
    """New tokens that the model generates per second, all texts of a batch together; None if it
    cannot generate."""
    batch: int = Field(ge=1)
    """Number of texts generated at once when the speed `write` was measured."""


SPEED_TABLE: TypeAdapter[dict[str, ModelSpeed]] = TypeAdapter(dict[str, ModelSpeed])


def identify_machine() -> str:
    """Return a short identifier of this machine for its model speeds: a hash that reveals
    nothing about it."""
    text = f"{platform.node()}|{platform.machine()}|{platform.processor()}|{os.cpu_count()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ModelSpeeds:
    """Table of the measured model speeds of a store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, model_hash: str) -> ModelSpeed | None:
        """Return the speed that this machine measured for a model; None if it has not measured it.

        A damaged file counts as empty: speeds are measured again, and nothing else is lost.
        """
        return self._read().get(f"{identify_machine()}/{model_hash}")

    def remember(self, model_hash: str, speed: ModelSpeed) -> None:
        """Save a model's measured speed, replacing an older one. Raises OSError if the file
        cannot be written."""
        with FileLock(self.path.with_suffix(".lock"), timeout=60):
            known = {**self._read(), f"{identify_machine()}/{model_hash}": speed}
            rows = {key: one.model_dump() for key, one in known.items()}
            write_file(self.path, dump_json(rows, indent=1), sync=False)

    def _read(self) -> dict[str, ModelSpeed]:
        try:
            return SPEED_TABLE.validate_python(parse_json(self.path.read_bytes(), str(self.path)))
        except (OSError, InputError, ValidationError):
            return {}
