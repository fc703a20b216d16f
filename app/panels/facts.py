"""Every number that the harvest has of the feature."""

from app import components
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import count, measure, plural, share

TITLE = "Facts"


def draw(subject: PanelContext) -> None:
    """Names, values, and in words what they are of."""
    found = [
        {"name": name, "value": value, "hint": hint} for name, value, hint in list_facts(subject)
    ]
    components.facts(key="feature_facts", data={"facts": found})


def list_facts(subject: PanelContext) -> list[tuple[str, str, str]]:
    """(name, value with unit, what it is)."""
    found, record = subject.facts, subject.place.file.record
    tokens, windows = plural(record.tokens, "token"), plural(record.windows, "window")
    top = "–"
    if found.top_token is not None:
        top = f"{visible(subject.place.file.vocabulary.text(found.top_token))}"
        top += f" {share(found.top_token_share)} (n {count(found.top_token_n)})"
    return [
        ("active on", f"{count(found.n_active)} of {tokens}", "special tokens left out"),
        ("density", share(found.density), f"of {tokens}"),
        ("window density", share(found.window_density), f"of {windows}"),
        ("max", measure(found.max_act), "largest |activation|"),
        ("mean when active", measure(found.mean_act), "mean |activation| where it is active"),
        ("mean", measure(found.mean_all), "mean signed activation over all counted tokens"),
        ("std when active", measure(found.std_act), "of |activation|"),
        ("skew", measure(found.skew), "of the active values"),
        ("kurtosis", measure(found.kurtosis), "of the active values; 3 for a normal distribution"),
        ("activation at BOS", measure(found.bos_act), "left out of everything else"),
        ("mean position", measure(found.mean_position), "tokens from the sequence's start"),
        ("top token", top, "share of its activation on one token, over n sampled active tokens"),
        ("decoder norm", measure(found.decoder_norm), ""),
        ("encoder–decoder cosine", measure(found.encoder_decoder_cosine), ""),
        ("logit kurtosis", measure(found.logit_kurtosis), "of direct effects on the vocabulary"),
    ]
