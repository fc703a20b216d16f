"""What every panel is given: a feature, where it is, and what was read of it once."""

from dataclasses import dataclass

from app.session import Place
from feature_store.records import Context, Feature, FeatureId


@dataclass(frozen=True)
class Subject:
    """The feature of a feature page."""

    place: Place
    id: FeatureId
    facts: Feature
    contexts: list[Context]

    @classmethod
    def read(cls, place: Place, feature: FeatureId) -> "Subject":
        """Facts and contexts from the store."""
        return cls(place, feature, place.file.facts(feature), place.file.contexts(feature))
