"""What a harvest does, and the id that follows from it."""

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any

from feature_store.errors import InputError
from feature_store.strict_json import dump_json


@dataclass(frozen=True)
class HarvestPlan:
    """The numbers of a harvest. Every default is stated here and nowhere else."""

    tokens: int = 1_000_000
    """Counted tokens, BOS and special tokens left out; fewer if the corpus ends before."""
    context_size: int = 256
    """Tokens of a sequence at most, BOS included; the model's own limit if that is lower."""
    forward_batch: int = 2048
    """Tokens of one forward pass at most, padding included."""
    top: int = 20
    """Strongest contexts kept for each feature and sign, half of them per split."""
    ranged: int = 40
    """Contexts sampled over the whole range, likewise."""
    silent: int = 256
    """Random windows kept with all their activations, half of them per split."""
    window: int = 32
    """Width of a window in tokens."""
    seed: int = 0
    pack: bool = False
    """Fill each sequence with several documents of one split."""

    def __post_init__(self) -> None:
        if self.tokens <= 0:
            raise InputError(f"--tokens must be 1 or more, not {self.tokens}.")
        if self.context_size < 8:
            raise InputError(f"--context-size must be 8 or more, not {self.context_size}.")
        if self.forward_batch < 1:
            raise InputError(f"--forward-batch must be 1 or more, not {self.forward_batch}.")
        for name in ("top", "ranged", "silent"):
            if (value := getattr(self, name)) < 2 or value % 2:
                raise InputError(
                    f"{name} must be even and 2 or more, not {value}: half go to each split."
                )


def harvest_id(name: str, config: dict[str, Any]) -> str:
    """A slug and the hash of the whole configuration: `stories3m-3f9a2c81d0`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "model"
    text = dump_json(config, sort_keys=True, compact=True, ascii_only=True)
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def plan_config(plan: HarvestPlan) -> dict[str, Any]:
    """The plan as plain data, for the configuration's hash."""
    return asdict(plan)
