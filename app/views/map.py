"""A dictionary's features as points: those that write alike stand near each other."""

import shlex
from typing import Any

import numpy as np
import streamlit as st

from app import (
    annotations,
    collecting,
    columns,
    components,
    filters,
    frame,
    scatter,
    session,
    theme,
)
from app.annotations import Said
from app.costly import draw_costly_button
from app.jobs import mapping, starting, watching
from app.points import Cluster, Points
from app.session import Place
from app.wording import count, plural, share
from feature_store import feature_table
from feature_store.errors import InputError, pick_by_name
from feature_store.feature_maps import FeatureMap, FeatureMapPlan, FeatureMaps
from feature_store.jobs import Job
from feature_store.number_ranges import join_ranges
from feature_store.records import FeatureId

KIND = "map"
KEYS = {"colour": "map_colour", "mark": "map_mark"}
"""Parameter of the URL → key of its widget."""
USUAL = {"colour": "density", "mark": ""}
SHOWN = 200
"""Rows of a selection that are shown."""
CLUSTERS = 300
"""Rows of the list of clusters."""


def asked() -> tuple[str, str]:
    """The colour and the words to mark, from the URL."""
    colour = st.query_params.get("colour", USUAL["colour"])
    pick_by_name("colour", colour, scatter.COLOURS)
    return colour, st.query_params.get("mark", "")


def keep() -> None:
    """Callback: the widgets' values go into the URL, which decides in the next run."""
    values = {name: st.session_state[key] for name, key in KEYS.items()}
    changed = {name: text for name, text in values.items() if text and text != USUAL[name]}
    others = {n: v for n, v in st.query_params.to_dict().items() if n not in KEYS}
    st.query_params.from_dict({**others, **changed})


@st.cache_resource(show_spinner=False, max_entries=8)
def read(_place: Place, _made: FeatureMap, _said: Said, stamp: tuple[Any, ...]) -> Points:
    """The points, kept until the map or what was said changes."""
    return Points.read(_place.file, _made, _said.annotations)


def points_of(here: Place, made: FeatureMap, said: Said) -> Points:
    """The points of a dictionary's map."""
    changed = maps.file_path(here.file.record.id, here.info.dictionary).stat().st_mtime_ns
    newest = said.annotations.all_rows.num_rows  # rows are only ever added
    return read(here, made, said, (*here.query.values(), changed, newest))


def compute(here: Place) -> None:
    """Callback: begin the job."""
    given = mapping.arguments(here.file.record.id, here.info.dictionary, FeatureMapPlan())
    try:
        starting.start(session.store().path, KIND, given, here.info.dictionary)
    except InputError as error:
        st.session_state[watching.ERROR] = str(error)


def latest(here: Place) -> Job | None:
    """The newest job for this map."""
    given = {"harvest": here.file.record.id, "dictionary": here.info.dictionary}
    return watching.jobs().find_latest(KIND, given)


def absent(here: Place) -> None:
    """In place of a map: the way to one."""
    job = latest(here)
    watching.problem()
    if job and job.is_active:
        watching.watch(job.id)
        return
    if job and job.state in ("failed", "lost", "cancelled", "stopped"):
        why = f": {job.error}" if job.error else ""
        st.markdown(f":yellow[{session.literal(f'The last try was {job.state}{why}')}]")
    st.write("This dictionary has no map yet. It takes half a minute for some thousand features.")
    draw_costly_button("Compute the map", compute, args=(here,))
    st.caption("or in a terminal:")
    words = ["--store", str(session.shown_store()), "--dictionary", here.info.dictionary]
    words += ["--harvest", here.file.record.id]
    st.code(f"saefari map {shlex.join(words)}", language="shell")


def controls(points: Points, colour: str, words: str) -> np.ndarray:
    """The widgets; gives which points the words mark."""
    for (name, key), value in zip(KEYS.items(), (colour, words), strict=True):
        if st.session_state.get(key) != value:
            st.session_state[key] = value
        _ = name
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.segmented_control(
            "Colour",
            list(scatter.COLOURS),
            key=KEYS["colour"],
            required=True,
            on_change=keep,
            format_func=lambda name: scatter.COLOURS[name].title,
            label_visibility="collapsed",
        )
        st.text_input(
            "Mark",
            key=KEYS["mark"],
            on_change=keep,
            placeholder="mark: label, token or number",
            label_visibility="collapsed",
            width=240,
            max_chars=100,
        )
        marked = points.matching(words)
        if words.strip():
            st.caption(f"{count(int(marked.sum()))} marked", width="content")
        if colour == "score" and np.isnan(points.numbers["score"]).all():
            st.caption("No feature here has a score yet.", width="content")
    return marked


def drawn(points: Points, groups: list[Cluster], colour: str, marked: np.ndarray) -> list[int]:
    """The picture; gives the features that were selected in it. A click opens its feature."""
    picture = scatter.figure(points, groups, colour, marked, theme.palette(st.context.theme.type))
    event = st.plotly_chart(
        picture,
        theme=None,
        key="map_plot",
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
        config={
            "displaylogo": False,
            "scrollZoom": True,
            "displayModeBar": True,
            "modeBarButtonsToRemove": ["toImage", "autoScale2d"],
        },
    )
    selection = event["selection"]
    features = sorted({int(first(point["customdata"])) for point in selection["points"]})
    if len(features) == 1 and not (selection.get("box") or selection.get("lasso")):
        st.switch_page(session.FEATURE, query_params=place.at(features[0]))
    return features


def first(value: Any) -> Any:
    """A point's feature, however the chart wraps it."""
    if isinstance(value, dict):
        return next(iter(value.values()))
    return value[0] if isinstance(value, list | tuple) else value


def listed(points: Points, groups: list[Cluster]) -> Cluster | None:
    """The clusters, to choose one of."""
    st.caption(
        "clusters of the picture, named by the token that most members promote (of five each), "
        "or their commonest label"
    )
    density = points.numbers["density"]
    rows = {
        "name": [one.name for one in groups[:CLUSTERS]],
        "features": [len(one.members) for one in groups[:CLUSTERS]],
        "sharing it": [one.sharing for one in groups[:CLUSTERS]],
        "density": [share(float(np.median(density[g.members]))) for g in groups[:CLUSTERS]],
    }
    picked = st.dataframe(
        rows,
        key="map_clusters",
        hide_index=True,
        row_height=28,
        height=scatter.HEIGHT_PX - 60,
        on_select="rerun",
        selection_mode="single-row",
        lazy=False,
        column_config={"density": st.column_config.TextColumn("density", help="median")},
    )
    chosen = picked["selection"]["rows"]
    return groups[chosen[0]] if chosen and chosen[0] < len(groups) else None


def selection(here: Place, features: list[int], said: Said) -> None:
    """The selected features, as the table of features has them."""
    names, shown = columns.usual(), np.array(features[:SHOWN], dtype=np.int32)
    found = feature_table.read_feature_rows(
        here.file, here.info.dictionary, shown, names, said.annotations
    )
    vocabulary = here.file.vocabulary
    cells = [columns.written(n, found.column(n).to_pylist(), vocabulary) for n in names]
    lines = [
        {
            "href": session.href(session.FEATURE, here.at(index)),
            "target": str(index),
            "cells": row,
            "steer": session.href(session.STEER, here.at(index)),
        }
        for index, *row in zip(shown.tolist(), *cells, strict=True)
    ]
    heads = [head(name, signed=here.info.signed) for name in names]
    told = f"the first {count(SHOWN)} of " if len(features) > SHOWN else ""
    clicked = components.table(
        key="map_table",
        data={
            "columns": heads,
            "rows": [{**line, "cells": list(line["cells"])} for line in lines],
            "said": f"{told}{plural(len(features), 'feature')} selected",
            "pages": [],
        },
        on_go_change=components.ignore,
        on_steer_change=components.ignore,
    )
    if clicked.steer:
        st.switch_page(session.STEER, query_params=here.at(int(clicked.steer)))
    if clicked.go:
        st.switch_page(session.FEATURE, query_params=here.at(int(clicked.go)))
    with st.container(horizontal=True, gap="small"):
        if len(features) <= filters.MOST:
            st.page_link(
                session.FEATURES,
                label="Open these in the table",
                query_params={**here.query, "only": join_ranges(features)},
            )
        ids = [FeatureId(here.info.dictionary, index) for index in features]
        collecting.menu(ids, "map", said)


def head(name: str, *, signed: bool) -> dict[str, object]:
    """A heading of the selection; it does not sort, the table that it leads to does."""
    column = columns.COLUMNS[name]
    kind = "number" if column.kind in columns.NUMERIC else column.kind
    title = columns.title(name, signed=signed)
    return {
        "title": title,
        "kind": kind,
        "hint": column.hint,
        "order": "",
        "sort": None,
        "href": "",
    }


def about(made: FeatureMap) -> str:
    """What the picture rests on."""
    how = made.about
    parts = [
        plural(len(made.feature), "feature"),
        f"UMAP of decoder directions by cosine, {how.neighbours} neighbours, seed {how.seed}",
        *([f"neighbours in {how.reduced_to} main axes"] if how.reduced_to else []),
        *([f"{count(how.left_out)} left out: never fired, or zero"] if how.left_out else []),
        "near means alike; axes and long distances mean nothing",
        "click opens, scroll zooms, lasso and box select",
    ]
    return " · ".join(parts)


def page(here: Place, made: FeatureMap) -> None:
    """The map and what is selected in it."""
    said = annotations.read()
    points = points_of(here, made, said)
    groups = points.clusters
    marked = controls(points, *wanted)
    left, right = st.columns([5, 2], gap="medium")
    with right:
        cluster = listed(points, groups) if groups else None
    if cluster is not None:
        marked = np.zeros(len(marked), dtype=bool)
        marked[cluster.members] = True
    with left:
        features = drawn(points, groups, wanted[0], marked)
    st.caption(about(made))
    if cluster is not None and not features:
        features = points.map.feature[np.sort(cluster.members)].tolist()
    if not features and wanted[1].strip():
        features = points.map.feature[marked].tolist()
    if features:
        selection(here, features, said)
    job = latest(here)
    if job and job.is_active:
        watching.watch(job.id)


place = session.place()
wanted = asked()  # what the URL gets wrong is said before anything is drawn
maps = FeatureMaps(session.store().path)
frame.sidebar(place)
frame.bar(place)
st.title(f"Map of {session.literal(place.info.dictionary)}", anchor=False)
found = maps.find(place.file.record.id, place.info.dictionary)
if found is None or found.about.weights_hash != place.info.weights_hash:
    absent(place)
else:
    page(place, found)
