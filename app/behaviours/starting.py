"""The form that starts circuits in bulk as a job."""

import streamlit as st

from app import session
from app.costly import draw_refusal
from app.jobs import clustering, starting
from app.session import Place
from app.wording import count
from backend.prediction_clusters.cluster_plan import CLUSTERING_METHODS, MAX_TOKENS, ClusterPlan
from feature_store.errors import InputError
from feature_store.jobs import Jobs
from feature_store.null_dictionaries import list_model_dictionaries
from feature_store.permissions import is_costly_work_allowed

PROBLEM = "behaviours_problem"


def form(place: Place) -> None:
    """The fields and the button; nothing where jobs may not be started from here."""
    if not is_costly_work_allowed():
        draw_refusal()
        return
    plan = ClusterPlan()
    with (
        st.form("behaviours_form", border=False),
        st.container(horizontal=True, vertical_alignment="bottom", gap="medium"),
    ):
        st.number_input(
            "Next tokens",
            20,
            MAX_TOKENS,
            plan.tokens,
            100,
            width=130,
            key="behaviours_tokens",
            help="One of a sequence, picked at random.",
        )
        st.number_input(
            "Loss below, nats",
            0.01,
            10.0,
            plan.loss,
            0.1,
            width=140,
            key="behaviours_loss",
            help="So that the model does predict them.",
        )
        st.number_input(
            "Clusters",
            0,
            500,
            plan.clusters,
            width=110,
            key="behaviours_clusters",
            help="0: one for every 15 tokens.",
        )
        st.selectbox(
            "Clustered by",
            list(CLUSTERING_METHODS),
            key="behaviours_method",
            width=260,
            format_func=CLUSTERING_METHODS.__getitem__,
        )
        st.multiselect(
            "Dictionaries",
            list_model_dictionaries(place.file),
            key="behaviours_on",
            placeholder="all",
            width=260,
        )
        st.form_submit_button("Find", type="primary", on_click=start, args=[place])
    if said := st.session_state.pop(PROBLEM, None):
        st.markdown(f":red[{session.literal(said)}]")
    under_way(place)


def start(place: Place) -> None:
    """Callback: the job as the fields say."""
    state = st.session_state
    plan = ClusterPlan(
        tuple(state["behaviours_on"]),
        int(state["behaviours_tokens"]),
        float(state["behaviours_loss"]),
        int(state["behaviours_clusters"]),
        method=state["behaviours_method"],
    )
    try:
        plan.check()
        what = f"{count(plan.tokens)} next tokens of {place.file.record.id}"
        arguments = clustering.arguments(place.file.record.id, plan)
        starting.start(session.store().path, "clusters", arguments, what)
    except InputError as error:
        state[PROBLEM] = str(error)


def under_way(place: Place) -> None:
    """A job of this harvest that is alive, or failed last."""
    latest = Jobs(session.store().path).find_latest("clusters", {"harvest": place.file.record.id})
    if latest is None:
        return
    if latest.is_active:
        st.fragment(_watch, run_every=1.5)(latest.id)
    elif latest.error:
        st.markdown(f":orange[{session.literal(latest.error)}]")


def _watch(job_id: str) -> None:
    job = Jobs(session.store().path).get(job_id)
    if not job.is_active:
        st.rerun()
    share = min(job.done / job.total, 1.0) if job.total else 0.0
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.progress(share, text=session.literal(job.note or job.state), width=420)
        st.page_link(session.JOBS, label="pause or cancel on the Jobs page")
