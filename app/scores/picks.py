"""What the Scores page shows, as the URL says it: whose sentences, which score, which part."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app import filters, session
from app.scores.read import Series
from app.session import Place
from app.wording import plural
from feature_store.number_ranges import join_ranges

BY, SCORER = "by", "scorer"
"""Parameters of the URL."""
STEP = 0.05


def explainer(found: Sequence[Series]) -> str:
    """Whose scores are drawn; where nobody chose, whose first score has most features, or does
    best on as many."""
    firsts = {one.by: one for one in reversed(found)}
    names = sorted(firsts)

    def size(name: str) -> tuple[int, float]:
        kept = firsts[name].value[firsts[name].valued]
        return len(kept), float(kept.mean()) if len(kept) else 0.0

    return chosen("Explainer", names, BY, max(names, key=size))


def scorer(mine: Sequence[Series]) -> Series:
    """Of which score the ends are shown."""
    named = {title(one, mine): one for one in mine}
    return named[chosen("Score", list(named), SCORER, next(iter(named)))]


def title(one: Series, mine: Sequence[Series]) -> str:
    """A scorer, with its judge where there are several."""
    several = sum(other.scorer == one.scorer for other in mine) > 1
    return f"{one.scorer} by {one.judge}" if several else one.scorer


def chosen(label: str, names: list[str], parameter: str, usual: str) -> str:
    """A choice that stands in the URL; nothing is drawn where there is only one."""
    given = st.query_params.get(parameter, usual)
    value = given if given in names else usual
    if given != value:
        sentence = unknown(label, given, names, value)
        st.markdown(f":yellow[{session.literal(sentence)}]")
    if len(names) == 1:
        return value
    key = f"scores_{parameter}"
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    st.segmented_control(
        label,
        names,
        key=key,
        required=True,
        on_change=keep,
        args=(key, parameter),
        label_visibility="collapsed",
        format_func=session.literal,
    )
    return value


def unknown(label: str, given: str, names: Sequence[str], value: str) -> str:
    """What is to be said of a link that asks for what is not there."""
    what = label.lower()
    return (
        f"The link asks for the {what} {given[:60]!r}, which has no scores here. There are: "
        f"{', '.join(names)}. Shown is {value}."
    )


def keep(key: str, parameter: str) -> None:
    """Callback: into the URL."""
    st.query_params[parameter] = st.session_state[key]


def follow(key: str) -> None:
    """Callback of the table of means: show the explainer that was clicked."""
    if target := (st.session_state.get(key) or {}).get("go"):
        st.query_params[BY] = target


def between(here: Place, one: Series) -> None:
    """A range of values, and the features in it as the table of features has them."""
    values = one.value[one.valued]
    if not len(values):
        return
    ends = float(np.floor(values.min() / STEP) * STEP), float(np.ceil(values.max() / STEP) * STEP)
    ends = round(ends[0], 2), round(max(ends[1], ends[0] + STEP), 2)
    low, high = st.slider(
        "Scores from … to …",
        *ends,
        ends,
        STEP,
        key=f"scores_between_{one.by}_{one.scorer}",
        width=420,
    )
    inside = one.valued & (one.value >= low - 1e-9) & (one.value <= high + 1e-9)
    in_table(here, one.feature[inside], "with such a score")


def in_table(here: Place, features: np.ndarray, which: str) -> None:
    """A link to these features in the table, as many as a URL may name."""
    if not len(features):
        st.caption(f"No feature {which}.")
        return
    if len(features) > filters.MOST:
        n = plural(len(features), "feature")
        st.caption(f"{n} {which}: too many for a link, narrow it to {filters.MOST}.")
        return
    query = {**here.query, "only": join_ranges(features.tolist()), "sort": "score"}
    label = f"Open {plural(len(features), 'feature')} {which} in the table"
    st.page_link(session.FEATURES, label=label, query_params=query)
