"""Which features a behaviour runs through, and how well that stands up to ablation."""

import streamlit as st

from app import frame, session
from app.circuits import fields, form, opened, page, shelf, taking
from app.circuits.asked import CircuitRequest

place = session.place()
frame.sidebar(place)
frame.bar(place)
fields.adopt(place)
found = opened.named(place)
with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
    st.title("Circuits", anchor=False, width="content")
    if found is not None:
        st.button("All circuits", type="tertiary", on_click=page.leave, args=(place.query,))
        if "method" in found.experiment.request:
            st.button(
                "Change and run again",
                type="tertiary",
                on_click=page.again,
                args=(place.query, CircuitRequest.from_json(found.experiment.request)),
            )
if found is not None:
    page.draw(place, found)
else:
    form.draw(place)
    if name := form.under_way():
        st.query_params.from_dict({**place.query, "experiment": name})
        st.rerun()
    taking.importer(place)
    shelf.draw(place, waited_for=form.JOB in st.session_state)
