"""What SHIFT is asked, as plain data: a page, a kept run and a script share it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backend.shift.texts import Example, Sets, sets
from feature_store.errors import InputError, pick
from feature_store.records import FeatureId

POOLS: dict[str, str] = {"mean": "mean over tokens", "last": "last token"}
"""How the tokens of a text become one vector; BOS and special tokens are left out."""
EXACT, DRAWS = 20, 30
"""Features taken away one by one; random sets of features to compare with."""
MOST_EXACT, MOST_DRAWS = 200, 200


@dataclass(frozen=True)
class Asked:
    """A probe, what may be taken from it, and what is."""

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    hook: str
    """Where the probe reads."""
    dictionaries: tuple[str, ...]
    """Whose features are ranked; those that write behind the probe's hook cannot matter."""
    pool: str = "mean"
    exact: int = EXACT
    features: tuple[FeatureId, ...] = field(default=())
    """Judged irrelevant: these are taken away."""
    draws: int = DRAWS
    seed: int = 0

    def sets(self) -> Sets:
        """The texts, checked; InputError for what cannot be learnt from or judged on."""
        pick("way to pool", self.pool, POOLS)
        if not self.dictionaries:
            raise InputError("Pick at least one dictionary.")
        if not 0 <= self.exact <= MOST_EXACT or not 0 <= self.draws <= MOST_DRAWS:
            raise InputError(
                f"At most {MOST_EXACT} features are taken away singly, and {MOST_DRAWS} sets drawn."
            )
        return sets(self.train, self.test)

    def removing(self, features: tuple[FeatureId, ...], draws: int) -> "Asked":
        """The same, with other features to take away and so many random sets beside them."""
        return replace(self, features=features, draws=draws)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "train": [list(_row(one)) for one in self.train],
            "test": [list(_row(one)) for one in self.test],
            "hook": self.hook,
            "dictionaries": list(self.dictionaries),
            "pool": self.pool,
            "exact": self.exact,
            "features": [str(one) for one in self.features],
            "draws": self.draws,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Asked":
        """What `to_json` wrote; InputError for anything else."""
        try:
            plain = {name: given[name] for name in ("hook", "pool", "exact", "draws", "seed")}
            return cls(
                train=tuple(Example(*row) for row in given["train"]),
                test=tuple(Example(*row) for row in given["test"]),
                dictionaries=tuple(given["dictionaries"]),
                features=tuple(FeatureId.parse(one) for one in given["features"]),
                **plain,
            )
        except (KeyError, TypeError, ValueError) as bad:
            raise InputError(f"This is no request of SHIFT: {bad!r}.") from bad


def _row(one: Example) -> tuple[str, str, str]:
    return one.text, one.label, one.group
