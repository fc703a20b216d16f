"""Explain or score the feature one is looking at: a job of this one feature, seen to its end."""

import shlex
from dataclasses import replace

import streamlit as st

from app import session
from app.jobs import watching
from app.jobs.asking import Asking
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from app.panels.panel_context import PanelContext
from app.scores import asked, whom, words
from autointerp.scorers.scorer_interface import LLM_JUDGE, PATTERN_JUDGE
from feature_store.errors import InputError
from feature_store.jobs import Job
from feature_store.permissions import is_costly_work_allowed

JUDGES = {PATTERN_JUDGE: "patterns in the label", LLM_JUDGE: "a language model"}


def offers(subject: PanelContext, *, explained: bool) -> None:
    """Draw the Explain and Score buttons and the state of this feature's last job."""
    if is_costly_work_allowed() and subject.catalog.writable:
        with st.container(horizontal=True, gap="large", vertical_alignment="bottom"):
            explain_now(subject)
            if explained:
                score_now(subject)
    progress(subject)
    watching.problem()


def explain_now(subject: PanelContext) -> None:
    """Draw the choice of an explainer and the button Explain now."""
    table = asked.explainers()
    with st.container(width=330, gap="xxsmall"):
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            name = st.selectbox(
                "Explainer",
                list(table),
                key="explain_by",
                width=180,
                help="pattern and nearest-text need no language model; the others ask one.",
            )
            place = st.empty()
        given = Explaining(*address(subject), (name,))
        found = whom.choose("explain") if asked.asks(given) else Asking()
        place.button(
            "Explain now",
            key="explain_now",
            on_click=begin,
            disabled=found is None,
            args=(given, found),
            help=session.literal(table[name]),
        )


def score_now(subject: PanelContext) -> None:
    """Draw the choice of judge and scorers and the button Score now."""
    with st.container(width=680, gap="xxsmall"):
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            judge = st.selectbox(
                "Judge",
                list(JUDGES),
                key="score_judge",
                format_func=lambda name: JUDGES[name],
                width=150,
            )
            names = st.multiselect(
                "Scorers",
                list(asked.scorers(judge)),
                key=f"score_by_{judge}",
                default=asked.USUAL[judge],
                width=300,
            )
            place = st.empty()
        given = Scoring(*address(subject), tuple(names), judge)
        found = whom.choose("score") if names and asked.asks(given) else Asking()
        place.button(
            "Score now",
            key="score_now",
            on_click=begin,
            disabled=not names or found is None,
            args=(given, found),
            help="Score the explanations on windows of the score split, next to baseline labels.",
        )


def address(subject: PanelContext) -> tuple[str, str, str]:
    """Return harvest, dictionary and feature as the arguments of a job."""
    return subject.place.file.record.id, subject.id.dictionary, str(subject.id.index)


def begin(given: asked.Given, found: Asking | None) -> None:
    """Callback: start the job, or keep the error that prevented it."""
    if found is None:
        return
    try:
        asked.start(with_asking(given, found))
    except InputError as error:
        st.session_state[watching.ERROR] = str(error)


def with_asking(given: asked.Given, found: Asking) -> asked.Given:
    """Return the arguments of a job with the settings of its language model."""
    return replace(given, asking=found)


def latest(subject: PanelContext) -> Job | None:
    """Return the active job of this feature, or else its newest job."""
    harvest, dictionary, features = address(subject)
    mine = {"harvest": harvest, "dictionary": dictionary, "features": features}
    known = [watching.jobs().find_latest(kind, mine) for kind in asked.KINDS]
    there = sorted((job for job in known if job), key=lambda job: (job.is_active, job.created))
    return there[-1] if there else None


def progress(subject: PanelContext) -> None:
    """Draw the progress of the job, and after its end a sentence if something failed."""
    job = latest(subject)
    if job is None:
        return
    if job.is_active:
        watching.watch(job.id)
    elif sentence := outcome(job):
        st.markdown(f":yellow[{session.literal(sentence)}]")


def outcome(job: Job) -> str:
    """Return a sentence on what failed in a job; empty if nothing did."""
    verb = "Explaining" if job.kind == "explain" else "Scoring"
    if job.state != "done":
        how = "failed" if job.state == "failed" else f"was {job.state}"
        return f"{verb} {how}. {job.error}".strip()
    if reasons := [str(words.REASONS.get(name, name)) for name in job.result.get("skipped", {})]:
        return f"{verb} left this feature out: {', '.join(reasons)}."
    if failed := asked.failed_of(job):
        return f"{verb}: {failed} without a usable answer; the Jobs page has the log."
    if stopped := job.result.get("stopped"):
        return f"{verb} stopped: {stopped}"
    return ""


def commands(subject: PanelContext) -> list[str]:
    """Return the commands that explain and score this feature in a terminal."""
    harvest, dictionary, feature = address(subject)
    store = str(session.shown_store())
    more = ["--store", store, "--dictionary", dictionary, "--harvest", harvest]
    more += ["--features", feature]
    return [f"saefari explain {shlex.join(more)}", f"saefari score {shlex.join(more)}"]
