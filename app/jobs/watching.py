"""How a page shows a job: one line with progress, and what can be done about it."""

import streamlit as st

from app import session
from app.jobs.starting import resume
from app.wording import THIN, count
from feature_store.errors import InputError
from feature_store.jobs import RESUMABLE, Job, Jobs
from feature_store.permissions import is_costly_work_allowed, require_costly_work_allowed

POLL_S = 1.0
"""A run of a fragment that the next one cuts short can leave Streamlit's page half drawn."""
ASKED = {"pause": "pausing", "cancel": "cancelling"}
ERROR = "jobs_error"
"""Of the session: why the last thing that was asked could not be done."""


@st.cache_resource(show_spinner=False)
def _jobs(path: str) -> Jobs:
    return Jobs(session.store().path)


def jobs() -> Jobs:
    """The jobs of this process's store."""
    return _jobs(str(session.store().path))


def state(job: Job) -> str:
    """How it stands, in a word; what it was asked and has not done yet."""
    return ASKED.get(job.requested_action, job.state)


def step(job: Job) -> str:
    """The stage, how far it is, and how long that will take."""
    steps = f"{count(job.done)} of {count(job.total)}" if job.total > 1 else ""
    return " · ".join(filter(None, [job.note, steps, left(job)]))


def left(job: Job) -> str:
    """The time that the present stage still takes, at its pace so far."""
    if job.eta_s is None or job.state != "running":
        return ""
    seconds = round(job.eta_s)
    of = " of this stage" if job.note else ""
    if seconds < 90:
        return f"{seconds}{THIN}s left{of}"
    minutes = round(seconds / 60)
    hours = round(minutes / 60)
    return f"{minutes}{THIN}min left{of}" if minutes < 90 else f"{hours}{THIN}h left{of}"


def ask(what: str, job_id: str) -> None:
    """Callback of a button: do it, or keep the sentence that says why not."""
    store = session.store().path
    try:
        require_costly_work_allowed()
        job = jobs().get(job_id)
        if what == "resume":
            jobs().unpause(job) if job.is_active else resume(store, job)
        else:
            {"pause": jobs().pause, "cancel": jobs().cancel, "delete": jobs().delete}[what](job)
    except InputError as error:
        st.session_state[ERROR] = str(error)


def offers(job: Job) -> list[str]:
    """What can be asked of it now, names of `ask`."""
    if job.requested_action == "cancel":
        return []
    if job.is_active:
        return [
            "resume" if job.state == "paused" or job.requested_action == "pause" else "pause",
            "cancel",
        ]
    return [*(["resume"] if job.state in RESUMABLE else []), "delete"]


def problem() -> None:
    """Say what could not be done, once."""
    if sentence := st.session_state.pop(ERROR, None):
        st.markdown(f":red[{session.literal(sentence)}]")


def watch(job_id: str) -> None:
    """A job's progress in the page that started it; runs the page again when it is over."""
    st.fragment(_watch, run_every=POLL_S)(job_id)


def _watch(job_id: str) -> None:
    try:
        job = jobs().get(job_id)
    except InputError:  # deleted elsewhere
        st.rerun()
    if not job.is_active:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        share = min(job.done / job.total, 1.0) if job.total else 0.0
        said = ": ".join(filter(None, [state(job), step(job) or "starting"]))
        st.progress(share, text=session.literal(said), width=420)
        for what in offers(job) if is_costly_work_allowed() else []:
            st.button(what, key=f"watch_{what}", on_click=ask, args=[what, job_id], type="tertiary")
    problem()


def link(query: dict[str, str]) -> None:
    """The way to the jobs, with how many were at work when the page was drawn."""
    n = len(jobs().list_active())
    label = f"Jobs {THIN}{n}" if n else "Jobs"
    st.page_link(session.JOBS, label=label, query_params=query, width="stretch")
