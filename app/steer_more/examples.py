"""Toward examples: which few features make the model write texts like these?"""

import threading
from functools import partial
from typing import Any

import streamlit as st

from app import live, session
from app.costly import draw_costly_button
from app.steer import link
from app.steer_more import pushes, task
from app.steering import SteeringTabContext
from app.wording import count, measure, plural, share, signed
from backend.generation.steering_request import SteeringRequest
from backend.interventions.records import Edit
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

TITLE = "toward examples"
USUAL = {"examples_m": 5, "examples_penalty": 0.3}
TASK, WANTED = "examples_task", task.Wanted("examples")


def draw(subject: SteeringTabContext) -> None:
    """The tab."""
    st.caption(
        "A few texts that the model should write behind the prompt, one a line. Features are "
        "sought whose constant push at every ordinary token makes them likelier; from 4 texts on "
        "every second one is kept back to judge by."
    )
    for name, usual in USUAL.items():
        st.session_state.setdefault(name, usual)
    st.text_area(
        "texts",
        key="examples_texts",
        height=110,
        label_visibility="collapsed",
        placeholder=" went to the park and played on the swings.",
    )
    names = list(subject.place.file.dictionaries)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.multiselect(
            "dictionaries",
            names,
            default=[subject.place.info.dictionary],
            key="examples_on",
            width=360,
        )
        st.number_input("at most features", 1, 32, key="examples_m", width=140)
        st.number_input(
            "penalty",
            0.0,
            0.95,
            step=0.05,
            key="examples_penalty",
            width=120,
            help="λ of Σ|push ÷ length of the stream|, as a share of the smallest at "
            "which nothing enters.",
        )
        draw_costly_button("seek ▶", WANTED.ask, key="examples_run")
    WANTED.begin(subject.place.file, partial(begin, subject))
    results(subject)


def begin(subject: SteeringTabContext, engine: Any) -> None:
    """Start what the fields say. InputError for what cannot be."""
    state = st.session_state
    given = {
        "texts": [line for line in state["examples_texts"].splitlines() if line.strip()],
        "dictionaries": list(state["examples_on"]),
        "m": int(state["examples_m"]),
        "penalty": float(state["examples_penalty"]),
    }
    if not given["texts"]:
        raise InputError("Write at least one text that the model should write, one a line.")
    if not given["dictionaries"]:
        raise InputError("Choose at least one dictionary to seek features in.")
    asked = subject.setting.asked(bos=engine.bos is not None)
    request = {**asked.to_json(), "edits": [], "examples": given}
    st.session_state.pop(link.OTHER, None)
    file = subject.place.file
    task.begin(
        TASK,
        request,
        lambda mine: answer(engine, file, request, mine.tell, mine.ticket.stop),
    )


def answer(
    engine: Any,
    file: HarvestFile,
    request: task.Plain,
    tell: task.Tell = task.quiet,
    stop: threading.Event | None = None,
) -> dict[str, Any] | None:
    """What a request seeks, as plain data; None where it was stopped."""
    from backend.steering.features_from_examples import ExamplesRequest, find_features_from_examples

    given = request["examples"]
    asked = SteeringRequest.from_json({k: v for k, v in request.items() if k != "examples"})
    start, texts = tokens(engine, asked, given["texts"])
    alive = {}
    for name in given["dictionaries"]:
        fired = file.feature_table(name)["n_active"].to_numpy() > 0
        alive[name] = fired
    found = find_features_from_examples(
        engine.lm,
        {name: engine.dictionaries[name] for name in given["dictionaries"]},
        ExamplesRequest(start, texts, m=given["m"], penalty=given["penalty"]),
        alive=alive,
        report=tell,
        stop=stop,
    )
    if found is None:
        return None
    back = found.kept_back
    return {
        "pushes": [{**vars(one), "feature": str(one.feature)} for one in found.pushes],
        "fitted": vars(found.fitted),
        "kept_back": None if back is None else vars(back),
        "candidates": found.candidates,
        "entered": found.entered,
    }


def tokens(
    engine: Any, asked: SteeringRequest, lines: list[str]
) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    """The prompt, and each text as it follows it; InputError where the two join in one token."""
    from backend.attribution.target_metric import (
        tokenize_continuation,
        tokenize_without_special_tokens,
    )
    from backend.generation import generation_run
    from backend.generation.prompt_tokenization import PromptTokens

    tokenizer, prompt = engine.lm.tokenizer, asked.prompt
    if not prompt and engine.lm.bos is not None:
        start = PromptTokens((engine.lm.bos,))
        return start, tuple(
            tuple(tokenize_without_special_tokens(tokenizer, line.strip())) for line in lines
        )
    start = generation_run.tokenize_prompt(engine.lm, asked)
    if not isinstance(prompt, str):
        return start, tuple(
            tuple(tokenize_without_special_tokens(tokenizer, line.strip())) for line in lines
        )
    joined = [line if line[0].isspace() or not line[0].isalnum() else f" {line}" for line in lines]
    return start, tuple(tuple(tokenize_continuation(tokenizer, prompt, line)) for line in joined)


def results(subject: SteeringTabContext) -> None:
    """What was just found, else what the link opened."""
    done, other = task.watch(TASK), link.opened_below()
    if other is not None and other.kind == "examples":
        show(subject, other.request, other.result)
    elif done and done.result:
        engine: Any = live.at_hand(subject.place.file)
        if engine is not None:
            names = set(done.request["examples"]["dictionaries"])
            task.keep_it(done, "examples", subject.place, engine, names)
        show(subject, done.request, done.result)
        task.foot(done, TITLE)


def show(subject: SteeringTabContext, request: task.Plain, result: task.Plain) -> None:
    """The features, and what they do to the loss."""
    found = result["pushes"]
    given = request["examples"]
    said = [
        f"on the {plural(result['fitted']['texts'], 'text')} fitted to: {losses(result['fitted'])}"
    ]
    if result["kept_back"]:
        back = result["kept_back"]
        said.append(f"on the {plural(back['texts'], 'text')} kept back: {losses(back)}")
    st.markdown(session.literal("Loss " + "; ".join(said) + "."))
    if found:
        pushes.table(
            "examples_table",
            subject,
            [one["feature"] for one in found],
            {
                "strength": [signed(one["strength"], 3) for one in found],
                "push ÷ ‖h‖": [measure(one["length"], 2) for one in found],
                "Δ loss alone": [signed(one["alone"]) for one in found],
                "Δ loss without it": [signed(one["without"]) for one in found],
            },
        )
        edits = [Edit("add", (FeatureId.parse(one["feature"]),), one["strength"]) for one in found]
        pushes.offer("examples_use", "use these", edits)
    else:
        st.caption("No feature makes these texts likelier at this penalty: choose a smaller one.")
    st.caption(
        session.literal(
            f"{count(result['candidates'])} candidates by the loss's derivative, "
            f"{result['entered']} left at penalty {given['penalty']:g} (proximal descent), the "
            f"{given['m']} largest fitted again without penalty, none pushed further than the "
            "stream is long. Loss in nats per token, texts counting alike."
        )
    )


def losses(one: dict[str, Any]) -> str:
    """Before and after."""
    change = one["after"] - one["before"]
    relative = share(abs(change) / one["before"])
    return (
        f"{measure(one['before'])} → {measure(one['after'])} nats/token "
        f"({'−' if change < 0 else '+'}{relative}, {plural(one['tokens'], 'token')})"
    )
