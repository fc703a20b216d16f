"""The heading of the feature page: label, star, links to the previous, next and random feature,
links to other pages, main facts and warnings."""

import random

import streamlit as st

from app import annotations, components, filters, order, session
from app.panels import notes
from app.panels.panel_context import PanelContext
from app.wording import count, measure, plural, share

DENSE_ABOVE = 0.1
"""A feature that is active on more than this share of tokens gets the warning "Dense"."""
MIN_SAMPLED_WINDOWS = 10
"""The fewest sampled windows from which the warning "Position only" is drawn."""
KEY = "feature_heading"


def draw_heading(panel: PanelContext) -> None:
    """Draw the heading; its links and keys open other features and pages without a reload."""
    out = list_page_links(panel)
    if (leave := (st.session_state.get(KEY) or {}).get("leave")) in out:
        st.switch_page(out[leave][0], query_params=out[leave][1])
    said = panel.catalog.annotations.values_of_feature(panel.id)
    data = {
        "label": said.get("label", ""),
        "starred": "star" in said,
        "writable": panel.catalog.writable,
        "dictionary": panel.id.dictionary,
        "index": panel.id.index,
        **make_navigation(panel),
        "links": [
            {"label": name, "href": session.href(page, query), "hint": hint}
            for name, (page, query, hint) in out.items()
        ],
        "notes": notes.TITLE,
        "facts": list_main_facts(panel),
        "warnings": [*describe_unsaved_changes(panel), *list_warnings(panel)],
    }
    components.heading(
        key=KEY,
        data=data,
        on_go_change=lambda: follow_step(panel),
        on_star_change=lambda: save_star(panel),
        on_leave_change=components.ignore,
    )


def describe_unsaved_changes(panel: PanelContext) -> list[str]:
    """Return a warning for each label, note or star that could not be saved, since the Notes tab
    may be closed."""
    waiting = annotations.unsaved(panel.id)
    return [f"{kind.capitalize()} not saved: {why}" for kind, (_, why) in waiting.items()]


def list_page_links(panel: PanelContext) -> dict[str, tuple[str, dict[str, str], str]]:
    """Return, by link name, the page, its URL parameters and a tooltip of the pages that take up
    this feature."""
    here, place = panel.place.at(panel.id.index), panel.place
    trace = {**place.query, "start": str(panel.id), "method": "trace"}
    return {
        "steer": (session.STEER, here, "Steer the model's completion with this feature."),
        "ablate": (session.ABLATE, here, "Ablate this feature and measure the effect."),
        "circuits": (
            session.CIRCUITS,
            trace,
            "Trace this feature's activation on a prompt to its sources.",
        ),
    }


def save_star(panel: PanelContext) -> None:
    """Callback: save the star after a click or its key."""
    wanted = (st.session_state.get(KEY) or {}).get("star")
    if wanted:
        annotations.say(panel.id, "star", "1" if wanted == "on" else "")


def make_navigation(panel: PanelContext) -> dict[str, object]:
    """Return the links to the previous, next and a random feature of the table of features that the
    visitor came from."""
    place, index = panel.place, panel.id.index
    asked = session.filters(place)
    choice = filters.read(asked)
    session.remember(place, asked)
    way = filters.write(choice)
    found = order.features(place, choice, panel.catalog.annotations)
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
            "hint": f"Back to the table: {filters.words(choice)}",
            "href": session.href(session.FEATURES, {**place.query, **way, **columns, **page}),
        },
    }


def describe_table_position(here: order.Step) -> str:
    """Return the feature's place in the table, such as `12 of 340`."""
    if here.number is None:
        return f"not among {count(here.total)}"
    return f"{count(here.number)} of {count(here.total)}"


def follow_step(panel: PanelContext) -> None:
    """Callback: open the feature of a step and keep the table's filters in the URL."""
    to = (st.session_state.get(KEY) or {}).get("go")
    if to:
        way = filters.write(filters.read(session.filters(panel.place)))
        st.query_params.update({**way, "feature": to})


def list_main_facts(panel: PanelContext) -> list[tuple[str, str]]:
    """Return the facts under the feature's name as (name, value); empty for a feature that never
    fired."""
    found, tokens = panel.facts, panel.place.file.record.tokens
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


def list_warnings(panel: PanelContext) -> list[str]:
    """Return warnings on how to read the feature, each with its reason."""
    found, said = panel.facts, []
    if found.density > DENSE_ABOVE:
        said.append(
            f"Dense: active on {share(found.density)} of tokens (more than {share(DENSE_ABOVE)}), "
            "so its strongest contexts may not show what it stands for."
        )
    sample = [c for c in panel.contexts if c.stratum == "range"]
    places = {context.peak for context in sample}
    if len(sample) >= MIN_SAMPLED_WINDOWS and len(places) == 1:
        said.append(
            f"Position only: in all {len(sample)} sampled windows it peaks at position "
            f"{places.pop()}, at any token."
        )
    return said


def draw_dead_feature(panel: PanelContext) -> None:
    """Draw, instead of the panels, what is known of a feature without a single activation."""
    tokens = panel.place.file.record.tokens
    bos = panel.facts.bos_act
    if bos:
        st.markdown(
            ":yellow[BOS only: its activation at the beginning of a sequence is "
            f"{measure(bos)}, and BOS is left out of all counts.]"
        )
    st.write(
        f"This feature never fired in {plural(tokens, 'token')}. Its density is below "
        f"{share(3 / tokens)} (95 % confidence, 3 ÷ {count(tokens)})."
    )
