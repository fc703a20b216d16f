"""The panel "Test this feature": the feature's activations on a text that the visitor types,
computed live."""

import streamlit as st

from app import components, live, session, strip
from app.panels.panel_context import PanelContext
from app.wording import measure, plural
from backend.engine_protocol import Engine, TokenizedText
from feature_store.activation_histogram import share_below
from feature_store.errors import InputError

TITLE = "Test this feature"
TEXT_KEY = "trial_text"


def draw(panel: PanelContext) -> None:
    """Draw the text field and the text with the feature's activations. The text is kept in the URL
    as `test`."""
    st.session_state.setdefault(TEXT_KEY, st.query_params.get("test", ""))
    text = st.text_input(
        "Text",
        key=TEXT_KEY,
        placeholder="type a text and press Enter to see where the feature fires",
        label_visibility="collapsed",
        on_change=save_text_to_url,
    )
    if not text.strip():
        return
    try:
        engine = live.ready(panel.place.file, [panel.place.info.dictionary])
        if engine is None:
            return
        read, acts = compute_text_activations(engine, panel, text)
    except InputError as error:
        st.markdown(f":orange[{session.literal(str(error))}]")
        return
    st.caption(summarize_activations(panel, acts, sum(read.counted)))
    draw_text_heat(panel, read, acts)


def draw_text_heat(panel: PanelContext, read: TokenizedText, acts: dict[int, float]) -> None:
    """Draw the text as a strip of tokens coloured by the activation of this feature alone."""
    own, facts = panel.id.index, panel.facts
    here = {
        "name": panel.place.info.dictionary,
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
            "tokens": strip.tokens(read, panel.place.file.vocabulary),
            "dictionaries": [here],
        },
        on_go_change=components.ignore,
        on_at_change=components.ignore,
    )


def measure_tested_text(panel: PanelContext) -> float | None:
    """Return the feature's strongest activation (with its sign) on the text under test.

    It is 0 where the feature is silent, and None without a text or while no engine can read it.
    Draws nothing and never waits.
    """
    text = st.session_state.get(TEXT_KEY, st.query_params.get("test", ""))
    engine = live.at_hand(panel.place.file) if text.strip() else None
    if engine is None:
        return None
    try:
        _, acts = compute_text_activations(engine, panel, text)
    except InputError:  # `draw` says what is wrong
        return None
    return max(acts.values(), key=abs, default=0.0)


def compute_text_activations(
    engine: Engine, panel: PanelContext, text: str
) -> tuple[TokenizedText, dict[int, float]]:
    """Return the tokenized text, and the feature's activation by position on counted tokens."""
    name = panel.place.info.dictionary
    read = engine.read(text)
    found = engine.compute_activations(read, [name])[name].by_position(panel.id.index)
    return read, {p: v for p, v in found.items() if read.counted[p]}


def save_text_to_url() -> None:
    """Callback: put the text under test into the URL."""
    st.query_params["test"] = st.session_state[TEXT_KEY]


def summarize_activations(panel: PanelContext, acts: dict[int, float], n: int) -> str:
    """Return one sentence on how strongly the feature fires, compared with the harvest."""
    if not acts:
        return f"Silent on all {plural(n, 'token')}."
    peak = max(acts.values(), key=abs)
    said = f"Fires on {len(acts)} of {plural(n, 'token')}, at most {measure(peak)}"
    facts = panel.facts
    if facts.histogram and facts.histogram_start is not None:
        share = share_below(facts.histogram, facts.histogram_start, peak)
        said += f": above {100 * share:.0f} % of its activations in the harvest"
    return said + "."
