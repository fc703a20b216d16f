"""What the Steer page is set to: edits, prompt, sampling; kept in the visitor's session.

Pages and tabs read a `Setting` and change it with `add`, `put` and `undo`, from callbacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import streamlit as st

from app.annotations import Said
from app.session import Place
from backend.generation.records import Sampling
from backend.interventions.records import Edit
from feature_store.errors import InputError
from feature_store.records import FeatureId

USUAL = Sampling(max_new=60, temperature=0.8)
"""What the page begins with."""
MOST = 64
"""Features of one run, edited and watched together."""
EDITS, BEFORE, WATCH = "steer_edits", "steer_before", "steer_watch"
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
    found = replace(USUAL, **{**data, "stop": tuple(data.get("stop", ()))})
    found.check()
    return found


def edits() -> tuple[Edit, ...]:
    """This visitor's edits."""
    return tuple(st.session_state.get(EDITS, ()))


def put(given: Sequence[Edit]) -> None:
    """In place of the edits; what was there can be brought back."""
    before = st.session_state.setdefault(BEFORE, [])
    st.session_state[BEFORE] = [*before, edits()][-REMEMBERED:]
    st.session_state[EDITS] = tuple(given)


def add(edit: Edit) -> None:
    """One more edit; `undo` takes it away."""
    put((*edits(), edit))


def undo() -> None:
    """The edits as they were before the last change."""
    if before := st.session_state.get(BEFORE):
        st.session_state[EDITS] = before.pop()
