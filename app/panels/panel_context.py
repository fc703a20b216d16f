"""What every panel is given: a feature, where it is, and what was read of it once."""

from dataclasses import dataclass, field

from app.annotations import Said
from app.session import Place
from feature_store.records import Context, FeatureFacts, FeatureId


@dataclass(frozen=True)
class PanelContext:
    """The feature of a feature page."""

    place: Place
    id: FeatureId
    facts: FeatureFacts
    contexts: list[Context]
    said: Said = field(default_factory=Said)

    @classmethod
    def read(cls, place: Place, feature: FeatureId, said: Said | None = None) -> "PanelContext":
        """Facts and contexts from the harvest; `said` is what the catalog has."""
        file = place.file
        return cls(place, feature, file.facts(feature), file.contexts(feature), said or Said())
