"""All features of a dictionary, to sort, filter and open."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from app import annotations, export, frame, session
from app.annotations import Said
from app.session import Place
from app.tokens import visible
from app.wording import count, plural, share
from feature_store.annotations import Annotations
from feature_store.errors import InputError, pick
from feature_store.reader import HarvestFile

# Stops of the density filter.
STEPS = [0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0]
ANY = float("inf")
# Which features, by how many tokens they fired on.
SHOW = {"alive": (1.0, ANY), "dead": (0.0, 0.0), "all": (0.0, ANY)}
# Column → name, number format, what it means; in the order shown.
COLUMNS = {
    "feature": ("feature", "%d", None),
    "star": ("★", None, "starred"),
    "label": ("label", None, "what people call it"),
    "promoted": ("promotes", None, "tokens whose logits its decoder raises most"),
    "top": ("fires on", None, "the token with the largest share of its activation"),
    "top_token_share": ("share", "%.0f %%", "of its activation on that token, sampled"),
    "density": ("density", "%.3g %%", "share of tokens on which it is active"),
    "window_density": ("windows", "%.3g %%", "share of windows in which it is active"),
    "max_act": ("max", "%.2f", "largest activation, special tokens left out"),
    "mean_act": ("mean", "%.2f", "mean activation where it is active"),
    "skew": ("skew", "%.1f", "of the active values"),
    "kurtosis": ("kurtosis", "%.1f", "of the active values; 3 for a normal distribution"),
    "mean_position": ("position", "%.0f", "mean position in the sequence where it is active"),
    "logit_kurtosis": ("logit kurtosis", "%.1f", "of its direct effects on the vocabulary"),
}
SAID = ("star", "label")
"""Columns that come from the catalog, not from the harvest."""
FLAGS = ("labelled", "starred")
PERCENT = ("top_token_share", "density", "window_density")
Bounds = Mapping[str, tuple[float, float]]


@st.cache_resource(show_spinner=False, max_entries=16)
def readable(
    _file: HarvestFile,
    harvest_id: str,
    dictionary: str,
    limits: tuple[tuple[str, float, float], ...],
) -> pa.Table:
    """The harvest's columns of COLUMNS for the features within `limits`, tokens as text."""
    found = _file.feature_table(dictionary, between={n: (low, high) for n, low, high in limits})
    vocabulary, made = _file.vocabulary, {}
    for column in COLUMNS:
        if column == "top":
            ids = found.column("top_token").to_pylist()
            made[column] = ["" if i is None else visible(vocabulary.text(i)) for i in ids]
        elif column in SAID:
            continue
        elif column == "promoted":
            lists = found.column("promoted").to_pylist()
            made[column] = [
                "  ".join(shown(vocabulary.text(i)) for i in ids or []) for ids in lists
            ]
        else:
            values = found.column(column)
            if column in PERCENT:  # what is absent stays absent
                values = pa.array(values.to_numpy() * 100, from_pandas=True)
            made[column] = values
    return pa.table(made)


def shown(text: str) -> str:
    """A token among others in a cell: its leading space is the gap before it."""
    return visible(text.removeprefix(" ") or text)


@dataclass(frozen=True)
class Choice:
    """Which features are asked for."""

    kind: str
    density: tuple[float, float]
    least: float
    """Least maximum."""
    labelled: bool
    starred: bool


def annotated(data: pa.Table, said: Annotations, dictionary: str, choice: Choice) -> pa.Table:
    """With the columns star and label; only what was said of, where that is asked for."""
    columns = {name: data.column(name) for name in data.column_names}
    features = data.column("feature").to_numpy()
    keep = np.ones(len(features), dtype=bool)
    added: dict[str, pa.Array] = {}
    wanted = {"star": choice.starred, "label": choice.labelled}
    for kind, only in wanted.items():
        rows = said.values(dictionary, kind)  # in order of feature
        known = rows.column("feature").to_numpy()
        at = np.searchsorted(known, features)
        has = np.isin(features, known)
        texts = np.append(rows.column("value").to_numpy(zero_copy_only=False), "")
        values = np.where(has, "★" if kind == "star" else texts[np.where(has, at, -1)], "")
        added[kind] = pa.array(values, pa.string())
        keep &= has | (not only)
    ordered = {name: added.get(name, columns.get(name)) for name in COLUMNS}
    return pa.table(ordered).filter(pa.array(keep))


def chosen() -> Choice:
    """What the URL asks for."""
    given = session.filters()
    kind = given.get("show", "alive")
    pick("choice of features", kind, SHOW)
    low, high, least = (number(given, n, d) for n, d in (("low", 0), ("high", 1), ("max", 0)))
    stops = [min(STEPS, key=lambda step: abs(step - value)) for value in (low, high)]
    labelled, starred = (yes(given, name) for name in ("labelled", "starred"))
    return Choice(kind, (min(stops), max(stops)), max(least, 0.0), labelled, starred)


def yes(given: Mapping[str, str], name: str) -> bool:
    """A filter that is on or absent, out of the URL."""
    if given.get(name, "1") != "1":
        raise InputError(f"{name}={given[name]} is not {name}=1. Take it out of the URL.")
    return name in given


def number(given: Mapping[str, str], name: str, default: float) -> float:
    """A filter's number out of the URL."""
    try:
        return float(given.get(name, default))
    except ValueError as error:
        raise InputError(
            f"{name}={given[name]} is not a number. Take it out of the URL."
        ) from error


def keep() -> None:
    """Callback: the widgets' values go into the URL, which decides in the next run."""
    kind, low, high, least, *flags = (st.session_state[name] for name in session.FILTERS)
    every = {"show": (kind, "alive"), "low": (low, 0), "high": (high, 1), "max": (least, 0)}
    changed = {n: v if n == "show" else f"{v:g}" for n, (v, d) in every.items() if v != d}
    changed |= {name: "1" for name, on in zip(FLAGS, flags, strict=True) if on}
    session.keep_filters(changed)


def filters(choice: Choice) -> Bounds:
    """The filter widgets; their values stand in the URL."""
    low, high = choice.density
    values = (choice.kind, low, high, choice.least, choice.labelled, choice.starred)
    st.session_state.update(zip(session.FILTERS, values, strict=True))
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.segmented_control("Show", list(SHOW), key="show", required=True, on_change=keep)
        stops = {"options": STEPS, "format_func": share, "width": 110, "on_change": keep}
        st.selectbox("Density from", key="low", **stops)
        st.selectbox("to", key="high", **stops)
        st.number_input("Max at least", 0.0, key="max", width=140, on_change=keep)
        for name in FLAGS:
            st.checkbox(name, key=name, on_change=keep, width="content")
    limits: dict[str, tuple[float, float]] = {"n_active": SHOW[choice.kind]}
    if (low, high) != (STEPS[0], STEPS[-1]):
        limits["density"] = (low, high)
    if choice.least:
        limits["max_act"] = (choice.least, ANY)
    return limits


def table(here: Place, limits: Bounds, choice: Choice, said: Said) -> None:
    """The table; a click on any cell opens that row's feature."""
    info = here.info
    packed = tuple((name, low, high) for name, (low, high) in limits.items())
    facts = readable(here.file, here.file.record.id, info.dictionary, packed)
    data = annotated(facts, said.annotations, info.dictionary, choice)
    st.caption(
        f"{count(data.num_rows)} of {plural(info.d_sae, 'feature')}, on "
        f"{plural(here.file.record.tokens, 'token')}. Click a row to open it, a heading to sort."
    )
    if not data.num_rows:
        st.write("No feature passes these filters. Widen one of them.")
        return
    picked = st.dataframe(
        data,
        key="features_table",
        placeholder="–",
        height=max(360, min(2000, 35 * data.num_rows + 40)) if data.num_rows < 12 else 590,
        row_height=28,
        hide_index=True,
        lazy=False,  # a lazy table cannot be clicked or searched
        on_select="rerun",
        selection_mode="single-cell",
        column_config=config(info.signed),
    )
    cells = picked["selection"]["cells"]
    if cells:
        index = data.column("feature")[cells[0][0]].as_py()
        st.switch_page(session.FEATURE, query_params=here.at(index))


def config(signed: bool) -> dict[str, ColumnConfig | str | None]:
    """How Streamlit shows each column."""
    made: dict[str, ColumnConfig | str | None] = {}
    widths = {"star": 40, "label": 170}
    for column, (name, number, hint) in COLUMNS.items():
        if number is None:
            made[column] = st.column_config.TextColumn(name, help=hint, width=widths.get(column))
        else:
            label = f"|{name}|" if signed and column in ("max_act", "mean_act") else name
            made[column] = st.column_config.NumberColumn(label, format=number, help=hint)
    return made


place = session.place()
wanted = chosen()  # what the URL gets wrong is said before anything is drawn
frame.sidebar(place)
bar = frame.bar(place)
st.title(f"Features of {session.literal(place.info.dictionary)}", anchor=False)
bounds = filters(wanted)
with bar:
    export.menu(
        export.table_lines(
            session.store().path, place.file.record.id, place.info.dictionary, bounds
        )
    )
said = annotations.read()
if said.problem:
    st.markdown(f":yellow[{session.literal(f'Labels may be out of date. {said.problem}')}]")
table(place, bounds, wanted, said)
