"""The form that starts a job of explanations or scores: what it will take is said before."""

from dataclasses import replace

import streamlit as st

from app import session
from app.costly import draw_refusal
from app.jobs import watching
from app.jobs.asking import TRIAL_QUESTIONS, Asking
from app.jobs.estimate_words import describe_estimate
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from app.scores import asked, whom
from app.scores.asked import Given
from app.scores.now import JUDGES
from app.session import Place
from autointerp.pipeline.cost_estimate import CostEstimate
from feature_store.annotations import Annotations
from feature_store.errors import InputError
from feature_store.permissions import is_costly_work_allowed

ESTIMATED = "starting_estimated"
"""Of the session: (what a job would be asked, what that takes)."""
TITLES = {"explain": "Explain features", "score": "Score explanations"}
FEATURES = (
    "top:N (most often active, with enough contexts), all, list:NAME, or numbers as 1,2,30-40"
)


def form(here: Place, said: Annotations) -> None:
    """Fields, the estimate, and the button; opened by `start` in the URL."""
    kind = st.query_params.get("start", "")
    with st.expander("Explain or score features", expanded=kind in TITLES):
        if not is_costly_work_allowed():
            draw_refusal()
            return
        st.session_state.setdefault("starting_kind", kind if kind in TITLES else "explain")
        chosen = st.segmented_control(
            "What",
            list(TITLES),
            key="starting_kind",
            required=True,
            label_visibility="collapsed",
            format_func=lambda name: TITLES[name],
        )
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            place = where(here)
            features = st.text_input(
                "Features", "top:500", key="starting_features", width=180, help=FEATURES
            )
            given = (
                explaining(place, features)
                if chosen == "explain"
                else scoring(place, features, said)
            )
        ready(given)


def where(here: Place) -> tuple[str, str]:
    """Harvest and dictionary."""
    names = list(here.file.dictionaries)
    name = st.selectbox(
        "Dictionary",
        names,
        index=names.index(here.info.dictionary),
        key="starting_dictionary",
        width=180,
        help=f"Of harvest {here.file.record.id}; the bar above chooses another one.",
    )
    return here.file.record.id, name


def explaining(place: tuple[str, str], features: str) -> Given | None:
    """What explainers are chosen."""
    table = asked.explainers()
    names = st.multiselect(
        "Explainers",
        list(table),
        default=list(table)[:1],
        key="starting_explainers",
        width=360,
        help="\n\n".join(f"{name}: {text}" for name, text in table.items()),
    )
    return Explaining(*place, features, tuple(names)) if names else None


def scoring(place: tuple[str, str], features: str, said: Annotations) -> Given | None:
    """Scorers, judge, and whose sentences."""
    judge = st.selectbox(
        "Judge", list(JUDGES), key="starting_judge", width=170, format_func=lambda n: JUDGES[n]
    )
    table = asked.scorers(judge)
    names = st.multiselect(
        "Scorers",
        list(table),
        default=asked.USUAL[judge],
        key=f"starting_scorers_{judge}",
        width=360,
        help="\n\n".join(f"{name}: {text}" for name, text in table.items()),
    )
    there = sorted(said.scorable.explainers(place[1]))
    whose = st.selectbox(
        "Explanations by",
        [None, *there],
        key="starting_whose",
        width=180,
        format_func=lambda name: "everybody" if name is None else name or "(no name)",
    )
    return Scoring(*place, features, tuple(names), judge, whose) if names else None


def ready(given: Given | None) -> None:
    """Whom to ask, if anybody; then estimate and start."""
    if given is None:
        st.caption("Choose at least one.")
        return
    paid = asked.asks(given)
    asking = whom.choose("starting", budget=True) if paid else Asking()
    if asking is None:
        return
    given = replace(given, asking=asking)
    found = estimated(given)
    told = describe_estimate(found) if found else ""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if paid:
            st.button("Estimate", key="starting_estimate", on_click=estimate, args=(given,))
        st.button(
            "Start",
            key="starting_start",
            type="primary",
            on_click=begin,
            args=(given, found),
            disabled=paid and not told,
            help="Estimate first: it says how many calls and what cost to expect."
            if paid and not told
            else None,
        )
        if found and found.calls and found.seconds is None:
            st.button(
                f"Measure the time with {TRIAL_QUESTIONS} questions",
                key="starting_trial",
                on_click=begin,
                args=(given, found, True),
                help="Asks a few of the job's own questions and stops. Their replies are kept and "
                "count for the job. Press Estimate again when it has stopped.",
            )
        if told:
            st.caption(session.literal(told), width="content")
        elif not paid:
            st.caption("Nobody is asked: no calls, no cost.", width="content")
    watching.problem()


def estimate(given: Given) -> None:
    """Callback: work out what it takes, or keep the sentence that says why it cannot be."""
    try:
        found = asked.estimate(given)
    except InputError as error:
        st.session_state[watching.ERROR] = str(error)
        return
    st.session_state[ESTIMATED] = (given.to_json(), found)


def estimated(given: Given) -> CostEstimate | None:
    """The estimate of exactly this; None where there is none."""
    of, found = st.session_state.get(ESTIMATED, (None, None))
    return found if of == given.to_json() else None


def begin(given: Given, found: CostEstimate | None, trial: bool = False) -> None:
    """Callback: start it, or only a trial of a few questions; the list below shows it."""
    if trial:
        st.session_state.pop(ESTIMATED, None)
    try:
        asked.start(given, found, trial=trial)
    except InputError as error:
        st.session_state[watching.ERROR] = str(error)


def retry(job_id: str) -> None:
    """Callback: a job for what another one got no usable answer about."""
    try:
        asked.retry(watching.jobs().get(job_id))
    except InputError as error:
        st.session_state[watching.ERROR] = str(error)
