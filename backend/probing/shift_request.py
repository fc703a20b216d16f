"""The SHIFT request: labelled texts, the probe's hook point, dictionaries and the marked features,
as plain data shared by page, experiment and script.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backend.probing.probe_texts import LabelledText, ProbeTextSets, build_text_sets
from feature_store.errors import InputError, pick_by_name
from feature_store.records import FeatureId

POOLING_CHOICES: dict[str, str] = {"mean": "mean over tokens", "last": "last token"}
"""How the activations of a text's tokens are pooled into one vector; BOS and special tokens are
left out.
"""
DEFAULT_MEASURED_FEATURES, DEFAULT_RANDOM_DRAWS = 20, 30
"""Default number of features ablated one by one, and of random sets of features to compare with."""
MAX_MEASURED_FEATURES, MAX_RANDOM_DRAWS = 200, 200
"""Maximum number of features ablated one by one, and of random sets of features."""


@dataclass(frozen=True)
class ShiftRequest:
    """A request for SHIFT: train a probe on labelled texts, rank its features, and ablate the
    marked ones.
    """

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]
    hook: str
    """Hook point whose activations the probe reads."""
    dictionaries: tuple[str, ...]
    """Names of the dictionaries whose features are ranked; those that write after the probe's hook
    point have no effect on it.
    """
    pool: str = "mean"
    exact: int = DEFAULT_MEASURED_FEATURES
    """Number of features ranked first whose effect is measured by ablation."""
    features: tuple[FeatureId, ...] = field(default=())
    """Features marked as irrelevant to the task, which are ablated."""
    draws: int = DEFAULT_RANDOM_DRAWS
    """Number of random sets of matched features to compare with."""
    seed: int = 0

    def text_sets(self) -> ProbeTextSets:
        """Return the checked training and test texts of the SHIFT request.

        Raises InputError for texts that a probe cannot be trained or evaluated on, and for invalid
        settings.
        """
        pick_by_name("pooling", self.pool, POOLING_CHOICES)
        if not self.dictionaries:
            raise InputError("Pick at least one dictionary.")
        if not 0 <= self.exact <= MAX_MEASURED_FEATURES or not 0 <= self.draws <= MAX_RANDOM_DRAWS:
            raise InputError(
                f"At most {MAX_MEASURED_FEATURES} features can be ablated singly, and at most "
                f"{MAX_RANDOM_DRAWS} random sets drawn."
            )
        return build_text_sets(self.train, self.test)

    def with_features(self, features: tuple[FeatureId, ...], draws: int) -> "ShiftRequest":
        """Return a copy of the SHIFT request with other features to ablate and another number of
        random sets.
        """
        return replace(self, features=features, draws=draws)

    def to_json(self) -> dict[str, Any]:
        """Return the SHIFT request as plain data for JSON."""
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
        """Build a SHIFT request from the plain data that `to_json` returns. Raises InputError for
        anything else.
        """
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
            reason = f"the field {bad} is missing" if isinstance(bad, KeyError) else str(bad)
            raise InputError(f"This is not a SHIFT request: {reason}.") from bad


def _text_row(one: LabelledText) -> tuple[str, str, str]:
    return one.text, one.label, one.group
