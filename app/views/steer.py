"""Change the model while it speaks: default and steered text side by side."""

import streamlit as st

from app import annotations, frame, steering
from app.steer import asking, below, link, rows, stage
from app.steer.tabs import draw_more

place = link.arrive()
frame.sidebar(place)
frame.bar(place)
said = annotations.read()
st.title("Steer", anchor=False)
rows.draw(place, said)
asking.prompt(place)
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    asking.sampling()
    buttons = st.container(horizontal=True, width="content")
stage.run_wanted(place)
stage.problem(place)
with buttons:
    stage.buttons()
stage.draw(place, said)
below.draw(place)
link.leave()
draw_more(steering.SteeringTabContext(place, said, steering.setting()))
