"""A circuit as plain data: what every algorithm gives, importable without torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from backend.circuits.circuit_format_1 import convert_format_1
from feature_store.errors import InputError

NodeKind = Literal["feature", "error", "token", "logit", "head"]
BaselineKind = Literal["zero", "mean", "resample", "pair"]
ErrorTermMode = Literal["count", "keep", "remove"]
"""Error terms in a judged circuit: nodes like others, always there, or never there."""

NODE_KINDS: tuple[str, ...] = get_args(NodeKind)
BASELINE_KINDS: tuple[str, ...] = get_args(BaselineKind)
ERROR_TERM_MODES: tuple[ErrorTermMode, ...] = get_args(ErrorTermMode)
CIRCUIT_FORMAT = 2
"""Of the JSON. Format 1, in which faithfulness could stand without its null, is still read."""
LEAST_SPEARMAN, SLOPE_RANGE = 0.95, (0.9, 1.1)
"""The bar for estimated effects against exact ablation."""

FAITHFULNESS_FIELDS = ("faithfulness", "held_faithfulness")
"""Fields of a circuit that are a `Faithfulness`."""

RecordType = TypeVar("RecordType")


@dataclass(frozen=True)
class CircuitNode:
    """One feature, error term, token, logit or attention head at one place of the prompt."""

    id: str
    """Unique in its circuit: see `feature_id` and those beside it."""
    kind: NodeKind
    layer: int
    """Where it writes; -1 for tokens, the number of layers for logits."""
    position: int | None = None
    """Of the prompt, or a number into `Circuit.slots`; None: summed over positions."""
    dictionary: str = ""
    """Of features and error terms."""
    feature: int | None = None
    """Index in its dictionary; the token's id for tokens and logits."""
    effect: float | None = None
    """In the target's units, with the method's sign and meaning (`Circuit.effect_means`)."""
    value: float | None = None
    """The activation, an error term's norm, a logit's probability; the mean over prompts."""
    label: str = ""
    """The text of a token or logit; features have their labels in the catalog."""
    exact: float | None = None
    """The target's change when this node alone goes to its baseline, measured by ablation on the
    prompts that `effect` is estimated on; None where it was not measured."""


@dataclass(frozen=True)
class CircuitEdge:
    """`weight` in the target's units for sparse feature circuits; methods say what it is."""

    source: str
    target: str
    weight: float
    stability: float | None = None
    """Over prompts: the share of bootstrap draws in which it holds (`stability.py`). None for one
    prompt, and for methods that read one."""


@dataclass(frozen=True)
class PromptEstimate:
    """A number with its 95 % interval over prompts; no interval where n is too small for one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True)
class EffectCheck:
    """How well estimated effects agree with exact ablations of the strongest nodes, one by one."""

    nodes: int
    """How many were ablated."""
    spearman: float | None
    """None where it is not defined: below three nodes, or where one side does not vary."""
    slope: float | None
    """Of the measured changes on the estimates."""
    median_error: float | None
    """The median of |estimate - measured| ÷ |measured|."""
    paths: int | None = None
    """Of integrated gradients, as many as were needed in the end; None for other estimates."""

    @property
    def reached(self) -> bool:
        """Whether the bar is met: Spearman of at least 0.95 and a slope of 0.9 to 1.1."""
        if self.spearman is None or self.slope is None:
            return False
        return self.spearman >= LEAST_SPEARMAN and SLOPE_RANGE[0] <= self.slope <= SLOPE_RANGE[1]


@dataclass(frozen=True)
class FaithfulnessPoint:
    """One point of a curve: the strongest `nodes` nodes, judged by ablation."""

    nodes: int
    errors: ErrorTermMode
    share: PromptEstimate | None = None
    """(F(C) - F(∅)) ÷ (F(M) - F(∅)). It makes up a curve; what is told of a circuit is its
    `Faithfulness`, which has a null."""
    completeness: PromptEstimate | None = None
    """The share that all but these nodes have: low is good."""


@dataclass(frozen=True)
class NullFaithfulness:
    """Faithfulness of random sets: as many active nodes in every dictionary and slot, run alike."""

    median: float
    low: float
    """The 2.5th percentile."""
    high: float
    """The 97.5th percentile."""
    percentile_95: float
    draws: int
    """How many sets were run."""
    nearer: float
    """The share of them that ends further from the whole model's target than the circuit does."""


@dataclass(frozen=True)
class Faithfulness:
    """How much of the target a set of nodes carries, beside what random sets of the same make do.

    There is no faithfulness without a null: it is a required part of the record.
    """

    value: float
    null: NullFaithfulness
    nodes: int
    """How many nodes were kept, error terms among them."""
    errors: ErrorTermMode = "count"
    low: float | None = None
    """Of the 95 % interval over prompts; None where there are too few prompts for one."""
    high: float | None = None
    n: int = 0
    """The number of prompts."""

    def __post_init__(self) -> None:
        if not isinstance(self.null, NullFaithfulness) or self.null.draws < 1:
            raise InputError("Faithfulness is told beside its null only: random sets are missing.")

    @property
    def above_null(self) -> bool:
        """Whether it is above the 95th percentile of the random sets."""
        return self.value > self.null.percentile_95

    @property
    def better_than_random(self) -> bool:
        """Whether the circuit is nearer to the whole model than 95 % of random sets are.

        That is being above their 95th percentile, unless either overshoots the whole model: 1.8 is
        as far from it as 0.2.
        """
        if max(self.value, self.null.percentile_95) <= 1:
            return self.above_null
        return self.null.nearer >= 0.95


@dataclass(frozen=True)
class CircuitPrompt:
    """What a circuit was read from."""

    text: str
    tokens: tuple[str, ...] = ()
    """Pieces, BOS among them."""
    ids: tuple[int, ...] = ()
    answer: str = ""
    against: str = ""
    corrupt: str = ""
    """The other half of a pair."""


@dataclass(frozen=True)
class Circuit:
    """A graph, what it is of, and how faithful it is. `from_json(to_json())` is the same."""

    method: str
    model: str
    prompts: tuple[CircuitPrompt, ...]
    target: str
    """In words: logit(" Mary") - logit(" John") at the last token."""
    nodes: tuple[CircuitNode, ...]
    """By falling |effect|, tokens and logits last: a curve's point of n nodes is the first n."""
    edges: tuple[CircuitEdge, ...]
    """By falling |weight|."""
    baseline: BaselineKind | None = None
    """Where nodes go when they go; None for methods without."""
    dictionaries: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    """What the positions are called: the prompt's tokens, or the places of a template."""
    effect_means: str = ""
    """What an effect is here: sign and unit, in a sentence."""
    clean: PromptEstimate | None = None
    """The target on the whole model."""
    empty: PromptEstimate | None = None
    """The target with every node at its baseline."""
    faithfulness: Faithfulness | None = None
    """Of the graph as returned; None where it was not run, or where the whole model is not clearly
    better than the empty circuit."""
    completeness: PromptEstimate | None = None
    error_share: Mapping[str, float] = field(default_factory=dict)
    """|error effects| ÷ all |effects|, for each dictionary: a cut of the model."""
    curves: tuple[FaithfulnessPoint, ...] = ()
    held: tuple[FaithfulnessPoint, ...] = ()
    """The whole graph judged with attention patterns and the norms' lengths as on the prompt, for
    methods that hold them; `curves` leave both to the model."""
    held_faithfulness: Faithfulness | None = None
    """Likewise with patterns and norms held, error terms counted as nodes."""
    effect_check: EffectCheck | None = None
    """Of the nodes that have an `exact` value; None for methods that estimate no effects."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What one method measures and others do not; plain data."""
    notes: tuple[str, ...] = ()
    """Sentences for the reader: what is not covered, what was cut, what is undefined."""

    def node(self, id: str) -> CircuitNode:
        """The node of that id; InputError if there is none."""
        for one in self.nodes:
            if one.id == id:
                return one
        raise InputError(f"This circuit has no node {id!r}.")

    def to_json(self) -> dict[str, Any]:
        """Plain data; numbers that are none are null."""
        plain = {"format": CIRCUIT_FORMAT, **_to_plain_data(asdict(self))}
        for name in FAITHFULNESS_FIELDS:
            if (figure := getattr(self, name)) is not None:
                plain[name]["better_than_random"] = figure.better_than_random
        return plain

    @classmethod
    def from_json(cls, given: object) -> "Circuit":
        """InputError, with what is wrong, for what `to_json` does not write."""
        if isinstance(given, Mapping) and given.get("format", 1) == 1:
            given = convert_format_1(given)
        row = _read_fields(cls, given, "a circuit", ignoring=("format",))
        if isinstance(given, Mapping) and given.get("format", CIRCUIT_FORMAT) != CIRCUIT_FORMAT:
            raise InputError(
                f"This circuit is of format {given['format']}; 1 and {CIRCUIT_FORMAT} are read "
                f"here."
            )
        parts = {
            "nodes": CircuitNode,
            "edges": CircuitEdge,
            "prompts": CircuitPrompt,
            "curves": FaithfulnessPoint,
            "held": FaithfulnessPoint,
        }
        for name, of in parts.items():
            row[name] = tuple(
                _read_record(of, one, name) for one in _check_list(row.get(name, ()), name)
            )
        for name in ("clean", "empty", "completeness"):
            row[name] = _read_estimate(row.get(name), name)
        for name in FAITHFULNESS_FIELDS:
            row[name] = _read_faithfulness(row.get(name))
        if row.get("effect_check") is not None:
            check = _read_fields(EffectCheck, row["effect_check"], "a check of effects")
            row["effect_check"] = _construct_record(EffectCheck, check, "a check of effects")
        for name in ("dictionaries", "slots", "notes"):
            row[name] = tuple(str(one) for one in _check_list(row.get(name, ()), name))
        found = _construct_record(cls, row, "a circuit")
        check_circuit(found)
        return found


def feature_id(dictionary: str, feature: int, position: int | None) -> str:
    """`resid-2/17@4`; `resid-2/17@*` summed over positions."""
    return f"{dictionary}/{feature}@{_position_text(position)}"


def error_id(dictionary: str, position: int | None) -> str:
    """`resid-2/error@4`"""
    return f"{dictionary}/error@{_position_text(position)}"


def token_id(position: int) -> str:
    """`token@4`"""
    return f"token@{position}"


def logit_id(token: int | str, position: int | None) -> str:
    """`logit/312@8`; a word in place of the number for a whole target."""
    return f"logit/{token}@{_position_text(position)}"


def head_id(layer: int, head: int, position: int | None) -> str:
    """`head/2.1@8`; its node's feature is the head's number, its dictionary is empty."""
    return f"head/{layer}.{head}@{_position_text(position)}"


def _position_text(position: int | None) -> str:
    return "*" if position is None else str(position)


def _to_plain_data(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _to_plain_data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain_data(one) for one in value]
    return value


def _read_record(of: type[RecordType], given: object, name: str) -> RecordType:
    row = _read_fields(of, given, f"one of the {name}")
    if of is FaithfulnessPoint:
        for part in ("share", "completeness"):
            row[part] = _read_estimate(row.get(part), part)
    if of is CircuitPrompt:
        row["tokens"] = tuple(_check_list(row.get("tokens", ()), "tokens"))
        row["ids"] = tuple(_check_list(row.get("ids", ()), "ids"))
    return _construct_record(of, row, f"one of the {name}")


def _read_faithfulness(given: object) -> Faithfulness | None:
    if given is None:
        return None
    row = _read_fields(Faithfulness, given, "faithfulness", ignoring=("better_than_random",))
    null = _read_fields(NullFaithfulness, row.get("null"), "the null of faithfulness")
    row["null"] = _construct_record(NullFaithfulness, null, "the null of faithfulness")
    return _construct_record(Faithfulness, row, "faithfulness")


def _read_estimate(given: object, name: str) -> PromptEstimate | None:
    return (
        None
        if given is None
        else _construct_record(PromptEstimate, _read_fields(PromptEstimate, given, name), name)
    )


def _read_fields(
    of: type, given: object, what: str, ignoring: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"Not {what}: an object was expected, not {type(given).__name__}.")
    known = {one.name for one in fields(of)}
    for name in given:
        if name not in known and name not in ignoring:
            raise InputError(f"A field {name!r} does not belong to {what}.")
    return {str(name): value for name, value in given.items() if name in known}


def _construct_record(of: type[RecordType], row: dict[str, Any], what: str) -> RecordType:
    try:
        return of(**row)
    except TypeError as bad:
        raise InputError(f"Not {what}: {str(bad).split('__init__() ')[-1]}.") from bad


def _check_list(given: object, name: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise InputError(f"The {name} of a circuit are a list, not {type(given).__name__}.")
    return given


def check_circuit(circuit: Circuit) -> None:
    """InputError for unknown kinds, doubled ids, edges to nowhere and numbers that are none."""
    known: set[str] = set()
    for node in circuit.nodes:
        if node.kind not in NODE_KINDS:
            raise InputError(
                f"A node is of kind {node.kind!r}; there are: {', '.join(NODE_KINDS)}."
            )
        if not isinstance(node.id, str) or node.id in known:
            raise InputError(f"Two nodes have the id {node.id!r}, or it is no text.")
        if type(node.layer) is not int or not isinstance(node.position, int | None):
            raise InputError(f"Layer and position of {node.id!r} are whole numbers.")
        known.add(node.id)
    for edge in circuit.edges:
        missing = next((end for end in (edge.source, edge.target) if end not in known), None)
        if missing is not None:
            raise InputError(f"An edge names the node {missing!r}, which the circuit lacks.")
        if not isinstance(edge.weight, int | float) or not math.isfinite(edge.weight):
            raise InputError(f"The edge {edge.source} → {edge.target} has no number as weight.")
        if not isinstance(edge.stability, int | float | None):
            raise InputError(f"The stability of {edge.source} → {edge.target} is no number.")
