"""The SHIFT page: texts and probe, ranked features to mark, and what becomes of the probe."""

from contextlib import suppress

import streamlit as st

from app import live, session
from app.costly import draw_costly_button
from app.session import Place
from app.shift import fields, marking, outcome, running
from app.steer_more import task
from app.time_estimates import count_tokens_roughly, draw_estimate
from backend.model.run_token_counts import count_shift_tokens
from backend.probing import shift_example
from backend.probing.shift_request import ShiftRequest
from feature_store.errors import InputError
from feature_store.records import FeatureId

WANTED, AWAY = "shift_wanted", "shift_away"
"""Of the session: what is to begin as soon as the model is there."""
ABOUT = (
    "A probe learns to tell two labels apart from the model's activations. Where something else "
    "goes with the label in every text it learns from, the probe may rely on that instead. Mark "
    "the features that it should not rely on; they are set to zero, error terms stay."
)


def draw(place: Place) -> None:
    """The whole; what cannot be done is a sentence."""
    st.caption(ABOUT)
    try:
        kept = running.opened()
        fields.draw(place)
        buttons()
        estimate(place)
        if st.session_state.get(WANTED):
            begin(place)
        results(place, kept)
    except InputError as error:
        for name in (WANTED, AWAY):
            st.session_state.pop(name, None)
        st.markdown(f":red[{session.literal(str(error))}]")


def buttons() -> None:
    """What begins the work."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        draw_costly_button("Train and rank", want, type="primary")
        st.caption("Example:", width="content")
        st.button(
            "Girl or boy",
            type="tertiary",
            on_click=fields.show,
            args=(
                fields.texts(
                    shift_example.draw_training_texts(), shift_example.draw_held_out_texts()
                ),
            ),
            help="Sentences of the demo's words. In training girls find things good and boys find "
            "them bad; among the texts to judge on, both are independent.",
        )


def estimate(place: Place) -> None:
    """Say how long the ranking will take; nothing while the fields are incomplete."""
    with suppress(InputError):
        asked = fields.asked()
        train, test = (
            sum(count_tokens_roughly(one.text) for one in texts)
            for texts in (asked.train, asked.test)
        )
        draw_estimate(place, count_shift_tokens(train, test, len(asked.dictionaries), asked.exact))


def want() -> None:
    """Callback: learn and rank as soon as the model is there."""
    fields.keep()
    st.session_state[WANTED] = True


def want_away() -> None:
    """Callback: take the marked features away as soon as the model is there."""
    st.session_state[AWAY] = True


def begin(place: Place) -> None:
    """Start what was asked for."""
    asked = fields.asked()
    engine = live.ready(place.file)
    if engine is None:
        return
    st.session_state.pop(WANTED, None)
    running.rank(engine, asked)


def results(place: Place, kept: tuple[ShiftRequest, task.Plain] | None) -> None:
    """The ranked features and, once some are taken away, the probe before and after."""
    if kept is not None:
        asked, ranking, judged = kept[0], kept[1]["ranking"], kept[1]["judged"]
        st.button("Fill the fields with this run", type="tertiary", on_click=refill, args=[asked])
    else:
        done = task.watch(running.RANK)
        if done is None or done.result is None:
            return
        asked, ranking, judged = ShiftRequest.from_json(done.request), done.result, None
    if not ranking["rows"]:
        st.write("No feature of these dictionaries is active on the texts.")
        return
    marked = marking.draw(place, ranking)
    remove(place, asked, ranking, marked)
    after = task.running(running.JUDGE)
    if after is not None and kept is None:
        after = task.watch(running.JUDGE)
        if after is not None and after.result is not None:
            finished(place, after)
            judged = after.result["judged"]
    if judged is not None:
        if {str(one) for one in marked} != set(judged["features"]):
            st.markdown(":yellow[The marks have changed since: this is of those before.]")
        outcome.draw(judged)


def remove(place: Place, asked: ShiftRequest, ranking: task.Plain, marked: list[FeatureId]) -> None:
    """The button that takes the marked features away."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        draw_costly_button(
            "Take the marked features away",
            want_away,
            type="primary",
            disabled=not marked,
            help="Accuracy on the held-out texts before and after, with and without retraining.",
        )
        draws = fields.random_sets()
    if not st.session_state.get(AWAY):
        return
    engine = live.ready(place.file)
    if engine is not None:
        st.session_state.pop(AWAY)
        running.judge(engine, asked.with_features(tuple(marked), draws), ranking)
        st.query_params.pop("experiment", None)
        st.rerun()


def finished(place: Place, after: task.Task) -> None:
    """Keep the answer, and say where."""
    engine = live.at_hand(place.file)
    if engine is not None:
        running.keep(place, engine, after)
    if after.unkept:
        st.caption(session.literal(f"Not kept: {after.unkept}"))
    elif after.kept:
        href = session.href(session.SHIFT, {**place.query, "experiment": after.kept})
        st.markdown(f"kept as [{after.kept}]({href})")


def refill(asked: ShiftRequest) -> None:
    """Callback: the fields as this run was asked; it is no longer the one that is open."""
    st.query_params.pop("experiment", None)
    fields.show_asked(asked)
