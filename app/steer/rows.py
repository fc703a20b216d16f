"""The edits of a run, a line each: features, mode, strength in its unit, where and when."""

import math
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import annotations, session, steering
from app.session import Place
from app.steer import conditions, measured
from app.steer.link import basis_of, fresh
from app.steer.picking import described, picker
from app.wording import measure
from backend.interventions.edit_modes import MODES, EditMode
from backend.interventions.records import Edit
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

WIDTHS = (22, 17, 29, 13, 19)
"""Of a line's columns."""
BRIEF = 26
"""Characters of a description in the line."""
STEPS = 200
"""Of a slider from end to end, about."""


def draw(place: Place, said: annotations.Said) -> None:
    """All edits, and buttons for more and fewer."""
    for number, edit in enumerate(steering.edits()):
        line(number, edit, place, said)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        full = len(steering.setting().watched) >= steering.MOST
        if full:
            st.caption(f"{steering.MOST} features: no more at once.")
        else:
            picker("+ edit", "steer_add", place, said, lambda f: add(place.file, f))
            picker("+ watch only", "steer_look", place, said, watch)
        if steering.before():
            st.button(
                "undo",
                key="steer_undo",
                type="tertiary",
                on_click=steering.undo,
                help="The edits as they were before the last one came or went.",
            )
        for feature in steering.setting().watch:
            st.button(
                session.literal(f"watching {feature}  ✕"),
                key=f"steer_unwatch_{feature}",
                type="tertiary",
                on_click=unwatch,
                args=(feature,),
                help="Watch it no longer.",
            )


def add(file: HarvestFile, feature: FeatureId) -> None:
    """Callback: one more edit."""
    if any(feature in edit.features for edit in steering.edits()):
        st.toast(session.literal(f"{feature} is edited already."))
        return
    steering.add(fresh(file, feature))


def watch(feature: FeatureId) -> None:
    """Callback: watch a feature without editing it."""
    known = steering.setting().watch
    if feature not in known:
        steering.change(watch=(*known, feature))


def unwatch(feature: FeatureId) -> None:
    """Callback: watch it no longer."""
    left = tuple(one for one in steering.setting().watch if one != feature)
    steering.change(watch=left)


def line(number: int, edit: Edit, place: Place, said: annotations.Said) -> None:
    """One edit."""
    key = f"steer_{steering.edits_version()}_{number}"
    mode = MODES[edit.mode]
    parts = st.columns(WIDTHS, gap="small", vertical_alignment="center")
    with parts[0], st.container(gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(name_of(edit, place), width="content")
            st.button(
                "✕",
                key=f"{key}_remove",
                type="tertiary",
                help="Remove this edit.",
                on_click=steering.remove,
                args=(number,),
            )
        whole = about(edit, place, said)
        short = whole if len(whole) <= BRIEF else f"{whole[:BRIEF].rstrip()}…"
        st.caption(session.literal(short))
    with parts[1]:
        st.session_state.setdefault(f"{key}_mode", edit.mode)
        st.selectbox(
            "Mode",
            modes_for(edit),
            key=f"{key}_mode",
            label_visibility="collapsed",
            format_func=steering.spelled,
            on_change=remode,
            args=(number, key, place.file),
        )
        if mode.pair and len(edit.features) == 1:
            picker(
                "second feature",
                f"{key}_second",
                place,
                said,
                lambda f: second(number, f, place.file),
            )
        if mode.basis in measured.TEXTS:
            measured.popover(number, edit, key, place)
    strength(number, edit, key, place.file, parts[2], parts[3])
    with parts[4]:
        conditions.popover(number, edit, key, place)


def name_of(edit: Edit, place: Place) -> str:
    """Links to the features; a vector by its name."""
    if edit.vector is not None:
        return session.literal(edit.vector.name)
    found = []
    for feature in edit.features:
        query = {"harvest": place.file.record.id, "feature": str(feature)}
        found.append(f"[{session.literal(str(feature))}]({session.href(session.FEATURE, query)})")
    return ", ".join(found)


def about(edit: Edit, place: Place, said: annotations.Said) -> str:
    """What is known of the first feature, in brief."""
    if edit.vector is not None:
        return f"a direction at {edit.vector.hook}"
    return described(place.file, edit.features[0], said)


def modes_for(edit: Edit) -> list[str]:
    """The modes that an edit can take from where it stands."""
    if edit.vector is not None:
        return [name for name, mode in MODES.items() if mode.takes_vector and not mode.pair]
    return list(MODES)


def strength(
    number: int,
    edit: Edit,
    key: str,
    file: HarvestFile,
    left: DeltaGenerator,
    right: DeltaGenerator,
) -> None:
    """A slider over the usual range and a field for any number, in the mode's unit."""
    mode, (low, high, step) = MODES[edit.mode], reach(edit, file)
    slider, field = f"{key}_{edit.mode}_slider", f"{key}_{edit.mode}_field"
    st.session_state.setdefault(field, edit.strength)
    st.session_state[slider] = min(max(edit.strength, low), high)
    with left, st.container(gap=None):
        st.slider(
            "Strength",
            low,
            high,
            key=slider,
            step=step,
            label_visibility="collapsed",
            on_change=restrength,
            args=(number, slider, field),
            format="%.3g",
        )
        known = mode.basis == "max" and len(edit.features) == 1
        top = f", {measure(file.facts(edit.features[0]).max_act)}" if known else ""
        st.caption(f"{mode.unit}{top}; {neutral(mode)}")
    right.number_input(
        "Strength, typed",
        key=field,
        label_visibility="collapsed",
        format="%.4g",
        step=step,
        on_change=restrength,
        args=(number, field, field),
    )


def neutral(mode: EditMode) -> str:
    """What strength changes nothing, in brief."""
    return (
        "every strength changes something"
        if mode.neutral is None
        else f"{mode.neutral:g} changes nothing"
    )


def reach(edit: Edit, file: HarvestFile) -> tuple[float, float, float]:
    """A slider's ends and step: the mode's usual range, in activation units twice the features'
    maxima; wider where the strength is."""
    mode = MODES[edit.mode]
    low, high = mode.usual
    tops = [file.facts(feature).max_act or 0.0 for feature in edit.features]
    if mode.unit == "activation units" and max(tops, default=0) > 0:
        high = round_up(2 * max(tops))
        low = -high if low < 0 or file.dictionary(edit.features[0].dictionary).signed else 0.0
    low, high = min(low, -round_up(-edit.strength)), max(high, round_up(edit.strength))
    return low, high, 10.0 ** math.floor(math.log10((high - low) / STEPS * 2))


def round_up(value: float) -> float:
    """The next number of two digits; 0 for what is not above it."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(round(value / unit, 6)) * unit


def restrength(number: int, source: str, field: str) -> None:
    """Callback: another strength, by the slider or the field."""
    value = st.session_state[source]
    if value is None:
        return
    st.session_state[field] = float(value)
    steering.revise(number, replace(steering.edits()[number], strength=float(value)))


def remode(number: int, key: str, file: HarvestFile) -> None:
    """Callback: another mode, at a strength that shows it: its neutral one says nothing."""
    name, edit = st.session_state[f"{key}_mode"], steering.edits()[number]
    mode = MODES[name]
    features = edit.features if mode.pair else edit.features[:1] or edit.features
    begin = 1.0
    if mode.unit == "activation units" and edit.features:
        begin = file.facts(edit.features[0]).max_act or 1.0
    elif mode.neutral == 1.0:
        begin = 2.0 if name == "multiply" else 0.0
    elif name == "norm_relative":
        begin = 0.3
    elif mode.unit.startswith("length"):
        begin = 0.0
    steering.revise(
        number,
        replace(
            edit,
            mode=name,
            features=features,
            strength=float(f"{begin:.3g}"),
            basis=basis_of(file, mode.basis, features),
        ),
    )


def second(number: int, feature: FeatureId, file: HarvestFile) -> None:
    """Callback: the other feature of a pair."""
    edit = steering.edits()[number]
    if feature.dictionary != edit.features[0].dictionary or feature in edit.features:
        st.toast("The second feature is another one of the same dictionary.")
        return
    edits = list(steering.edits())
    edits[number] = replace(edit, features=(*edit.features, feature))
    steering.put(edits)
