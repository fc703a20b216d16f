"""What a trace begins with in place of a next token: a feature, or an attention score."""

import re
from dataclasses import dataclass

from feature_store.errors import InputError
from feature_store.records import FeatureId

SCORE = re.compile(r"head:(\d+)\.(\d+)@(\d+),(\d+)")
AT = re.compile(r"(.+/\d+)@(\d+)")


@dataclass(frozen=True)
class FeatureAt:
    """A feature at a position; without one, the last where it is active."""

    feature: FeatureId
    position: int | None = None


@dataclass(frozen=True)
class ScoreAt:
    """How much one position of a head looks at another, before the softmax."""

    layer: int
    head: int
    query: int
    key: int


def parse(text: str) -> FeatureAt | ScoreAt:
    """`resid-2/17`, `resid-2/17@4` or `head:2.1@14,4`. InputError for anything else."""
    if text.startswith("head:"):
        if not (found := SCORE.fullmatch(text)):
            raise InputError(
                f"{text!r} is no attention score. Write head:LAYER.HEAD@QUERY,KEY with positions "
                "counted from 0, for example head:2.1@14,4."
            )
        return ScoreAt(*map(int, found.groups()))
    if found := AT.fullmatch(text):
        return FeatureAt(FeatureId.parse(found.group(1)), int(found.group(2)))
    return FeatureAt(FeatureId.parse(text))
