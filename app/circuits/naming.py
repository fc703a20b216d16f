"""What features are called in a graph: a person's label, else what they promote.

Explanations are sentences: too long for a node.
"""

from collections.abc import Iterable

from app import annotations
from app.session import Place
from app.tokens import visible
from feature_store.circuit_graphs import GraphNode
from feature_store.feature_summaries import read_promoted_tokens

TOKENS = 3


def names(place: Place, nodes: Iterable[GraphNode]) -> dict[str, str]:
    """Id → name; features of dictionaries that this harvest lacks have none."""
    features = {
        n.id: (n.dictionary, n.feature)
        for n in nodes
        if n.kind == "feature" and n.feature is not None and n.dictionary in place.file.dictionaries
    }
    labels = annotations.read().annotations.label_index
    said = {one: labels.label_of(feature) for one, feature in features.items()}
    rest = [feature for one, feature in features.items() if not said[one]]
    found = read_promoted_tokens(place.file, list(dict.fromkeys(rest)), TOKENS) if rest else {}
    text = place.file.vocabulary.text
    tokens = {
        one: " ".join(visible(text(t)).strip() for t in found.get(feature, []))
        for one, feature in features.items()
    }
    return {one: said[one] or tokens[one] for one in features}
