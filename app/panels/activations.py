"""The Activations panel: the histogram of a feature's activations over the harvest."""

from app import bars, components
from app.panels import try_text
from app.panels.panel_context import PanelContext
from app.wording import count, measure, plural
from feature_store.activation_histogram import share_below

TITLE = "Activations"


def draw(panel: PanelContext) -> None:
    """Draw the histogram of activations, with log or linear counts, and mark the text
    under test."""
    facts = panel.facts
    positive, negative = make_histogram_side(facts.histogram_start, facts.histogram), None
    if facts.positive and facts.negative:
        positive = make_histogram_side(facts.positive.histogram_start, facts.positive.histogram)
        negative = make_histogram_side(facts.negative.histogram_start, facts.negative.histogram)
    tested = try_text.measure_tested_text(panel)
    tokens = plural(panel.place.file.record.tokens, "token")
    components.histogram(
        key="feature_histogram",
        data={
            **bars.histogram(positive, negative, tested),
            "note": f"{count(facts.n_active)} of {tokens}",
            "standing": "" if tested is None else describe_tested_activation(panel, tested),
        },
    )


def describe_tested_activation(panel: PanelContext, tested: float) -> str:
    """Return a sentence that ranks the activation on the text under test among the feature's
    activations of the same sign in the harvest."""
    if not tested:
        return "Text under test: the feature is silent."
    facts = panel.facts
    found = (facts.positive if tested > 0 else facts.negative) or facts
    if found.histogram_start is None or not found.histogram:
        return (
            f"Text under test: {measure(tested)}; the feature never fired with this sign in the "
            "harvest."
        )
    below = share_below(found.histogram, found.histogram_start, tested)
    percent = f"{min(100 * below, 99.9):.1f}" if below < 1 else "100"
    kind = f"{plural(found.n_active, 'token')} where it fires"
    if facts.positive and facts.negative:
        kind += " with this sign"
    return f"Text under test: {measure(tested)}, higher than {percent} % of the {kind}."


def make_histogram_side(
    start: int | None, counts: list[int] | None
) -> tuple[int, list[int]] | None:
    """Return the first bin and the counts of one sign, or None where the feature never fired with
    it."""
    return None if start is None or not counts else (start, counts)
