"""A sweep as the page asks for it: plain, kept with its result, and run again from that."""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from app.steer_more.task import Plain, Tell, quiet
from backend.generation.steering_request import SteeringRequest
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit
from backend.steering.matched_controls import (
    DIRECTION_MODES,
    WANTED_CONTROLS,
    EditControls,
    check_controllable,
    control_with_matched_features,
    control_with_random_directions,
)
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId

if TYPE_CHECKING:
    from backend.engine import LocalEngine
    from backend.steering.strength_sweep import SweepRequest

MOST_TEXTS = 20_000
"""Of one sweep, controls included."""
STRENGTHS, SEEDS, CONTROL_SEEDS = 14, 8, 2
REACH = 3.0
"""Where a sweep ends, in multiples of the feature's maximum."""


@dataclass(frozen=True)
class Sweep:
    """What is asked beside the page's own setting."""

    strengths: tuple[float, ...]
    seeds: int = SEEDS
    swept: int = 0
    concept: str = ""
    """The feature that is read in the texts."""
    pattern: str = ""
    prompts: tuple[str, ...] = ()
    """Beside the page's."""
    controls: tuple[str, ...] = ("features",)
    """features, directions"""
    control_seeds: int = CONTROL_SEEDS
    n_controls: int = WANTED_CONTROLS

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` gave; InputError for anything else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or not set(data) <= names or "strengths" not in data:
            raise InputError("This is no request for a sweep.")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**plain)

    @property
    def texts(self) -> int:
        """How many are generated."""
        prompts, doses = 1 + len(self.prompts), len(set(self.strengths))
        own = self.seeds * (1 + doses)
        others = len(self.controls) * self.n_controls * doses * min(self.control_seeds, self.seeds)
        return prompts * (own + others)


def usual(edit: Edit, file: HarvestFile) -> tuple[float, float]:
    """Where a sweep of this edit may begin and end."""
    mode = MODES[edit.mode]
    low = mode.usual[0] if mode.neutral is None else mode.neutral
    if edit.mode == "add_max":
        return low, REACH
    if edit.mode in ("add", "clamp", "sparse_shift"):
        if edit.vector is not None:
            return 0.0, REACH
        top = REACH * max(abs(file.facts(f).max_act or 1.0) for f in edit.features)
        return 0.0, float(f"{top:.3g}")
    return low, mode.usual[1]


def spaced(low: float, high: float, n: int) -> tuple[float, ...]:
    """Strengths from one to the other, to six digits."""
    return tuple(float(f"{value:.6g}") for value in np.linspace(low, high, n))


def request(asked: SteeringRequest, sweep: Sweep) -> dict[str, Any]:
    """What is kept: the page's setting as every run has it, and the sweep."""
    return {**asked.to_json(), "sweep": sweep.to_json()}


def parts(request: Plain) -> tuple[SteeringRequest, Sweep]:
    """Of a kept request."""
    rest = {k: v for k, v in request.items() if k not in ("sweep", "judge")}
    return SteeringRequest.from_json(rest), Sweep.from_json(request.get("sweep", {}))


def check(asked: SteeringRequest, sweep: Sweep) -> None:
    """InputError for what cannot be run."""
    if not 0 <= sweep.swept < len(asked.edits):
        raise InputError("There is no edit whose strength could be swept: add a feature above.")
    if sweep.texts > MOST_TEXTS:
        raise InputError(
            f"{sweep.texts:,} texts are too many: at most {MOST_TEXTS:,}. Fewer seeds, strengths, "
            "prompts or controls."
        )


def ask_of(
    engine: "LocalEngine", file: HarvestFile, asked: SteeringRequest, sweep: Sweep
) -> "SweepRequest":
    """As the backend takes it; InputError for a prompt that cannot be read."""
    from backend.generation import generation_run
    from backend.steering.strength_sweep import SweepRequest

    prompts = [asked, *(replace(asked, prompt=text) for text in sweep.prompts)]
    concept = FeatureId.parse(sweep.concept) if sweep.concept else None
    near = file.facts(concept).nearest if concept else None
    nearest = FeatureId(concept.dictionary, int(near[0])) if concept and near else None
    return SweepRequest(
        edits=asked.edits,
        strengths=sweep.strengths,
        prompts=tuple(generation_run.tokenize_prompt(engine.lm, one) for one in prompts),
        seeds=tuple(asked.sampling.seed + i for i in range(sweep.seeds)),
        sampling=asked.sampling,
        swept=sweep.swept,
        concept=concept,
        nearest=nearest,
        pattern=sweep.pattern or None,
        control_seeds=sweep.control_seeds,
    )


def controls_of(
    engine: "LocalEngine", file: HarvestFile, asked: SteeringRequest, sweep: Sweep
) -> list[EditControls]:
    """The counterparts that were asked for; InputError where the edit has none."""
    from backend.steering.random_directions import draw_random_directions

    edit, n = asked.edits[sweep.swept], sweep.n_controls
    found = []
    if "features" in sweep.controls:
        found.append(control_with_matched_features(edit, file, n))
    if "directions" in sweep.controls:
        hook = edit.vector.hook if edit.vector else _hook(engine, edit)
        drawn = draw_random_directions(engine.lm, file, hook, n)
        found.append(control_with_random_directions(edit, drawn, file))
    return found


def possible(edit: Edit) -> list[str]:
    """Kinds of controls that an edit may have."""
    try:
        check_controllable(edit)
    except InputError:
        return []
    kinds = [] if edit.vector is not None else ["features"]
    return kinds + (["directions"] if edit.mode in DIRECTION_MODES else [])


def answer(
    engine: "LocalEngine",
    file: HarvestFile,
    request: Plain,
    tell: Tell = quiet,
    stop: threading.Event | None = None,
) -> Plain | None:
    """The whole sweep of a request as plain data; None where it was stopped. InputError for what
    cannot be run."""
    from backend.steering.strength_sweep import SweepStopped
    from backend.steering.strength_sweep import run_sweep as run

    asked, sweep = parts(request)
    ask = ask_of(engine, file, asked, sweep)
    controls = controls_of(engine, file, asked, sweep)
    try:
        found = run(
            engine.lm,
            engine.dictionaries,
            ask,
            controls,
            bos=engine.bos,
            tell=lambda done, total: tell(done, total, "texts"),
            stop=stop,
        )
    except SweepStopped:
        return None
    return found.to_json()


def _hook(engine: "LocalEngine", edit: Edit) -> str:
    return engine.dictionaries[edit.features[0].dictionary].hook_out
