"""The form: on what, toward what, by which method; runs as a job."""

from contextlib import suppress

import streamlit as st

from app import session
from app.circuits import fields
from app.circuits.asked import PLACES, PROMPTS, CircuitRequest
from app.circuits.fields import FILE, SOURCES, keep, key, value
from app.circuits.methods import METHODS
from app.costly import draw_costly_button
from app.fields import uploaded
from app.jobs import circuits as job
from app.jobs import starting, watching
from app.session import Place
from app.time_estimates import count_tokens_roughly, draw_estimate
from app.wording import plural
from backend.ablation.ablation_requests import read_prompt_cases
from backend.circuits.records import BASELINE_KINDS
from backend.circuits.task_prompt_pairs import TASK_CORRUPTIONS
from backend.demo.dictionary_plans import MODEL_NAME
from backend.model.run_token_counts import RunTokenCounts, count_circuit_tokens
from feature_store.circuit_graphs import MAX_EDGES, MAX_NODES
from feature_store.errors import InputError
from feature_store.null_dictionaries import list_model_dictionaries

JOB, REFUSED = "circuits_job", "circuits_refused"
"""Of the session: the job that this page waits for; why nothing was started."""
TASK_TOKENS = 30
"""Of a prompt of the demo's tasks, about."""
LARGEST = 4_000_000
"""Bytes of a file: a job's arguments and an experiment hold it whole."""
START = (
    "At the last token where it is active; `resid-2/17@4` at position 4. `head:2.1@14,4` is the "
    "attention score with which position 14 looks at position 4."
)
AT = {"": "as usual", "position": "each position", "ends": "end and rest", "sum": "all tokens"}
NEEDS_PAIRS = ("pairs", "task", "file")


def draw(place: Place) -> None:
    """Fields on the left, method on the right, and the button."""
    left, right = st.columns([1, 1], gap="medium")
    with left:
        prompts(place)
    with right:
        method(place)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        draw_costly_button("Run", run, args=(place,), type="primary", key="circuits_run")
        with suppress(InputError):  # fields that say nothing yet; Run says what they lack
            draw_estimate(place, work_of(place, fields.asked(place)))
        with st.popover("Budget", type="tertiary"):
            st.caption("The strongest nodes and edges are kept, at most so many.")
            st.number_input("Nodes", 1, MAX_NODES, step=50, key=key("nodes"), on_change=keep)
            st.number_input("Edges", 1, MAX_EDGES, step=500, key=key("edges"), on_change=keep)
    if sentence := st.session_state.get(REFUSED):
        st.markdown(f":red[{session.literal(sentence)}]")


def prompts(place: Place) -> None:
    """Where the prompts come from, and the fields of that source."""
    names = [n for n in SOURCES if n != "task" or place.file.record.model == MODEL_NAME]
    st.segmented_control(
        "Prompts from",
        names,
        key=key("source"),
        required=True,
        on_change=turned,
        format_func=SOURCES.__getitem__,
        label_visibility="collapsed",
    )
    source = value("source")
    if source == "task":
        with st.container(horizontal=True, gap="small"):
            st.selectbox(
                "Task",
                list(TASK_CORRUPTIONS),
                key=key("task"),
                on_change=keep,
                width=200,
                format_func=lambda name: name.replace("_", " "),
            )
            st.number_input("Prompts", 2, PROMPTS, step=2, key=key("n"), on_change=keep, width=120)
            st.number_input("Seed", 0, 10_000, step=1, key=key("seed"), on_change=keep, width=100)
        st.caption("Pairs of prompts that differ in what decides the answer, with their answers.")
        return
    if source == "file":
        file()
    else:
        typed(paired=source == "pairs")
    target()


def turned() -> None:
    """Callback: other prompts; pairs are there to take values from."""
    keep()
    if value("source") in ("pairs", "task"):
        fields.put(baseline="pair")


def typed(*, paired: bool) -> None:
    """Prompts, and their corrupt twins; or those in which a behaviour is not possible."""
    beside = "Its corrupt twin, as many tokens long"
    if value("method") == "head-codes":
        beside = "One that cannot show the behaviour: what decides the answer is taken out"
    for part, (name, hint) in zip(
        st.columns(2 if paired else 1, gap="small"),
        (("prompts", "One prompt a line; \\n for a line break"), ("corrupt", beside)),
        strict=False,
    ):
        part.text_area(
            name,
            key=key(name),
            height=96,
            on_change=keep,
            placeholder=hint,
            label_visibility="collapsed",
        )


def target() -> None:
    """What should follow, and what should not; or a feature."""
    able = METHODS[value("method")].targets
    with st.container(horizontal=True, gap="small"):
        if "token" in able:
            for name, hint in (("target", "the likeliest"), ("against", "none")):
                st.text_input(
                    name,
                    key=key(name),
                    on_change=keep,
                    placeholder=hint,
                    width=130,
                    help="One token behind the prompt, its space included. A line of prompts may "
                    "carry its own instead: `prompt | answer | wrong`.",
                )
        if "feature" in able:
            st.text_input(
                "or a feature",
                key=key("start"),
                on_change=keep,
                width=170,
                placeholder="DICTIONARY/INDEX",
                help=START,
            )


def method(place: Place) -> None:
    """Which algorithm, with what it needs."""
    with st.container(horizontal=True, gap="small"):
        st.selectbox("Method", list(METHODS), key=key("method"), on_change=keep, width=190)
        one = METHODS[value("method")]
        if one.baseline:
            ways = [b for b in BASELINE_KINDS if b != "pair" or value("source") in NEEDS_PAIRS]
            if value("baseline") not in ways:
                fields.put(baseline="zero")
            st.selectbox(
                "Baseline",
                ways,
                key=key("baseline"),
                on_change=keep,
                width=120,
                help="Where nodes go when they are taken away.",
            )
            if value("source") != "task":
                st.selectbox(
                    "Nodes at",
                    ["", *PLACES],
                    key=key("places"),
                    on_change=keep,
                    width=130,
                    format_func=AT.__getitem__,
                )
    st.caption(one.hint[:1].upper() + one.hint[1:] + ".")
    names = list_model_dictionaries(place.file)
    st.multiselect(
        "Dictionaries",
        names,
        key=key("dictionaries"),
        on_change=keep,
        placeholder=f"all {len(names)} dictionaries",
        label_visibility="collapsed",
    )


def file() -> None:
    """A file of prompts."""
    held = st.session_state.get(FILE)
    if held:
        st.markdown(f"{plural(len(held[1]), 'prompt')} of {session.literal(held[0])}")
        st.button("Choose another", type="tertiary", on_click=st.session_state.pop, args=(FILE,))
        return
    st.file_uploader(
        "Prompts", type=["jsonl"], key=key("upload"), on_change=upload, label_visibility="collapsed"
    )
    st.caption("An object a line: prompt, answer, wrong, and if you like pair.")


def upload() -> None:
    """Callback: a file's cases, or why it has none."""
    try:
        given = uploaded(key("upload"), LARGEST)
        if given is None:
            return
        st.session_state[FILE] = (given[0], read_prompt_cases(*given))
    except InputError as error:
        st.session_state[REFUSED] = str(error)


def work_of(place: Place, asked: CircuitRequest) -> RunTokenCounts:
    """Count the passes that a circuit will take."""
    tokens = sum(count_tokens_roughly(case.prompt) for case in asked.cases)
    if asked.task:
        tokens = asked.n_prompts * TASK_TOKENS
    names = asked.dictionaries or tuple(place.file.dictionaries)
    return count_circuit_tokens(tokens, len(names), asked.method)


def run(place: Place) -> None:
    """Callback: begin the job, or say why not."""
    st.session_state.pop(REFUSED, None)
    try:
        asked = fields.asked(place)
        about = asked.task.replace("_", " ") or asked.cases[0].prompt[-40:]
        given = job.arguments(place.file.record.id, asked.to_json())
        what = f"{asked.method} of “{about}”"
        st.session_state[JOB] = starting.start(session.store().path, "circuit", given, what).id
    except InputError as error:
        st.session_state[REFUSED] = str(error)


def under_way() -> str:
    """The id of the circuit that was waited for, when it is there; meanwhile how far it is."""
    if JOB not in st.session_state:
        return ""
    try:
        found = watching.jobs().get(st.session_state[JOB])
    except InputError:  # deleted elsewhere
        st.session_state.pop(JOB)
        return ""
    if found.is_active:
        watching.watch(found.id)
        return ""
    st.session_state.pop(JOB)
    if found.state != "done":
        st.session_state[REFUSED] = found.error or f"The job was {found.state}."
        st.rerun()
    return str(found.result["experiment"])
