"""What the Steer page is set to: edits, prompt, sampling; kept in the visitor's session.

Pages and tabs read a `Setting` and change it with `add`, `put` and `undo`, from callbacks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import streamlit as st

from app.annotations import Said
from app.session import Place
from backend.generation.records import Sampling
from backend.interventions.modes import MODES
from backend.interventions.records import Edit
from feature_store.errors import InputError, pick
from feature_store.records import FeatureId

USUAL = Sampling(max_new=60, temperature=0.8)
"""What the page begins with."""
MOST = 64
"""Features of one run, edited and watched together."""
SETTING, BEFORE = "steer_setting", "steer_before"
VERSION, EDITS_VERSION = "steer_version", "steer_edits_version"
WHOLE = ("max_new", "top_k", "seed")
REMEMBERED = 20
"""Steps that can be undone."""
Turns = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Setting:
    """Everything that a run depends on, besides the weights."""

    edits: tuple[Edit, ...] = ()
    prompt: str | Turns = ""
    """A text, or the turns of a chat: ({role, content}, …)."""
    sampling: Sampling = USUAL
    watch: tuple[FeatureId, ...] = ()
    """Features that are only watched; those of the edits are watched too."""

    @property
    def watched(self) -> tuple[FeatureId, ...]:
        """Features whose activations are read, edited ones first."""
        edited = (feature for edit in self.edits for feature in edit.features)
        return tuple(dict.fromkeys([*edited, *self.watch]))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; a kept run's `request`."""
        prompt = self.prompt
        return {
            "edits": [edit.to_json() for edit in self.edits],
            "prompt": prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt],
            "sampling": {**asdict(self.sampling), "stop": list(self.sampling.stop)},
            "watch": [str(feature) for feature in self.watch],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Setting":
        """What `to_json` gave; InputError for anything else."""
        prompt = data.get("prompt", "")
        if not isinstance(prompt, str):
            prompt = tuple({"role": str(t["role"]), "content": str(t["content"])} for t in prompt)
        return cls(
            edits=tuple(Edit.from_json(one) for one in data.get("edits", ())),
            prompt=prompt,
            sampling=sampling_of(data.get("sampling", {})),
            watch=tuple(FeatureId.parse(str(one)) for one in data.get("watch", ())),
        )


@dataclass(frozen=True)
class Subject:
    """What the tabs under the page are given."""

    place: Place
    said: Said
    setting: Setting


def sampling_of(data: Mapping[str, Any]) -> Sampling:
    """A Sampling from plain data; InputError for a field that it does not have."""
    names = [field.name for field in fields(Sampling)]
    if unknown := sorted(set(data) - set(names)):
        raise InputError(f"Sampling has no field {unknown[0]!r}. It has: {', '.join(names)}.")
    stop = data.get("stop", ())
    if not isinstance(stop, list | tuple) or not all(isinstance(one, str) for one in stop):
        raise InputError("The stop strings are a list of texts.")
    for name, value in data.items():
        whole = name in WHOLE
        if name != "stop" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{name} is {value!r}: write a number.")
        if whole and not isinstance(value, int):
            raise InputError(f"{name} is {value!r}: write a whole number.")
    found = replace(USUAL, **{**data, "stop": tuple(stop)})
    found.check()
    return found


def sensible(edit: Edit) -> Edit:
    """The edit, where its mode is known and its strength a number; InputError otherwise."""
    pick("mode", edit.mode, MODES)
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
