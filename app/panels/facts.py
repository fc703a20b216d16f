"""The Facts panel: every number that the harvest holds of a feature."""

from app import components
from app.glossary import define_term
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import ABSENT, count, measure, plural, share

TITLE = "Facts"


def draw(panel: PanelContext) -> None:
    """Draw the feature's facts as names and values, with their definitions as tooltips."""
    found = [
        {"name": name, "value": value, "hint": hint} for name, value, hint in list_facts(panel)
    ]
    components.facts(key="feature_facts", data={"facts": found})


def list_facts(panel: PanelContext) -> list[tuple[str, str, str]]:
    """Return the feature's facts as (name, value with unit, definition)."""
    found, record = panel.facts, panel.place.file.record
    tokens, windows = plural(record.tokens, "token"), plural(record.windows, "window")
    return [
        (
            "active on",
            f"{count(found.n_active)} of {tokens}",
            f"{define_term('active token')} Special tokens are left out.",
        ),
        ("density", share(found.density), f"{define_term('density')} Here: of {tokens}."),
        (
            "window density",
            share(found.window_density),
            f"Share of windows with an active token, of {windows}. {define_term('window')}",
        ),
        ("max", measure(found.max_act), f"Largest |activation|. {define_term('activation')}"),
        ("mean when active", measure(found.mean_act), "Mean |activation| over active tokens."),
        ("mean", measure(found.mean_all), "Mean signed activation over all counted tokens."),
        ("std when active", measure(found.std_act), "Standard deviation of |activation|."),
        ("skew", measure(found.skew), "Skewness of the active values."),
        ("kurtosis", measure(found.kurtosis), "Of the active values; 3 for a normal distribution."),
        (
            "activation at BOS",
            measure(found.bos_act),
            f"Signed activation at BOS. {define_term('BOS')}",
        ),
        (
            "mean position",
            measure(found.mean_position),
            f"Mean position of active tokens. {define_term('position')}",
        ),
        (
            "top token",
            describe_top_token(panel),
            "Most frequent token, with its share of the activation over n sampled active tokens.",
        ),
        (
            "decoder norm",
            measure(found.decoder_norm),
            f"Norm of the decoder direction. {define_term('decoder direction')}",
        ),
        (
            "encoder–decoder cosine",
            measure(found.encoder_decoder_cosine),
            "Cosine between the encoder row and the decoder direction.",
        ),
        (
            "logit kurtosis",
            measure(found.logit_kurtosis),
            f"Kurtosis of the logit lens over the vocabulary. {define_term('logit lens')}",
        ),
    ]


def describe_top_token(panel: PanelContext) -> str:
    """Return the feature's most frequent token with its share of the activation, or a dash."""
    found = panel.facts
    if found.top_token is None:
        return ABSENT
    token = visible(panel.place.file.vocabulary.text(found.top_token))
    return f"{token} {share(found.top_token_share)} (n {count(found.top_token_n)})"
