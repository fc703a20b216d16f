"""Two sets of texts: which features tell them apart, by how much, and how surely."""

import streamlit as st

from app import export, frame, live, session
from app.contrast import inputs, results
from app.contrast.running import ContrastQuestion, ContrastRun, python_lines
from app.session import Place
from feature_store.errors import InputError

RUN = "contrast_run"
"""Key of the session: (harvest, what was asked) and the run that answers it."""
PROMPTLY_S = 0.8
"""Small comparisons answer within this: then nothing flickers."""


def compare(place: Place, asked: ContrastQuestion) -> None:
    """Start what was asked, in place of what is at work."""
    engine = live.engine(place.file)
    if held := st.session_state.get(RUN):
        held[1].cancel()
    st.session_state[RUN] = ((place.file.record.id, asked), ContrastRun(engine, asked))
    st.session_state.pop(inputs.GO, None)
    if not inputs.link(asked):
        st.session_state["contrast_unlinked"] = True
    else:
        st.session_state.pop("contrast_unlinked", None)


def outcome(place: Place, now: ContrastQuestion | None) -> None:
    """The answer at hand, or that it is under way."""
    held = st.session_state.get(RUN)
    if held is None or held[0][0] != place.file.record.id:
        st.caption(
            "Two sets of texts, one text a line: the features that fire more often, or more "
            "strongly, on one set than on the other are found and ranked. Or try an example."
        )
        return
    (_, asked), run = held
    if not run.wait(PROMPTLY_S):
        under_way(run)
        return
    found = run.result()
    if found is None:
        st.caption("Cancelled. Compare again, perhaps with fewer texts or dictionaries.")
        return
    if now != asked:
        st.markdown(":yellow[The fields have changed since: Compare gives their result.]")
    if "contrast_unlinked" in st.session_state:
        st.caption("Too much text for a link: this page's address does not carry it.")
    results.draw(place, asked, found)


@st.fragment(run_every=0.4)
def under_way(run: ContrastRun) -> None:
    """How far it is, and a way to stop it; the page comes back when it ends."""
    if run.wait(0):
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Comparing: {100 * run.share:.0f} %", width="content")
        st.button("Cancel", on_click=run.cancel)


def page(place: Place) -> None:
    """Fields above, answer below; what cannot be compared is a sentence between them."""
    inputs.draw(place)
    now = None
    try:
        now = inputs.asked()
        if st.session_state.get(inputs.GO):
            compare(place, now)
        outcome(place, now)
    except InputError as error:
        st.session_state.pop(inputs.GO, None)
        st.markdown(f":red[{session.literal(str(error))}]")


place = session.place()
frame.sidebar(place)
held = st.session_state.get(RUN)
with frame.bar(place):
    export.menu(
        python_lines(session.shown_store(), place.file.record.id, held[0][1] if held else None)
    )
st.title("Contrast", anchor=False)
inputs.adopt(place)
page(place)
