"""How strongly it fires, and how often."""

from app import bars, components
from app.panels import try_text
from app.panels.panel_context import PanelContext
from app.wording import count, measure, plural
from feature_store.activation_histogram import share_below

TITLE = "Activations"


def draw(subject: PanelContext) -> None:
    """The histogram, with log or linear counts."""
    facts = subject.facts
    positive, negative = make_histogram_side(facts.histogram_start, facts.histogram), None
    if facts.positive and facts.negative:
        positive = make_histogram_side(facts.positive.histogram_start, facts.positive.histogram)
        negative = make_histogram_side(facts.negative.histogram_start, facts.negative.histogram)
    tested = try_text.measure_tested_text(subject)
    tokens = plural(subject.place.file.record.tokens, "token")
    components.histogram(
        key="feature_histogram",
        data={
            **bars.histogram(positive, negative, tested),
            "note": f"{count(facts.n_active)} of {tokens}",
            "standing": "" if tested is None else describe_tested_activation(subject, tested),
        },
    )


def describe_tested_activation(subject: PanelContext, tested: float) -> str:
    """Where the text under test stands among the feature's activations of that sign."""
    if not tested:
        return "Text under test: silent."
    facts = subject.facts
    found = (facts.positive if tested > 0 else facts.negative) or facts
    if found.histogram_start is None or not found.histogram:
        return f"Text under test: {measure(tested)}; it never fired with this sign in the harvest."
    below = share_below(found.histogram, found.histogram_start, tested)
    percent = f"{min(100 * below, 99.9):.1f}" if below < 1 else "100"
    kind = f"{plural(found.n_active, 'token')} where it fires"
    if facts.positive and facts.negative:
        kind += " with this sign"
    return f"Text under test: {measure(tested)}, higher than {percent} % of the {kind}."


def make_histogram_side(
    start: int | None, counts: list[int] | None
) -> tuple[int, list[int]] | None:
    """A histogram as the chart takes it; none for a side that never fired."""
    return None if start is None or not counts else (start, counts)
