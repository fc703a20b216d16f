"""The context of the panels: the feature that the page shows, with its facts, contexts and
annotations."""

from dataclasses import dataclass, field

from app.annotations import Said
from app.session import Place
from feature_store.records import Context, FeatureFacts, FeatureId


@dataclass(frozen=True)
class PanelContext:
    """The feature that the panels of a feature page draw, and what was read of it once."""

    place: Place
    id: FeatureId
    facts: FeatureFacts
    contexts: list[Context]
    catalog: Said = field(default_factory=Said)

    @classmethod
    def read(cls, place: Place, feature: FeatureId, catalog: Said | None = None) -> "PanelContext":
        """Read the feature's facts and contexts from the harvest; `catalog` holds the
        annotations."""
        file = place.file
        return cls(place, feature, file.facts(feature), file.contexts(feature), catalog or Said())
