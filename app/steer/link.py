"""The page's setting in the URL, and what a link asks for."""

from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from app import chatting, session, steering
from app.experiments.words import TABS
from app.session import Place
from app.steer import kept
from app.steer.run import SteeringRun
from app.steering import USUAL, Setting
from backend.interventions.records import Edit, EditBasis
from feature_store.errors import InputError
from feature_store.experiments import Experiment
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.strict_json import JsonError, dump_json, parse_json

PARAMS = ("edits", "prompt", "chat", "sampling", "watch", "freeze", "experiment")
WROTE, SHOWN, OTHER = "steer_wrote", "steer_shown", "steer_other"
MORE = "more"
"""The tabs' key, and their parameter."""
LONGEST = 6_000
"""Characters of a parameter; a longer one stays in the visitor's session."""


@dataclass(frozen=True)
class Opened:
    """A kept run on the page."""

    experiment: Experiment
    setting: Setting


def shown() -> SteeringRun | Opened | None:
    """The run whose texts the page shows."""
    return st.session_state.get(SHOWN)


def show(one: SteeringRun | Opened | None) -> None:
    """Put another run's texts onto the page; the one before is let go."""
    last = shown()
    if isinstance(last, SteeringRun) and last is not one:
        last.stop()
    st.session_state[SHOWN] = one


def arrive() -> Place:
    """Take over what the URL asks for, where it is not what this page wrote there itself.

    Raises InputError for what is not there: an experiment, a feature, a mode.
    """
    query = st.query_params
    given = {name: query[name] for name in PARAMS if name in query}
    if given and given != st.session_state.get(WROTE):
        if "experiment" in given:
            opened(given["experiment"])
        else:
            steering.adopt(from_url(given))
        st.session_state[WROTE] = given
    place = session.place()
    if "feature" in query:
        wanted = [FeatureId.parse(one) for one in query.get_all("feature")]
        steering.put([fresh(place.file, feature) for feature in dict.fromkeys(wanted)])
        others = {name: text for name, text in query.to_dict().items() if name != "feature"}
        query.from_dict({**others, "dictionary": wanted[-1].dictionary})  # a step, not two
    check(place.file)
    return place


def opened(name: str) -> None:
    """A kept run: its setting, and its texts."""
    found = kept.experiments().open(name)
    if found.kind not in kept.KINDS:
        raise InputError(
            f"Experiment {name} is of the kind {found.kind}: it has a page of its own."
        )
    st.query_params["harvest"] = found.harvest
    st.query_params.pop("dictionary", None)
    if found.kind != "steer":
        # the tab that shows it, before the tabs are drawn
        st.query_params[MORE] = st.session_state[MORE] = TABS[found.kind]
        fill(found)
        st.session_state[OTHER] = found, steering.setting()
        return
    setting = Setting.from_json(found.request)
    if not isinstance(setting.prompt, str):
        begin_chat(setting.prompt)
    edited = [feature.dictionary for edit in setting.edits for feature in edit.features]
    if edited and edited[0] in session.store().harvest(found.harvest).dictionaries:
        st.query_params["dictionary"] = edited[0]
    steering.adopt(setting)
    show(Opened(found, setting))


def fill(found: Experiment) -> None:
    """The fields of a search for examples, or of a contrast, as that run had them."""
    examples, contrast = found.request.get("examples"), found.request.get("contrast")
    if examples:
        given = {
            "examples_texts": "\n".join(examples["texts"]),
            "examples_m": examples["m"],
            "examples_penalty": examples["penalty"],
        }
        st.session_state.update(given)
    elif contrast:
        sides = {f"direction_{one}": "\n".join(contrast[one]) for one in ("toward", "away from")}
        st.session_state.update({**sides, "direction_m": contrast["m"]})
        st.query_params["dictionary"] = contrast["dictionary"]


def opened_below() -> Experiment | None:
    """A kept run of another kind that the link has opened: a sweep, a search for examples, a
    contrast, which the tabs show; None once the setting is another one."""
    found, then = st.session_state.get(OTHER, (None, None))
    return found if then == steering.setting() else None


def begin_chat(turns: steering.Turns) -> None:
    """Let the chat's fields begin with these turns."""
    st.session_state.pop(chatting.TURNS, None)
    st.query_params["chat"] = dump_json([dict(turn) for turn in turns])


def from_url(given: dict[str, str]) -> Setting:
    """The setting that the parameters name. With edits it is a whole one, and what is left out is
    as usual; without, the rest stays as it is."""
    plain = (Setting() if "edits" in given else steering.setting()).to_json()
    for name in ("edits", "sampling", "watch", "freeze"):
        if name in given:
            plain[name] = parsed(name, given[name])
    if "chat" in given:
        st.session_state.pop(chatting.TURNS, None)
        plain["prompt"] = chatting.parse(given["chat"])
    if "prompt" in given:
        plain["prompt"] = given["prompt"]
    return Setting.from_json(plain)


def parsed(name: str, text: str) -> Any:
    """A parameter's JSON; InputError where it is none, or not of its shape."""
    try:
        found = parse_json(text)
    except JsonError as bad:
        raise InputError(f"The link's {name} cannot be read: open the page without them.") from bad
    if isinstance(found, dict) != (name in ("sampling", "freeze")) or not isinstance(
        found, dict | list
    ):
        raise InputError(f"The link's {name} cannot be read: open the page without them.")
    return found


def check(file: HarvestFile) -> None:
    """Leave out edits of dictionaries that this harvest lacks; InputError for a feature that a
    dictionary of it lacks. What was left out can be brought back by `undo` in its own harvest."""
    here = [edit for edit in steering.edits() if foreign(edit, file) is None]
    if len(here) < len(steering.edits()):
        gone = [foreign(edit, file) for edit in steering.edits() if edit not in here]
        st.toast(f"Left out, of another harvest: {', '.join(map(str, gone))}")
        steering.put(here)
    watch = steering.setting().watch
    fitting = tuple(one for one in watch if one.dictionary in file.dictionaries)
    if fitting != watch:
        steering.change(watch=fitting)
    try:
        for edit in steering.edits():
            steering.sensible(edit)
        for feature in steering.setting().watched:
            file.check_feature(feature)
    except InputError:
        steering.put(())
        steering.change(watch=())
        raise


def foreign(edit: Edit, file: HarvestFile) -> FeatureId | None:
    """A feature of an edit whose dictionary the harvest lacks."""
    gate = [edit.where.gate] if edit.where.gate else []
    return next((f for f in (*edit.features, *gate) if f.dictionary not in file.dictionaries), None)


def fresh(file: HarvestFile, feature: FeatureId) -> Edit:
    """How a feature is steered when nobody has said more: once its maximum is added."""
    facts = file.facts(file.check_feature(feature))
    if not facts.max_act:
        return Edit("add", (feature,), 1.0)
    return Edit("add_max", (feature,), 1.0, basis=basis_of(file, "max", (feature,)))


def basis_of(file: HarvestFile, kind: str, features: tuple[FeatureId, ...]) -> EditBasis:
    """What a mode needs to know of features from the harvest: their maxima, or their means over
    all counted tokens."""
    if kind not in ("max", "mean"):
        return EditBasis()
    facts = [file.facts(feature) for feature in features]
    values = tuple((one.max_act or 0.0) if kind == "max" else one.mean_all for one in facts)
    return EditBasis(values, source=f"harvest {file.record.id}, n = {file.record.tokens} tokens")


def leave() -> None:
    """Put the page's state into the URL: a kept run by its id, otherwise all that is set."""
    setting, one = steering.setting(), shown()
    name = one.experiment.id if isinstance(one, Opened) else one.kept if one else ""
    if below := opened_below():
        new = {"experiment": below.id}
    elif one and name and one.setting == setting:
        new = {"experiment": name}
    else:
        new = written(setting)
    others = {k: v for k, v in st.query_params.to_dict().items() if k not in PARAMS}
    wanted = {**others, **new}
    if wanted != st.query_params.to_dict():
        st.query_params.from_dict(wanted)
    st.session_state[WROTE] = new


def written(setting: Setting) -> dict[str, str]:
    """The parameters of a setting."""
    plain, usual = setting.to_json(), asdict(USUAL)
    drawn = {k: v for k, v in plain["sampling"].items() if v != usual[k] and v != []}
    frozen = {what: layers for what, layers in plain["freeze"].items() if layers}
    found = {
        "edits": compact([slim(edit) for edit in setting.edits]) if setting.edits else "",
        "sampling": compact(drawn) if drawn else "",
        "watch": compact(plain["watch"]) if plain["watch"] else "",
        "freeze": compact(frozen) if frozen else "",
    }
    key = "prompt" if isinstance(setting.prompt, str) else "chat"
    found[key] = setting.prompt if isinstance(setting.prompt, str) else compact(plain["prompt"])
    return {name: text for name, text in found.items() if text and len(text) <= LONGEST}


def slim(edit: Edit) -> dict[str, Any]:
    """An edit without what is as usual."""
    usual = Edit(edit.mode).to_json()
    plain = {k: v for k, v in edit.to_json().items() if v != usual[k] or k == "mode"}
    for part in ("where", "when"):
        if part in plain:
            plain[part] = {k: v for k, v in plain[part].items() if v != usual[part][k]}
    if "basis" in plain:
        plain["basis"] = {k: v for k, v in plain["basis"].items() if v}
    return plain


def compact(value: Any) -> str:
    """JSON without blanks."""
    return dump_json(value, compact=True)
