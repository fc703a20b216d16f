"""The harvest plan: all numbers that decide what a harvest does, with their defaults, and the
harvest id that follows from the whole configuration."""

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any

from feature_store.errors import InputError
from feature_store.strict_json import dump_json


@dataclass(frozen=True)
class HarvestPlan:
    """Numbers of a harvest: tokens, context size, window width, contexts per feature, seed. Every
    default of `saefari harvest` is defined here and nowhere else."""

    tokens: int = 1_000_000
    """Counted tokens to harvest, without BOS and special tokens; fewer where the corpus is
    shorter."""
    context_size: int = 256
    """Maximum number of tokens of a sequence, BOS included; the model's own limit where that is
    lower."""
    forward_batch: int = 2048
    """Maximum number of tokens of one forward pass, padding included."""
    top: int = 20
    """Number of strongest contexts kept for each feature and sign, half of them per split."""
    ranged: int = 40
    """Number of contexts sampled over the whole range of activations for each feature and sign,
    half of them per split."""
    silent: int = 256
    """Number of random windows kept with all their activations, half of them per split."""
    window: int = 32
    """Width of a window in tokens."""
    seed: int = 0
    pack: bool = False
    """Whether each sequence is filled with several documents of one split."""

    def __post_init__(self) -> None:
        """Refuse numbers that no harvest can use, with an InputError that names the option."""
        if self.tokens <= 0:
            raise InputError(f"--tokens must be 1 or more, not {self.tokens}.")
        if self.context_size < 8:
            raise InputError(f"--context-size must be 8 or more, not {self.context_size}.")
        if self.forward_batch < 1:
            raise InputError(f"--forward-batch must be 1 or more, not {self.forward_batch}.")
        for name in ("top", "ranged", "silent"):
            if (value := getattr(self, name)) < 2 or value % 2:
                raise InputError(
                    f"{name} must be even and 2 or more, not {value}: half of them "
                    "go to each split."
                )


def harvest_id(name: str, config: dict[str, Any]) -> str:
    """Return a harvest's id, a slug of the model's name and a hash of the whole configuration, such
    as `stories3m-3f9a2c81d0`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "model"
    text = dump_json(config, sort_keys=True, compact=True, ascii_only=True)
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def plan_config(plan: HarvestPlan) -> dict[str, Any]:
    """Return the harvest plan as plain data, for the hash of the configuration."""
    return asdict(plan)
