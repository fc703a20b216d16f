"""Dose and response: one edit at many strengths, against controls that are moved as far."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from app import live, session, steering, theme
from app.costly import draw_costly_button
from app.steer import link
from app.steer_more import judging, sweeping, task
from app.steer_more.sweeping import Sweep
from app.steer_more.task import Task
from app.steering import SteeringTabContext
from app.time_estimates import count_tokens_roughly, draw_estimate
from app.wording import count, measure, plural
from backend.generation.steering_request import SteeringRequest
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit, FrozenLayers
from backend.model.run_token_counts import count_sweep_tokens

TITLE = "dose–response"
TASK, FIND, WANTED = "dose_task", "dose_find", task.Wanted("dose")
CONCEPTS = ("mean", "max", "rate", "match", "nearest", "judge")
CONTROLS = {"features": "matched features", "directions": "random directions"}
SAMPLES = 3
FIND_SEEDS = 4


def draw(subject: SteeringTabContext) -> None:
    """The tab."""
    opened = link.opened_below()
    if not subject.setting.edits and not (opened and opened.kind == "sweep"):
        st.caption("Add a feature above: its strength is swept here, beside matched controls.")
    elif subject.setting.edits:
        sweep = fields(subject)
        buttons(subject, sweep)
    WANTED.begin(subject.place.file, partial(begin, subject))
    done = task.watch(FIND)
    if done and done.result:
        reached(subject, done)
    results(subject)


def fields(subject: SteeringTabContext) -> Sweep:
    """What a sweep is asked."""
    edits = subject.setting.edits
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        swept = 0
        if len(edits) > 1:
            swept = st.selectbox(
                "edit",
                range(len(edits)),
                key=f"dose_swept_{len(edits)}",
                format_func=lambda i: named(edits[i]),
                width=220,
            )
        edit = edits[swept]
        key = "_".join([edit.mode, *map(str, edit.features)])
        low, high = sweeping.usual(edit, subject.place.file)
        low = st.number_input("from", value=low, key=f"dose_low_{key}", format="%g", width=100)
        high = st.number_input(
            f"to ({MODES[edit.mode].unit})",
            value=high,
            key=f"dose_high_{key}",
            format="%g",
            width=210,
        )
        n = st.number_input("strengths", 2, 40, sweeping.STRENGTHS, key="dose_n", width=110)
        seeds = st.number_input("seeds", 1, 200, sweeping.SEEDS, key="dose_seeds", width=100)
        with st.popover("measures and controls"):
            more = choices(subject, edit, key)
    return Sweep(strengths=sweeping.spaced(low, high, n), seeds=seeds, swept=swept, **more)


def choices(subject: SteeringTabContext, edit: Edit, key: str) -> dict[str, Any]:
    """What is read in the texts, and what they are compared with."""
    watched = [str(f) for f in (*edit.features, *subject.setting.watched)]
    concept = st.selectbox(
        "feature read in the texts, by the clean model",
        list(dict.fromkeys(watched)),
        key=f"dose_concept_{key}",
    )
    pattern = st.text_input(
        "regular expression looked for in the texts",
        key="dose_pattern",
        placeholder=r"\bpark\b",
        max_chars=200,
    )
    prompts = st.text_area("more prompts, one a line", key="dose_prompts", height=80)
    kinds = sweeping.possible(edit)
    controls = st.pills(
        "controls",
        kinds,
        selection_mode="multi",
        default=kinds[:1],
        format_func=CONTROLS.__getitem__,
        key=f"dose_controls_{key}",
    )
    if not kinds:
        st.caption(f"{steering.spelled(edit.mode)} has no controls of equal ‖Δh‖.")
    few = st.number_input(
        "seeds of each control",
        1,
        200,
        sweeping.CONTROL_SEEDS,
        key="dose_control_seeds",
        help="Fewer than the edit's own make the band wider, not narrower.",
    )
    return {
        "concept": concept or "",
        "pattern": pattern,
        "prompts": tuple(line for line in prompts.splitlines() if line.strip()),
        "controls": tuple(kind for kind in kinds if kind in controls),
        "control_seeds": few,
    }


def buttons(subject: SteeringTabContext, sweep: Sweep) -> None:
    """Sweep, or find one strength."""
    new = subject.setting.sampling.max_new
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        label = f"sweep {count(sweep.texts)} texts of {new} tokens ▶"
        draw_costly_button(label, WANTED.ask, args=(sweep,), key="dose_run")
        st.space("small")
        st.markdown("find the strength for KL", width="content")
        kl = st.number_input(
            "KL",
            0.001,
            100.0,
            1.0,
            key="dose_kl",
            label_visibility="collapsed",
            format="%g",
            width=110,
        )
        st.markdown("nats/token", width="content")
        draw_costly_button("find", WANTED.ask, args=(sweep, kl), key="dose_find_run")
    prompt = subject.setting.prompt
    first = prompt if isinstance(prompt, str) else " ".join(turn["content"] for turn in prompt)
    tokens = max(map(count_tokens_roughly, (first, *sweep.prompts)))
    draw_estimate(subject.place, count_sweep_tokens(sweep.texts, tokens, new, bool(sweep.concept)))
    if subject.setting.freeze != FrozenLayers():
        st.caption("Frozen layers are not part of a sweep: here everything moves.")


def begin(subject: SteeringTabContext, engine: Any, sweep: Sweep, kl: float | None = None) -> None:
    """Start a sweep; with `kl`, the search for its strength. InputError for what cannot be."""
    asked = subject.setting.asked(bos=engine.bos is not None)
    sweeping.check(asked, sweep)
    if kl is not None:
        task.begin(FIND, {"swept": sweep.swept}, partial(find, engine, asked, sweep, kl))
        return
    st.session_state.pop(link.OTHER, None)
    run(subject, engine, asked, sweep)


def run(subject: SteeringTabContext, engine: Any, asked: SteeringRequest, sweep: Sweep) -> None:
    """Start a sweep; InputError for what can be seen before it."""
    sweeping.ask_of(engine, subject.place.file, asked, sweep).check()
    wanted, file = sweeping.request(asked, sweep), subject.place.file
    task.begin(
        TASK,
        wanted,
        lambda mine: sweeping.answer(engine, file, wanted, mine.tell, mine.ticket.stop),
    )


def find(
    engine: Any, asked: SteeringRequest, sweep: Sweep, kl: float, mine: Task
) -> dict[str, Any] | None:
    """The thread's part of finding a strength."""
    from backend.generation import generation_run
    from backend.steering import strength_for_kl
    from backend.steering.strength_sweep import SweepStopped

    start = generation_run.tokenize_prompt(engine.lm, asked)
    seeds = range(asked.sampling.seed, asked.sampling.seed + FIND_SEEDS)
    stop = mine.ticket.stop
    mine.tell(0, 0, "unedited texts:")
    texts = strength_for_kl.generate_unedited(
        engine.lm, engine.dictionaries, start, seeds, asked.sampling, stop
    )
    try:
        found = strength_for_kl.find_strength_for_kl(
            engine.lm,
            engine.dictionaries,
            asked.edits,
            kl,
            start,
            texts,
            swept=sweep.swept,
            stop=stop,
        )
    except SweepStopped:
        return None
    return {"strength": found.strength, "reached": found.reached, "note": found.note}


def reached(subject: SteeringTabContext, done: Task) -> None:
    """What bisection found, and the way to use it."""
    assert done.result is not None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        colour = "" if done.result["reached"] else ":orange"
        text = session.literal(done.result["note"])
        st.markdown(f"{colour}[{text}]" if colour else text, width="content")
        st.button(
            "use it",
            key="dose_use",
            type="tertiary",
            on_click=use,
            args=(done.request["swept"], done.result["strength"]),
        )


def use(swept: int, strength: float) -> None:
    """Callback: the edit takes this strength."""
    edits = list(steering.edits())
    if swept < len(edits):
        edits[swept] = replace(edits[swept], strength=strength)
        steering.put(edits)


def results(subject: SteeringTabContext) -> None:
    """The sweep that was just run, else the one that the link opened."""
    done = task.watch(TASK)
    other = link.opened_below()
    if other is not None and other.kind == "sweep":
        asked = swept(other.request)
        st.button(
            "take over its setting",
            type="tertiary",
            on_click=adopt,
            args=(asked,),
            key="dose_adopt",
            help="Run the sweep again from there.",
        )
        shown(subject, other.request, other.result, other.id)
    elif done and done.result:
        engine: Any = live.at_hand(subject.place.file)
        if engine is not None:
            names = set(sweeping.parts(done.request)[0].dictionaries)
            task.keep_it(done, "sweep", subject.place, engine, names)
        swept(done.request)
        shown(subject, done.request, done.result, done.kept)
        task.foot(done, TITLE)


def shown(
    subject: SteeringTabContext, request: task.Plain, result: task.Plain, experiment: str
) -> None:
    """A sweep, and what a language model says of its texts."""
    request, result = judging.latest(request, result)
    show(request, result)
    judging.draw(subject, request, result, experiment)


def swept(request: task.Plain) -> SteeringRequest:
    """Say what was swept, on which prompt; the setting of that run."""
    asked, sweep = sweeping.parts(request)
    edit = asked.edits[sweep.swept]
    whom = edit.vector.name if edit.vector else ", ".join(map(str, edit.features))
    others = [named(one) for n, one in enumerate(asked.edits) if n != sweep.swept]
    beside = f", beside {', '.join(others)}" if others else ""
    prompt = asked.prompt if isinstance(asked.prompt, str) else str(asked.prompt[-1]["content"])
    more = f" and {plural(len(sweep.prompts), 'prompt')} more" if sweep.prompts else ""
    behind = " ".join(prompt.split())[:60]
    said = f"{steering.spelled(edit.mode)} {whom}{beside}, behind “{behind}”{more}"
    st.markdown(session.literal(said))
    return asked


def adopt(asked: SteeringRequest) -> None:
    """Callback: the page's setting is that of the kept sweep."""
    other = st.session_state.get(link.OTHER)
    steering.adopt(
        steering.Setting(asked.edits, asked.prompt, asked.sampling, asked.watch, asked.freeze)
    )
    if other:
        st.session_state[link.OTHER] = other[0], steering.setting()


def show(request: task.Plain, result: task.Plain) -> None:
    """Figures, what they mean, and some of the texts."""
    from app.steer_more import dose_chart  # Plotly, for those who asked
    from backend.steering.sweep_results import SWEEP_MEASURES, SweepOutcome

    outcome = SweepOutcome.from_json(result)
    offered = [name for name in CONCEPTS if name in outcome.measures]
    with st.container(horizontal=True, gap="medium"):
        concept = (
            st.segmented_control(
                "response",
                offered,
                default=offered[0],
                key="dose_response",
                required=True,
                format_func=dose_chart.NAMES.__getitem__,
                label_visibility="collapsed",
            )
            if offered
            else ""
        )
        equal = (
            st.segmented_control(
                "controls at equal",
                ["shift", "kl"],
                default="shift",
                key="dose_equal",
                required=True,
                format_func={"shift": "at equal ‖Δh‖", "kl": "at equal KL"}.__getitem__,
                label_visibility="collapsed",
            )
            if outcome.controls
            else "shift"
        )
    asked, sweep = sweeping.parts(request)
    figure = dose_chart.figure(
        outcome,
        concept,
        equal,
        theme.palette(st.context.theme.type),
        MODES[asked.edits[sweep.swept].mode].unit,
    )
    st.plotly_chart(
        figure,
        theme=None,
        key="dose_figure",
        config={"displaylogo": False, "displayModeBar": False},
    )
    n = len(outcome.default.heard)
    parts = [
        f"{plural(n, 'continuation')} a strength; bars: 95 % bootstrap over continuations "
        "(Wilson for shares), none where all are equal",
        *([f"{dose_chart.NAMES[concept]}: {SWEEP_MEASURES[concept]}"] if concept else []),
        *outcome.notes,
    ]
    st.caption(session.literal(". ".join(parts) + "."))
    texts(outcome)


def texts(outcome: Any) -> None:
    """Continuations at one strength."""
    at = st.select_slider(
        "texts at strength",
        list(range(len(outcome.doses))),
        key="dose_at",
        format_func=lambda i: measure(outcome.strengths[i]),
        value=len(outcome.doses) - 1,
    )
    for heard in outcome.doses[at].heard[:SAMPLES]:
        kl = heard.values.get("kl", math.nan)
        st.text(f"seed {heard.seed} · KL {measure(kl, 2)}   {' '.join(heard.text.split())}")


def named(edit: Edit) -> str:
    """An edit in brief."""
    whom = edit.vector.name if edit.vector else ", ".join(map(str, edit.features))
    return f"{whom} {steering.spelled(edit.mode)} {measure(edit.strength)}"
