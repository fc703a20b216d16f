"""The two columns: default and steered text as they come, with heat, guard rails and a table."""

from typing import Any

import streamlit as st

from app import annotations, components, live, session, steering
from app.session import Place
from app.steer import kept, link
from app.steer.link import Opened
from app.steer.next_tokens import attempt
from app.steer.picking import described
from app.steer.run import SteeringRun, begin, feet, started
from app.steering import Setting
from app.wording import measure, plural
from backend.engine_protocol import Engine
from feature_store.errors import InputError

STAGE, WANTED, PROBLEM = "steer_stage", "steer_wanted", "steer_problem"
DEFAULT_NOTE = "heat: clean stream"
STEERED = {
    "watched": ["steered stream", "steered stream, before the edit at that hook"],
    "clean": ["clean model", "clean model on the steered text"],
}
"""Series of the steered column: name in the story → in brief, in full."""


def buttons() -> None:
    """Run and stop."""
    one = link.shown()
    going = isinstance(one, SteeringRun) and not one.done.is_set()
    st.button("run ▶", key="steer_run", type="primary", on_click=want)
    st.button(
        "stop ■", key="steer_stop", disabled=not going, on_click=halt, help="Ends the computation."
    )


def want() -> None:
    """Callback: run what is set, as soon as the model is there."""
    st.session_state[WANTED] = True
    st.session_state.pop(PROBLEM, None)
    st.session_state.pop(STAGE, None)


def halt() -> None:
    """Callback: stop what is running."""
    one = link.shown()
    if isinstance(one, SteeringRun):
        one.stop()


def run_wanted(place: Place) -> None:
    """Begin the run that was asked for; while the model is loading a line says so."""
    if not st.session_state.get(WANTED):
        return
    setting = steering.setting()
    engine = None
    try:
        engine = live.ready(place.file)
        if engine is None:
            return
        link.show(begin(engine, setting, kept.keeper(place.file)))
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
    st.session_state[WANTED] = False


def problem(place: Place) -> None:
    """Why the last run could not begin, and the way out where there is one."""
    said = st.session_state.get(PROBLEM)
    if not said:
        return
    st.markdown(f":orange[{session.literal(said)}]")
    prompt = steering.setting().prompt
    engine = live.at_hand(place.file)
    if engine is None or not isinstance(prompt, str) or not prompt:
        return
    fit = fitting(engine, prompt, steering.setting().sampling.max_new)
    if len(fit) < len(prompt):
        st.button("Cut the prompt to what fits", on_click=cut, args=(fit,))


def fitting(engine: Engine, prompt: str, new: int) -> str:
    """The longest beginning of a prompt with room for `new` tokens behind it, in the model and in
    what one visitor may ask for."""
    from app.steer.run import line
    from backend.engine import LocalEngine

    assert isinstance(engine, LocalEngine)
    room = min(line().limits.prompt_tokens, max(engine.lm.n_ctx - new, engine.lm.n_ctx // 2))
    low, high = 0, len(prompt)
    while low < high:  # beginnings of a text have ever more tokens, but for a few at the cut
        middle = (low + high + 1) // 2
        if tokens_of(engine, prompt[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return prompt[:low]


def tokens_of(engine: Any, prompt: str) -> float:
    """How many tokens a prompt has; infinitely many where the model cannot read it."""
    try:
        return len(started(engine, Setting(prompt=prompt)).tokens)
    except InputError:
        return float("inf")


def cut(fit: str) -> None:
    """Callback: the prompt is its beginning now."""
    steering.adopt(Setting(**{**vars(steering.setting()), "prompt": fit}))
    st.session_state.pop(PROBLEM, None)


@st.fragment
def draw(place: Place, said: annotations.Said) -> None:
    """The columns of what is shown; nothing but a sentence before the first run."""
    one = link.shown()
    if one is None:
        if not st.session_state.get(WANTED):
            st.caption(next_step())
        return
    components.steer(
        key=STAGE,
        data=data_of(one, place, said),
        on_done_change=components.ignore,
        on_at_change=components.ignore,
    )
    if (st.session_state.get(STAGE) or {}).get("done"):
        st.rerun()


def next_step() -> str:
    """What is left to do before the first run."""
    now = steering.setting()
    left = [] if now.edits else ["add an edit"]
    left += [] if now.prompt else ["type a prompt"]
    todo = ", ".join([*left, "run"])
    return f"{todo[0].upper()}{todo[1:]}: default and steered text appear here."


def data_of(one: SteeringRun | Opened, place: Place, said: annotations.Said) -> dict[str, Any]:
    """What the component draws: the story, or where to listen to it."""
    chosen = (st.session_state.get(STAGE) or {}).get("at")
    features = [about(feature, one.setting, place, said) for feature in one.setting.watched]
    data: dict[str, Any] = {
        "name": one.name if isinstance(one, SteeringRun) else one.experiment.id,
        "features": features,
        "note": DEFAULT_NOTE,
        "series": STEERED,
        "listen": None,
        "message": None,
        "table": None,
    }
    if isinstance(one, SteeringRun) and not one.done.is_set():
        data["listen"] = f"api/runs/{one.name}"
    elif isinstance(one, SteeringRun):
        data["message"] = one.message({})
    else:
        state = {"said": "", "error": "", "done": True}
        data["message"] = {
            "story": one.experiment.result,
            "state": state,
            **feet(dict(one.experiment.result)),
        }
    if isinstance(chosen, dict) and chosen.get("run") == data["name"]:
        data["table"] = next_table(one, place, chosen)
    return data


def next_table(
    one: SteeringRun | Opened, place: Place, chosen: dict[str, Any]
) -> dict[str, Any] | None:
    """The next-token table at the chosen token; a word while the model is loading."""
    try:
        engine = live.at_hand(place.file)
    except InputError as error:
        return {"error": str(error)}
    if engine is None:
        return {"error": "The model is loading: click again in some seconds."}
    story = one.story.data if isinstance(one, SteeringRun) else dict(one.experiment.result)
    record = place.file.record
    return attempt(engine, one.setting, record.model_hash, story, chosen, place.file.vocabulary)


def about(feature: Any, setting: Setting, place: Place, said: annotations.Said) -> dict[str, Any]:
    """A feature's name, its maximum, and a link."""
    facts = place.file.facts(feature)
    query = {"harvest": place.file.record.id, "feature": str(feature)}
    return {
        "id": str(feature),
        "label": described(place.file, feature, said),
        "max": facts.max_act or 0.0,
        "said": f"max {measure(facts.max_act)} in {plural(place.file.record.tokens, 'token')}",
        "href": session.href(session.FEATURE, query),
        "edited": any(feature in edit.features for edit in setting.edits),
    }
