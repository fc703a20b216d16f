"""Model parts that can be ablated (feature, dictionary, error term, attention head, attention
layer, MLP layer), how they are written as text, and the kinds of ablation.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

from feature_store.errors import InputError, suggest_near_miss
from feature_store.records import FeatureId

PartKind = Literal["feature", "dictionary", "error", "head", "mlp", "attention"]
AblationKind = Literal["zero", "mean", "resample", "pair"]
ABLATION_KINDS = get_args(AblationKind)
MAX_PARTS = 64
"""Maximum number of model parts in one ablation."""
PART_FORMS = (
    "DICTIONARY/INDEX, dictionary:NAME, error:NAME, head:LAYER.HEAD, mlp:LAYER, attention:LAYER"
)
"""The written forms of a model part."""


@dataclass(frozen=True, order=True)
class ModelPart:
    """One part of the model that can be ablated: a feature, a whole dictionary, its error term, an
    attention head, or a layer's MLP or attention. Its text has one of PART_FORMS.
    """

    kind: PartKind
    dictionary: str = ""
    index: int = -1
    """Index of the feature or of the attention head."""
    layer: int = -1

    def __str__(self) -> str:
        if self.kind == "feature":
            return f"{self.dictionary}/{self.index}"
        if self.kind in ("dictionary", "error"):
            return f"{self.kind}:{self.dictionary}"
        return f"{self.kind}:{self.layer}" + (f".{self.index}" if self.kind == "head" else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a model part, such as `mlp:3` or `DICTIONARY/INDEX`.

        Raises InputError for any text that is not one of PART_FORMS.
        """
        text = text.strip()
        kind, colon, rest = text.partition(":")
        if colon and kind in ("dictionary", "error") and rest:
            return cls(kind, dictionary=rest)  # type: ignore[arg-type]
        if found := re.fullmatch(r"head:(\d+)\.(\d+)", text):
            return cls("head", layer=int(found[1]), index=int(found[2]))
        if found := re.fullmatch(r"(mlp|attention):(\d+)", text):
            return cls(found[1], layer=int(found[2]))  # type: ignore[arg-type]
        try:
            feature = FeatureId.parse(text)
        except InputError:
            raise InputError(
                f"{text!r} is not a part of a model. Write one of: {PART_FORMS}."
            ) from None
        return cls("feature", dictionary=feature.dictionary, index=feature.index)

    @property
    def feature(self) -> FeatureId | None:
        """The feature's id if the model part is a feature; None otherwise."""
        return FeatureId(self.dictionary, self.index) if self.kind == "feature" else None


def check_ablation_kind(how: str) -> AblationKind:
    """Return the kind of ablation, which says what replaces a model part (zero, mean, resample or
    pair).

    Raises InputError for an unknown kind.
    """
    if how not in ABLATION_KINDS:
        raise InputError(
            f"{how!r} is not a kind of ablation.{suggest_near_miss(how, list(ABLATION_KINDS))} "
            f"There are: {', '.join(ABLATION_KINDS)}."
        )
    return cast(AblationKind, how)


def check_model_parts(parts: Iterable[ModelPart]) -> list[ModelPart]:
    """Return the model parts to ablate as a list.

    Raises InputError if there are none or too many, if one is named twice, or if one contains
    another.
    """
    found = list(parts)
    if not found:
        raise InputError(f"Name at least one part to ablate: {PART_FORMS}.")
    if len(found) > MAX_PARTS:
        raise InputError(
            f"{len(found)} parts are too many: at most {MAX_PARTS} can be ablated together."
        )
    if len(set(found)) < len(found):
        twice = next(part for part in found if found.count(part) > 1)
        raise InputError(f"{twice} is named twice. Name each part once.")
    whole = {part.dictionary for part in found if part.kind == "dictionary"}
    layers = {part.layer for part in found if part.kind == "attention"}
    for part in found:
        if part.kind == "feature" and part.dictionary in whole:
            raise InputError(f"{part} is part of dictionary:{part.dictionary}. Name one of them.")
        if part.kind == "head" and part.layer in layers:
            raise InputError(f"{part} is part of attention:{part.layer}. Name one of them.")
    return found
