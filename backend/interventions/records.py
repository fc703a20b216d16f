"""Records of interventions: the edit, its conditions, schedule and basis, as frozen dataclasses
that survive JSON unchanged."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from backend.interventions.edit_modes import MODES
from feature_store.errors import InputError, list_names, suggest_near_miss
from feature_store.records import FeatureId

TextParts = Literal["all", "prompt", "generated"]
"""Part of the text in which an edit acts: everything, the prompt, or generated tokens."""
Schedule = Literal["constant", "ramp", "first", "every"]
"""Course of an edit's strength over generated tokens."""
Read = Literal["edited", "clean"]
"""Activations that an edit reads: those of the edited forward pass, or those of the clean model."""


@dataclass(frozen=True)
class EditCondition:
    """Condition on the tokens at which an edit acts. All fields must hold; the default is every
    ordinary token."""

    parts: TextParts = "all"
    positions: tuple[int, ...] | None = None
    """Chosen positions; 0 is the first token that the model reads (BOS, where there is one). A
    special token at a chosen position is edited, too."""
    pattern: str | None = None
    """Regular expression over the decoded text: tokens that touch a match are edited. A generated
    token is judged by the text up to and including itself."""
    roles: tuple[str, ...] | None = None
    """Chat roles whose tokens are edited, such as `user` and `assistant`."""
    special: bool = False
    """Whether special tokens and tokens of the chat template are edited, too."""
    bos: bool = False
    """Whether BOS is edited, too. Its norm is many times that of other tokens, and feature
    activations mean nothing there."""
    gate: FeatureId | None = None
    """Feature that gates the edit: it acts only where this feature's activation exceeds
    `threshold`."""
    threshold: float = 0.0


@dataclass(frozen=True)
class EditSchedule:
    """Schedule of an edit over generated tokens (0 is the first); prompt tokens get the full
    strength."""

    schedule: Schedule = "constant"
    n: int = 1
    """ramp: tokens until the full strength; first: number of edited tokens; every: one token in n
    is edited."""

    def factor(self, generated: int) -> float:
        """Return the factor, 0 to 1, by which an edit's strength is multiplied at a generated
        token."""
        if self.schedule == "ramp":
            return min(1.0, (generated + 1) / self.n)
        if self.schedule == "first":
            return float(generated < self.n)
        if self.schedule == "every":
            return float(generated % self.n == 0)
        return 1.0


@dataclass(frozen=True)
class SteeringVector:
    """A steering vector: a direction at a hook point that belongs to no dictionary, such as a
    difference of means or a probe."""

    name: str
    hook: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class ConceptPosterior:
    """Distribution of one feature's activation with a concept and without it: firing rate × normal
    density, for `attenuate`."""

    prior: float
    """Share of tokens with the concept."""
    rate_in: float
    """Share of the concept's tokens on which the feature fires, (fired + ½) / (n + 1); `rate_out`
    is the same for other tokens."""
    mean_in: float
    """Mean activation over the concept's firing tokens."""
    sd_in: float
    rate_out: float
    mean_out: float
    sd_out: float


@dataclass(frozen=True)
class EditBasis:
    """Reference values that some edit modes need besides a strength, and their source."""

    values: tuple[float, ...] = ()
    """One value per feature: its maximum (add_max) or its mean (mean)."""
    slots: tuple[tuple[float, ...], ...] = ()
    """For each feature, a value for each position; later positions stay unchanged."""
    posterior: tuple[ConceptPosterior, ...] = ()
    """One fitted concept posterior per feature (attenuate)."""
    source: str = ""
    """Description of where the values come from, such as `harvest ID, n = 1000000`."""


@dataclass(frozen=True)
class Edit:
    """Edit of the forward pass: mode, features or steering vector, strength, condition and
    schedule; `edit_modes.MODES` lists the modes."""

    mode: str
    features: tuple[FeatureId, ...] = ()
    """Edited features, all of one dictionary and with the same strength."""
    strength: float = 1.0
    vector: SteeringVector | None = None
    """Steering vector that is edited along, instead of features."""
    basis: EditBasis = field(default_factory=EditBasis)
    percent: float = 10.0
    """sparse_shift: percentage of the direction's components that are added."""
    where: EditCondition = field(default_factory=EditCondition)
    when: EditSchedule = field(default_factory=EditSchedule)
    read: Read = "edited"
    """Whether feature activations are read in the edited forward pass, after earlier edits, or in
    the clean model."""

    def to_json(self) -> dict[str, Any]:
        """Return the edit as plain data for JSON."""
        plain = asdict(self)
        plain["features"] = [str(feature) for feature in self.features]
        plain["where"]["gate"] = None if self.where.gate is None else str(self.where.gate)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Edit":
        """Return the edit that `to_json` wrote, from lists or tuples; InputError for
        anything else."""
        given = read_record_fields(cls, data)
        if "mode" not in given:
            raise InputError(f"An edit needs a mode. {list_names(list(MODES))}")
        return cls(
            **{
                **given,
                "features": tuple(FeatureId.parse(str(f)) for f in given.get("features") or ()),
                "strength": _parse_number("strength", given.get("strength", 1.0)),
                "percent": _parse_number("percent", given.get("percent", 10.0)),
                "vector": _parse_vector(given.get("vector")),
                "basis": _parse_basis(given.get("basis") or {}),
                "where": _parse_condition(given.get("where") or {}),
                "when": _parse_schedule(given.get("when") or {}),
                "read": _parse_option("read", given.get("read", "edited"), Read),
            }
        )


@dataclass(frozen=True)
class FrozenLayers:
    """Ranges of layers, first and last included, whose attention patterns, norms or MLP outputs
    keep the clean model's values.

    With patterns, norms and MLPs frozen in every layer, only the direct path of an edit to the
    logits remains.
    """

    patterns: tuple[int, int] | None = None
    norms: tuple[int, int] | None = None
    """Layers whose norms are frozen; the final norm, too, where the last layer is in the range."""
    mlps: tuple[int, int] | None = None


def read_record_fields(kind: type, data: object, name: str = "") -> dict[str, Any]:
    """Return the fields of a record, such as an edit, that is given as plain data; InputError for
    other data and for unknown fields.

    `name` is the record's name in the error, where the class's own name would not help.
    """
    what = name or kind.__name__
    if not isinstance(data, Mapping):
        raise InputError(f"{what} must be an object, not {data!r}.")
    names = [one.name for one in fields(kind)]
    for key in data:
        if key not in names:
            raise InputError(
                f"{what} has no field {key!r}.{suggest_near_miss(str(key), names)} "
                f"It has: {', '.join(names)}."
            )
    return dict(data)


def _parse_option(name: str, value: object, options: Any) -> Any:
    """Return a field of an edit record that is one of a Literal's options; InputError for other
    values."""
    known = list(get_args(options))
    if value not in known:
        raise InputError(
            f"{name} is {value!r}.{suggest_near_miss(str(value), known)} It may be: "
            f"{', '.join(known)}."
        )
    return value


def _parse_number(name: str, value: object) -> float:
    """Return a number field of an edit record as a float; InputError for other values."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} is {value!r}: write a number.")
    return float(value)


def _optional_tuple(value: Any) -> Any:
    """Return a list field of an edit record as a tuple, and None as None."""
    return None if value is None else tuple(value)


def _parse_condition(data: object) -> EditCondition:
    """Return the EditCondition given as plain data."""
    given = read_record_fields(EditCondition, data)
    gate = given.get("gate")
    return EditCondition(
        **{
            **given,
            "parts": _parse_option("parts", given.get("parts", "all"), TextParts),
            "positions": _optional_tuple(given.get("positions")),
            "roles": _optional_tuple(given.get("roles")),
            "gate": None if gate is None else FeatureId.parse(str(gate)),
            "threshold": _parse_number("threshold", given.get("threshold", 0.0)),
        }
    )


def _parse_schedule(data: object) -> EditSchedule:
    """Return the EditSchedule given as plain data."""
    given = read_record_fields(EditSchedule, data)
    schedule = _parse_option("schedule", given.get("schedule", "constant"), Schedule)
    n = given.get("n", 1)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"The n of a schedule is {n!r}: write a whole number from 1 on.")
    return EditSchedule(schedule, n)


def _parse_vector(data: object) -> SteeringVector | None:
    """Return the SteeringVector given as plain data, or None."""
    if data is None:
        return None
    given = read_record_fields(SteeringVector, data)
    if missing := {"name", "hook", "values"} - set(given):
        raise InputError(f"A vector needs {', '.join(sorted(missing))}.")
    values = tuple(_parse_number("values", value) for value in given["values"])
    return SteeringVector(str(given["name"]), str(given["hook"]), values)


def _parse_basis(data: object) -> EditBasis:
    """Return the EditBasis given as plain data."""
    given = read_record_fields(EditBasis, data)
    return EditBasis(
        values=tuple(_parse_number("values", value) for value in given.get("values", ())),
        slots=tuple(tuple(map(float, one)) for one in given.get("slots", ())),
        posterior=tuple(
            ConceptPosterior(**read_record_fields(ConceptPosterior, p))
            for p in given.get("posterior", ())
        ),
        source=str(given.get("source", "")),
    )
