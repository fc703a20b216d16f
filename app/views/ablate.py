"""Take parts of the model away, and see what changes."""

import streamlit as st

from app import ablating, frame, live, session
from app.ablate import inputs, setting
from app.costly import draw_costly_button
from feature_store.errors import InputError

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Ablate", anchor=False)
setting.adopt(place)
ablating.opened(place)
try:
    engine = live.at_hand(place.file)
except InputError:
    engine = None
inputs.draw(place, engine)
if problem := st.session_state.pop("ablate_problem", None):
    st.markdown(f":red[{session.literal(problem)}]")
with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
    st.segmented_control(
        "What",
        list(setting.TABS),
        key=setting.key("tab"),
        required=True,
        on_change=setting.keep,
        format_func=setting.TABS.__getitem__,
        label_visibility="collapsed",
    )
    tab = setting.value("tab")
    draw_button = draw_costly_button if tab in ablating.COSTLY else st.button
    draw_button("Run", on_click=ablating.go, args=(tab,), type="primary", key="ablate_run")
ablating.page(place, tab)
