"""Contrast direction: from two sets of texts to a vector and to features to steer by."""

import threading
from functools import partial
from typing import Any

import streamlit as st

from app import live, session
from app.costly import draw_costly_button
from app.steer import link
from app.steer_more import pushes, task
from app.steering import SteeringTabContext
from app.wording import ABSENT, measure, plural, signed
from backend.interventions.records import Edit, SteeringVector
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

TITLE = "contrast direction"
TASK, WANTED = "direction_task", task.Wanted("direction")


def draw(subject: SteeringTabContext) -> None:
    """The tab."""
    info = subject.place.info
    st.caption(
        session.literal(
            f"Two sets of texts, one a line. Their means over ordinary tokens, each text counting "
            f"once, differ by a vector at {' + '.join(info.write_hooks)}, and by "
            f"features of {info.dictionary}."
        )
    )
    for column, side, example in zip(
        st.columns(2),
        ("toward", "away from"),
        ("I am so happy today!", "I am so sad today."),
        strict=True,
    ):
        column.text_area(side, key=f"direction_{side}", height=110, placeholder=example)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.session_state.setdefault("direction_m", 8)
        st.number_input("features", 1, 32, key="direction_m", width=120)
        draw_costly_button("compare ▶", WANTED.ask, key="direction_run")
    WANTED.begin(subject.place.file, partial(begin, subject))
    results(subject)


def begin(subject: SteeringTabContext, engine: Any) -> None:
    """Start what the fields say. InputError for what cannot be."""
    state = st.session_state
    given = {
        "dictionary": subject.place.info.dictionary,
        "m": int(state["direction_m"]),
        **{
            side: [line for line in state[f"direction_{side}"].splitlines() if line.strip()]
            for side in ("toward", "away from")
        },
    }
    asked = subject.setting.asked(bos=engine.bos is not None)
    request = {**asked.to_json(), "edits": [], "contrast": given}
    st.session_state.pop(link.OTHER, None)
    file = subject.place.file
    task.begin(TASK, request, lambda mine: answer(engine, file, request, mine.tell))


def answer(
    engine: Any,
    file: HarvestFile,
    request: task.Plain,
    tell: task.Tell = task.quiet,
    stop: threading.Event | None = None,
) -> dict[str, Any] | None:
    """The difference that a request asks for, as plain data; None where it was stopped."""
    from backend.steering.mean_difference import compute_mean_difference

    given = request["contrast"]
    sides = [[engine.read(line) for line in given[side]] for side in ("toward", "away from")]
    tell(0, 0, "reading texts:")
    if stop is not None and stop.is_set():
        return None
    one = engine.dictionaries[given["dictionary"]]
    found = compute_mean_difference(engine.lm, one, sides[0], sides[1], m=given["m"])
    return {
        "hook": found.vector.hook,
        "vector": list(found.vector.values),
        "features": [[str(feature), value] for feature, value in found.features],
        "cosine": found.cosine,
        "cosine_all": found.cosine_all,
        "n": list(found.n),
        "length": found.length,
        "norm": found.norm,
        "notes": found.notes,
    }


def results(subject: SteeringTabContext) -> None:
    """What was just found, else what the link opened."""
    done, other = task.watch(TASK), link.opened_below()
    if other is not None and other.kind == "contrast":
        show(subject, other.result)
    elif done and done.result:
        engine: Any = live.at_hand(subject.place.file)
        if engine is not None:
            names = {done.request["contrast"]["dictionary"]}
            task.keep_it(done, "contrast", subject.place, engine, names)
        show(subject, done.result)
        task.foot(done, TITLE)


def show(subject: SteeringTabContext, result: task.Plain) -> None:
    """The vector and the features, and the buttons that steer by them."""
    a, b = result["n"]
    of_stream = measure(result["length"] / result["norm"], 2) if result["norm"] else ABSENT
    st.markdown(
        session.literal(
            f"{plural(a, 'text')} against {b}. The vector is {of_stream} × as long as the stream "
            f"at {result['hook']}. Its cosine with the {len(result['features'])} features together "
            f"is {measure(result['cosine'], 2)}, with all that differ "
            f"{measure(result['cosine_all'], 2)}."
        )
    )
    for note in result["notes"]:
        st.markdown(f":orange[{session.literal(note)}]")
    names, values = zip(*result["features"], strict=True) if result["features"] else ((), ())
    if names:
        columns = {"Δ mean activation": [signed(v, 3) for v in values]}
        pushes.table("direction_table", subject, names, columns)
    vector = SteeringVector("difference of means", result["hook"], tuple(result["vector"]))
    with st.container(horizontal=True, gap="small"):
        pushes.offer("direction_vector", "steer by the vector", [Edit("add", vector=vector)])
        pairs = zip(names, values, strict=True)
        edits = [Edit("add", (FeatureId.parse(name),), value) for name, value in pairs]
        if edits:
            pushes.offer("direction_features", "steer by the features", edits)
