"""The feature's name, previous, next, random, its main facts, and what to beware of."""

import random

import streamlit as st

from app import annotations, components, filters, order, session
from app.panels import notes
from app.panels.panel_context import PanelContext
from app.wording import count, measure, plural, share

DENSE_ABOVE = 0.1
"""A feature active on more than this share of tokens is called dense."""
MIN_SAMPLED_WINDOWS = 10
"""Fewer sampled windows than this say nothing about positions."""
KEY = "feature_heading"


def draw_heading(subject: PanelContext) -> None:
    """The heading; its links and keys go to other features and pages without a reload."""
    out = list_page_links(subject)
    if (leave := (st.session_state.get(KEY) or {}).get("leave")) in out:
        st.switch_page(out[leave][0], query_params=out[leave][1])
    said = subject.said.annotations.values_of_feature(subject.id)
    data = {
        "label": said.get("label", ""),
        "starred": "star" in said,
        "writable": subject.said.writable,
        "dictionary": subject.id.dictionary,
        "index": subject.id.index,
        **make_navigation(subject),
        "links": [
            {"label": name, "href": session.href(page, query), "hint": hint}
            for name, (page, query, hint) in out.items()
        ],
        "notes": notes.TITLE,
        "facts": list_main_facts(subject),
        "warnings": [*describe_unsaved_changes(subject), *list_warnings(subject)],
    }
    components.heading(
        key=KEY,
        data=data,
        on_go_change=lambda: follow_step(subject),
        on_star_change=lambda: save_star(subject),
        on_leave_change=components.ignore,
    )


def describe_unsaved_changes(subject: PanelContext) -> list[str]:
    """What was typed and could not be saved, and why: the notes may be out of sight."""
    waiting = annotations.unsaved(subject.id)
    return [f"{kind.capitalize()} not saved: {why}" for kind, (_, why) in waiting.items()]


def list_page_links(subject: PanelContext) -> dict[str, tuple[str, dict[str, str], str]]:
    """Other pages about the feature: page, query and what one does there, by the link's name."""
    here, place = subject.place.at(subject.id.index), subject.place
    trace = {**place.query, "start": str(subject.id), "method": "trace"}
    return {
        "steer": (session.STEER, here, "change the model's text by this feature"),
        "ablate": (session.ABLATE, here, "what the model loses without this feature"),
        "circuits": (session.CIRCUITS, trace, "what this feature is the sum of, on a prompt"),
    }


def save_star(subject: PanelContext) -> None:
    """Callback: the star was clicked, or its key pressed."""
    wanted = (st.session_state.get(KEY) or {}).get("star")
    if wanted:
        annotations.say(subject.id, "star", "1" if wanted == "on" else "")


def make_navigation(subject: PanelContext) -> dict[str, object]:
    """The ways on: previous, next and a random one, in the table that one came from."""
    place, index = subject.place, subject.id.index
    asked = session.filters(place)
    choice = filters.read(asked)
    session.remember(place, asked)
    way = filters.write(choice)
    found = order.features(place, choice, subject.said.annotations)
    here = order.step(found, index)
    chance = int(random.choice(found)) if len(found) else None
    ways = [
        ("‹ previous", ["ArrowLeft", "k"], "←", here.before),
        ("next ›", ["ArrowRight", "j"], "→", here.after),
        ("random", ["r"], "r", chance),
    ]
    page = {} if here.number is None else {"page": str((here.number - 1) // order.PAGE + 1)}
    columns = {name: asked[name] for name in ("columns",) if name in asked}
    return {
        "steps": [
            {
                "label": label,
                "keys": keys,
                "hint": hint,
                "href": session.href(session.FEATURE, {**place.at(to), **way})
                if to is not None
                else "",
                "target": place.at(to)["feature"] if to is not None else None,
            }
            for label, keys, hint, to in ways
        ],
        "place": {
            "text": describe_table_position(here),
            "hint": f"the table: {filters.words(choice)}",
            "href": session.href(session.FEATURES, {**place.query, **way, **columns, **page}),
        },
    }


def describe_table_position(here: order.Step) -> str:
    """`12 of 340`."""
    if here.number is None:
        return f"not among {count(here.total)}"
    return f"{count(here.number)} of {count(here.total)}"


def follow_step(subject: PanelContext) -> None:
    """Callback: a step was taken; the table that it followed stays in the URL."""
    to = (st.session_state.get(KEY) or {}).get("go")
    if to:
        way = filters.write(filters.read(session.filters(subject.place)))
        st.query_params.update({**way, "feature": to})


def list_main_facts(subject: PanelContext) -> list[tuple[str, str]]:
    """The line under the name."""
    found, tokens = subject.facts, subject.place.file.record.tokens
    if not found.n_active:
        return []
    line = [
        ("density", share(found.density)),
        ("windows", share(found.window_density)),
        ("max", measure(found.max_act)),
        ("mean when active", measure(found.mean_act)),
        ("skew", measure(found.skew, 2)),
        ("active on", f"{count(found.n_active)} of {plural(tokens, 'token')}"),
    ]
    if found.positive and found.negative:
        sides = (found.positive, found.negative)
        plus, minus = (measure(side.max_act) for side in sides)
        line[2] = ("max", f"+{plus} / −{minus}")
        line.insert(1, ("+ / −", " / ".join(share(side.density) for side in sides)))
    return line


def list_warnings(subject: PanelContext) -> list[str]:
    """What to beware of, each with its reason."""
    found, said = subject.facts, []
    if found.density > DENSE_ABOVE:
        said.append(
            f"Dense: active on {share(found.density)} of tokens (more than {share(DENSE_ABOVE)}), "
            "so its strongest contexts may not say what it is for."
        )
    sample = [c for c in subject.contexts if c.stratum == "range"]
    places = {context.peak for context in sample}
    if len(sample) >= MIN_SAMPLED_WINDOWS and len(places) == 1:
        said.append(
            f"Position only: in all {len(sample)} sampled windows it peaks at position "
            f"{places.pop()}, whatever the token."
        )
    return said


def draw_dead_feature(subject: PanelContext) -> None:
    """In place of the panels, for a feature without a single activation."""
    tokens = subject.place.file.record.tokens
    bos = subject.facts.bos_act
    if bos:
        st.markdown(
            ":yellow[BOS only: its activation at the beginning of a sequence is "
            f"{measure(bos)}, and BOS is left out of all counts.]"
        )
    st.write(
        f"This feature never fired in {plural(tokens, 'token')}. Its density is below "
        f"{share(3 / tokens)} (95 % confidence, 3 ÷ {count(tokens)})."
    )
