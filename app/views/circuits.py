"""Which features a behaviour runs through, and how well that stands up to ablation."""

import streamlit as st

from app import frame, session
from app.circuits import fields, form, opened, page, shelf, taking
from app.circuits.asked import Asked

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Circuits", anchor=False)
fields.adopt(place)
if name := form.under_way():
    st.query_params.from_dict({**place.query, "experiment": name})
    st.rerun()
found = opened.named(place)
if found is None:
    form.draw(place)
    taking.importer(place)
    shelf.draw(place)
else:
    with st.container(horizontal=True, gap="medium"):
        st.page_link(session.CIRCUITS, label="All circuits", query_params=place.query)
        if "method" in found.experiment.request:
            st.button("Change and run again", type="tertiary", on_click=page.again,
                      args=(place.query, Asked.from_json(found.experiment.request)))  # fmt: skip
    page.draw(place, found)
