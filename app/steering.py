"""What the Steer page is set to: edits, prompt, sampling; kept in the visitor's session.

Pages and tabs read a `Setting` and change it with `add`, `put` and `undo`, from callbacks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import streamlit as st

from app.annotations import Said
from app.session import Place
from backend.generation.records import SamplingSettings
from backend.generation.steering_request import SteeringRequest
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit, FrozenLayers
from feature_store.errors import InputError, pick_by_name
from feature_store.records import FeatureId

USUAL = SamplingSettings(max_new=60, temperature=0.8)
"""What the page begins with."""
MOST = 64
"""Features of one run, edited and watched together."""
SETTING, BEFORE = "steer_setting", "steer_before"
VERSION, EDITS_VERSION = "steer_version", "steer_edits_version"
WHOLE = ("max_new", "top_k", "seed")
REMEMBERED = 20
"""Steps that can be undone."""
Turns = tuple[Mapping[str, str], ...]


def spelled(mode: str) -> str:
    """A mode of editing as pages write it: `add max`."""
    return mode.replace("_", " ")


@dataclass(frozen=True)
class Setting:
    """Everything that a run depends on, besides the weights."""

    edits: tuple[Edit, ...] = ()
    prompt: str | Turns = ""
    """A text, or the turns of a chat: ({role, content}, …)."""
    sampling: SamplingSettings = USUAL
    watch: tuple[FeatureId, ...] = ()
    """Features that are only watched; those of the edits are watched too."""
    freeze: FrozenLayers = field(default_factory=FrozenLayers)

    @property
    def watched(self) -> tuple[FeatureId, ...]:
        """Features whose activations are read, edited ones first."""
        return self.asked().watched

    def asked(self, *, bos: bool = True) -> SteeringRequest:
        """As a run is asked. The page looks next tokens up when they are clicked: `top` is 0."""
        return SteeringRequest(
            self.prompt, self.edits, self.sampling, self.watch, bos=bos, freeze=self.freeze, top=0
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return self.asked().to_json()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Setting":
        """Of a kept run's request, or a part of one, the rest as usual; InputError for anything
        else."""
        drawn = data.get("sampling", {})
        if isinstance(drawn, Mapping):
            check_numbers(drawn)
            drawn = {**asdict(USUAL), **drawn}
        found = SteeringRequest.from_json({"prompt": "", **data, "sampling": drawn})
        return cls(found.edits, found.prompt, found.sampling, found.watch, found.freeze)


@dataclass(frozen=True)
class SteeringTabContext:
    """What the tabs under the page are given."""

    place: Place
    said: Said
    setting: Setting


def check_numbers(drawn: Mapping[str, Any]) -> None:
    """InputError where a field of the sampling is no number, or a count no whole one."""
    for name, value in drawn.items():
        kinds = int if name in WHOLE else int | float
        if name != "stop" and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise InputError(f"{name} is {value!r}: write a {'whole ' * (kinds is int)}number.")


def sensible(edit: Edit) -> Edit:
    """The edit, where its mode is known and its strength a number; InputError otherwise."""
    pick_by_name("mode", edit.mode, MODES)
    if not math.isfinite(edit.strength):
        raise InputError(f"The strength is {edit.strength}: write a finite number.")
    return edit


def setting() -> Setting:
    """What this visitor's page is set to."""
    return st.session_state.get(SETTING, Setting())


def change(**parts: Any) -> None:
    """Other values of a setting's fields; widgets keep what they show."""
    st.session_state[SETTING] = replace(setting(), **parts)


def adopt(given: Setting) -> None:
    """A whole setting from elsewhere: a link, a kept run. Every widget begins anew."""
    put(given.edits)
    st.session_state[SETTING] = given
    st.session_state[VERSION] = version() + 1


def version() -> int:
    """Part of the widgets' keys: another one after `adopt`."""
    return st.session_state.get(VERSION, 0)


def edits_version() -> int:
    """Part of the keys of the edits' widgets: another one when there are other edits."""
    return st.session_state.get(EDITS_VERSION, 0)


def edits() -> tuple[Edit, ...]:
    """This visitor's edits."""
    return setting().edits


def put(given: Sequence[Edit]) -> None:
    """In place of the edits; what was there can be brought back."""
    if tuple(given) != edits():
        st.session_state[BEFORE] = [*before(), edits()][-REMEMBERED:]
    anew(given)


def anew(given: Sequence[Edit]) -> None:
    """Other edits, and widgets that show them."""
    change(edits=tuple(given))
    st.session_state[EDITS_VERSION] = edits_version() + 1


def add(edit: Edit) -> None:
    """One more edit; `undo` takes it away."""
    put((*edits(), edit))


def remove(number: int) -> None:
    """One edit fewer."""
    put([edit for n, edit in enumerate(edits()) if n != number])


def revise(number: int, edit: Edit) -> None:
    """Another edit in this place, as its own widgets have it."""
    change(edits=tuple(edit if n == number else one for n, one in enumerate(edits())))


def before() -> list[tuple[Edit, ...]]:
    """The edits as they were, the last at the end."""
    return st.session_state.get(BEFORE, [])


def undo() -> None:
    """The edits as they were before the last one came or went."""
    if steps := before():
        st.session_state[BEFORE] = steps[:-1]
        anew(steps[-1])
