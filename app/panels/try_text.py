"""Try the feature on a text of one's own, live."""

import streamlit as st

from app import components, live, session, strip
from app.panels.panel_context import PanelContext
from app.wording import measure, plural
from backend.engine_protocol import Engine, TokenizedText
from feature_store.activation_histogram import share_below
from feature_store.errors import InputError

TITLE = "Test this feature"
TEXT_KEY = "trial_text"


def draw(subject: PanelContext) -> None:
    """A field, and the text with the feature's heat; the text lives in the URL as `test`."""
    st.session_state.setdefault(TEXT_KEY, st.query_params.get("test", ""))
    text = st.text_input(
        "Text",
        key=TEXT_KEY,
        placeholder="type a text, then Enter: where does it fire?",
        label_visibility="collapsed",
        on_change=save_text_to_url,
    )
    if not text.strip():
        return
    try:
        engine = live.ready(subject.place.file, [subject.place.info.dictionary])
        if engine is None:
            return
        read, acts = compute_text_activations(engine, subject, text)
    except InputError as error:
        st.markdown(f":orange[{session.literal(str(error))}]")
        return
    st.caption(summarize_activations(subject, acts, sum(read.counted)))
    draw_text_heat(subject, read, acts)


def draw_text_heat(subject: PanelContext, read: TokenizedText, acts: dict[int, float]) -> None:
    """The text as a strip in which nothing is ranked or linked: the one feature is pinned."""
    own, facts = subject.id.index, subject.facts
    here = {
        "name": subject.place.info.dictionary,
        "hook": "",
        "link": "",
        "positions": list(acts),
        "of": [own] * len(acts),
        "values": [round(value, 5) for value in acts.values()],
        "toward": None,
        "features": {
            own: {"max": facts.max_act, "density": facts.density, "promotes": "", "label": ""}
        },
    }
    components.prompt(
        key="trial_strip",
        data={
            "sort": "activation",
            "pinned": own,
            "at": None,
            "lens": None,
            "tokens": strip.tokens(read, subject.place.file.vocabulary),
            "dictionaries": [here],
        },
        on_go_change=components.ignore,
        on_at_change=components.ignore,
    )


def measure_tested_text(subject: PanelContext) -> float | None:
    """The feature's strongest activation (with its sign) on the text under test, 0 where it is
    silent; None without a text, or while no engine can read it. Draws nothing, never waits."""
    text = st.session_state.get(TEXT_KEY, st.query_params.get("test", ""))
    engine = live.at_hand(subject.place.file) if text.strip() else None
    if engine is None:
        return None
    try:
        _, acts = compute_text_activations(engine, subject, text)
    except InputError:  # `draw` says what is wrong
        return None
    return max(acts.values(), key=abs, default=0.0)


def compute_text_activations(
    engine: Engine, subject: PanelContext, text: str
) -> tuple[TokenizedText, dict[int, float]]:
    """The text as the model reads it, and position → activation on counted tokens."""
    name = subject.place.info.dictionary
    read = engine.read(text)
    found = engine.compute_activations(read, [name])[name].by_position(subject.id.index)
    return read, {p: v for p, v in found.items() if read.counted[p]}


def save_text_to_url() -> None:
    """Put the text into the URL."""
    st.query_params["test"] = st.session_state[TEXT_KEY]


def summarize_activations(subject: PanelContext, acts: dict[int, float], n: int) -> str:
    """How strongly it fires, against what the harvest saw."""
    if not acts:
        return f"Silent on all {plural(n, 'token')}."
    peak = max(acts.values(), key=abs)
    said = f"Fires on {len(acts)} of {plural(n, 'token')}, at most {measure(peak)}"
    facts = subject.facts
    if facts.histogram and facts.histogram_start is not None:
        share = share_below(facts.histogram, facts.histogram_start, peak)
        said += f": above {100 * share:.0f} % of its activations in the harvest"
    return said + "."
