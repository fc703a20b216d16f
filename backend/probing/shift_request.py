"""What SHIFT is asked, as plain data: a page, a kept run and a script share it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backend.probing.probe_texts import LabelledText, ProbeTextSets, build_text_sets
from feature_store.errors import InputError, pick_by_name
from feature_store.records import FeatureId

POOLING_CHOICES: dict[str, str] = {"mean": "mean over tokens", "last": "last token"}
"""How the tokens of a text become one vector; BOS and special tokens are left out."""
DEFAULT_MEASURED_FEATURES, DEFAULT_RANDOM_DRAWS = 20, 30
"""Features taken away one by one; random sets of features to compare with."""
MAX_MEASURED_FEATURES, MAX_RANDOM_DRAWS = 200, 200


@dataclass(frozen=True)
class ShiftRequest:
    """A probe, what may be taken from it, and what is."""

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]
    hook: str
    """Where the probe reads."""
    dictionaries: tuple[str, ...]
    """Whose features are ranked; those that write behind the probe's hook cannot matter."""
    pool: str = "mean"
    exact: int = DEFAULT_MEASURED_FEATURES
    features: tuple[FeatureId, ...] = field(default=())
    """Judged irrelevant: these are taken away."""
    draws: int = DEFAULT_RANDOM_DRAWS
    seed: int = 0

    def sets(self) -> ProbeTextSets:
        """The texts, checked; InputError for what cannot be learnt from or judged on."""
        pick_by_name("way to pool", self.pool, POOLING_CHOICES)
        if not self.dictionaries:
            raise InputError("Pick at least one dictionary.")
        if not 0 <= self.exact <= MAX_MEASURED_FEATURES or not 0 <= self.draws <= MAX_RANDOM_DRAWS:
            raise InputError(
                f"At most {MAX_MEASURED_FEATURES} features are taken away singly, and "
                f"{MAX_RANDOM_DRAWS} sets drawn."
            )
        return build_text_sets(self.train, self.test)

    def removing(self, features: tuple[FeatureId, ...], draws: int) -> "ShiftRequest":
        """The same, with other features to take away and so many random sets beside them."""
        return replace(self, features=features, draws=draws)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "train": [list(_text_row(one)) for one in self.train],
            "test": [list(_text_row(one)) for one in self.test],
            "hook": self.hook,
            "dictionaries": list(self.dictionaries),
            "pool": self.pool,
            "exact": self.exact,
            "features": [str(one) for one in self.features],
            "draws": self.draws,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "ShiftRequest":
        """What `to_json` wrote; InputError for anything else."""
        try:
            plain = {name: given[name] for name in ("hook", "pool", "exact", "draws", "seed")}
            return cls(
                train=tuple(LabelledText(*row) for row in given["train"]),
                test=tuple(LabelledText(*row) for row in given["test"]),
                dictionaries=tuple(given["dictionaries"]),
                features=tuple(FeatureId.parse(one) for one in given["features"]),
                **plain,
            )
        except (KeyError, TypeError, ValueError) as bad:
            raise InputError(f"This is no request of SHIFT: {bad!r}.") from bad


def _text_row(one: LabelledText) -> tuple[str, str, str]:
    return one.text, one.label, one.group
