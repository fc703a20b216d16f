"""What an edit is: frozen, plain, and the same again after a trip through JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from backend.interventions.edit_modes import MODES
from feature_store.errors import InputError, list_names, suggest_near_miss
from feature_store.records import FeatureId

TextParts = Literal["all", "prompt", "generated"]
Schedule = Literal["constant", "ramp", "first", "every"]
Read = Literal["edited", "clean"]


@dataclass(frozen=True)
class EditCondition:
    """At which tokens. Every condition must hold; the default is every ordinary token."""

    parts: TextParts = "all"
    positions: tuple[int, ...] | None = None
    """Chosen positions, 0 the first token that the model reads (BOS, where there is one); whatever
    stands there is edited."""
    pattern: str | None = None
    """A regular expression over the decoded text: tokens that touch a match. A generated token
    counts by the text up to and including it."""
    roles: tuple[str, ...] | None = None
    """Chat roles, such as `user` and `assistant`."""
    special: bool = False
    """Special and template tokens too."""
    bos: bool = False
    """BOS too: its norm is many times that of other tokens, and features mean nothing there."""
    gate: FeatureId | None = None
    """Only while this feature's activation exceeds `threshold`."""
    threshold: float = 0.0


@dataclass(frozen=True)
class EditSchedule:
    """How much of the edit at each generated token (0 the first); prompts get all of it."""

    schedule: Schedule = "constant"
    n: int = 1
    """ramp: tokens until full; first: tokens edited; every: one token in n."""

    def factor(self, generated: int) -> float:
        """0 to 1."""
        if self.schedule == "ramp":
            return min(1.0, (generated + 1) / self.n)
        if self.schedule == "first":
            return float(generated < self.n)
        if self.schedule == "every":
            return float(generated % self.n == 0)
        return 1.0


@dataclass(frozen=True)
class SteeringVector:
    """A direction that no dictionary has: a difference of means, a probe, a control."""

    name: str
    hook: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class ConceptPosterior:
    """How one feature is distributed with a concept and without: firing rate × normal density."""

    prior: float
    """Share of tokens with the concept."""
    rate_in: float
    """Share of them on which the feature fires, (fired + ½) / (n + 1); the rest alike."""
    mean_in: float
    """Over firing tokens."""
    sd_in: float
    rate_out: float
    mean_out: float
    sd_out: float


@dataclass(frozen=True)
class EditBasis:
    """What some modes need besides a strength, and where it was taken from."""

    values: tuple[float, ...] = ()
    """One per feature: its maximum (add_max) or mean (mean)."""
    slots: tuple[tuple[float, ...], ...] = ()
    """Per feature, a value for each position; positions beyond stay as they are."""
    posterior: tuple[ConceptPosterior, ...] = ()
    """One per feature."""
    source: str = ""
    """Such as `harvest ID, n = 1000000`."""


@dataclass(frozen=True)
class Edit:
    """One edit of the forward pass; `modes.MODES` has the modes."""

    mode: str
    features: tuple[FeatureId, ...] = ()
    """All of one dictionary; each is edited with the same strength."""
    strength: float = 1.0
    vector: SteeringVector | None = None
    """Instead of features."""
    basis: EditBasis = field(default_factory=EditBasis)
    percent: float = 10.0
    """sparse_shift: how many of the direction's components."""
    where: EditCondition = field(default_factory=EditCondition)
    when: EditSchedule = field(default_factory=EditSchedule)
    read: Read = "edited"
    """Activations of this very pass, which earlier edits have reached, or of the clean model."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = asdict(self)
        plain["features"] = [str(feature) for feature in self.features]
        plain["where"]["gate"] = None if self.where.gate is None else str(self.where.gate)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Edit":
        """What `to_json` gave, as lists or tuples; InputError for anything else."""
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
    """Ranges of layers, first and last included, that keep the clean model's values.

    With patterns, norms and MLPs frozen in every layer, only the direct path of an edit is left.
    """

    patterns: tuple[int, int] | None = None
    norms: tuple[int, int] | None = None
    """The final norm too, where the last layer is in the range."""
    mlps: tuple[int, int] | None = None


def read_record_fields(kind: type, data: object, name: str = "") -> dict[str, Any]:
    """A record's fields out of plain data; InputError for other data and for fields that `kind`,
    called `name` where its own would say little, has not."""
    what = name or kind.__name__
    if not isinstance(data, Mapping):
        raise InputError(f"{what} is written as an object, not as {data!r}.")
    names = [one.name for one in fields(kind)]
    for key in data:
        if key not in names:
            raise InputError(
                f"{what} has no field {key!r}.{suggest_near_miss(str(key), names)} "
                f"It has: {', '.join(names)}."
            )
    return dict(data)


def _parse_option(name: str, value: object, options: Any) -> Any:
    known = list(get_args(options))
    if value not in known:
        raise InputError(
            f"{name} is {value!r}.{suggest_near_miss(str(value), known)} It may be: "
            f"{', '.join(known)}."
        )
    return value


def _parse_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} is {value!r}: write a number.")
    return float(value)


def _optional_tuple(value: Any) -> Any:
    return None if value is None else tuple(value)


def _parse_condition(data: object) -> EditCondition:
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
    given = read_record_fields(EditSchedule, data)
    schedule = _parse_option("schedule", given.get("schedule", "constant"), Schedule)
    n = given.get("n", 1)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"The n of a schedule is {n!r}: write a whole number from 1 on.")
    return EditSchedule(schedule, n)


def _parse_vector(data: object) -> SteeringVector | None:
    if data is None:
        return None
    given = read_record_fields(SteeringVector, data)
    if missing := {"name", "hook", "values"} - set(given):
        raise InputError(f"A vector needs {', '.join(sorted(missing))}.")
    values = tuple(_parse_number("values", value) for value in given["values"])
    return SteeringVector(str(given["name"]), str(given["hook"]), values)


def _parse_basis(data: object) -> EditBasis:
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
