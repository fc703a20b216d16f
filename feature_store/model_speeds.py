"""How fast this machine runs a store's models, as measured, for estimates before long work.

`speeds.json` beside the catalog holds, for each machine and model, tokens per second. It is the
machine's own affair, like `places.json`: a store that is copied elsewhere is measured anew there.
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
    """Tokens per second of one model on one machine, measured on an otherwise idle model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    read: float = Field(gt=0, allow_inf_nan=False)
    """Tokens of given texts that pass through the whole model in a second."""
    write: float | None = Field(gt=0, allow_inf_nan=False)
    """New tokens in a second, all texts of a batch together; None where the model writes none."""
    batch: int = Field(ge=1)
    """Texts that were written at once when `write` was measured."""


SPEED_TABLE: TypeAdapter[dict[str, ModelSpeed]] = TypeAdapter(dict[str, ModelSpeed])


def identify_machine() -> str:
    """Return a short name of this machine that says nothing about it: a hash."""
    text = f"{platform.node()}|{platform.machine()}|{platform.processor()}|{os.cpu_count()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ModelSpeeds:
    """The table of measured speeds of a store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, model_hash: str) -> ModelSpeed | None:
        """Return what this machine measured of a model; None where it has not measured it.

        A file that is damaged counts as empty: speeds are measured again, nothing else is lost.
        """
        return self._read().get(f"{identify_machine()}/{model_hash}")

    def remember(self, model_hash: str, speed: ModelSpeed) -> None:
        """Keep a measurement in place of an older one. Raises OSError where the disk refuses."""
        with FileLock(self.path.with_suffix(".lock"), timeout=60):
            known = {**self._read(), f"{identify_machine()}/{model_hash}": speed}
            rows = {key: one.model_dump() for key, one in known.items()}
            write_file(self.path, dump_json(rows, indent=1), sync=False)

    def _read(self) -> dict[str, ModelSpeed]:
        try:
            return SPEED_TABLE.validate_python(parse_json(self.path.read_bytes(), str(self.path)))
        except (OSError, InputError, ValidationError):
            return {}
