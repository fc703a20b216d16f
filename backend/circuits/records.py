"""Circuit records: the nodes, edges, faithfulness and facts that every circuit method returns, as
plain data with JSON conversion. This module does not load torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from backend.circuits.circuit_format_1 import convert_format_1
from feature_store.errors import InputError
from feature_store.statistics.estimate import Estimate

NodeKind = Literal["feature", "error", "token", "logit", "head"]
BaselineKind = Literal["zero", "mean", "resample", "pair"]
ErrorTermMode = Literal["count", "keep", "remove"]
"""Treatment of error terms in a circuit under ablation: counted as nodes, always kept, or always
removed."""

NODE_KINDS: tuple[str, ...] = get_args(NodeKind)
BASELINE_KINDS: tuple[str, ...] = get_args(BaselineKind)
ERROR_TERM_MODES: tuple[ErrorTermMode, ...] = get_args(ErrorTermMode)
CIRCUIT_FORMAT = 2
"""Version of the circuit JSON. Format 1, in which faithfulness could be stored without its null,
can still be read."""
LEAST_SPEARMAN, SLOPE_RANGE = 0.95, (0.9, 1.1)
"""Agreement that estimated effects must reach with exact ablation: minimum Spearman correlation,
and range of the slope."""

FAITHFULNESS_FIELDS = ("faithfulness", "held_faithfulness")
"""Fields of a circuit that hold a `Faithfulness` record."""

RecordType = TypeVar("RecordType")


@dataclass(frozen=True)
class CircuitNode:
    """Record of one circuit node: a feature, error term, token, logit or attention head at one
    place of the prompt."""

    id: str
    """Identifier of the node, unique in its circuit, as `feature_id` and the other id functions
    build it."""
    kind: NodeKind
    layer: int
    """Layer that the circuit node writes to; −1 for tokens, the number of layers for logits."""
    position: int | None = None
    """Position of the circuit node in the prompt, or an index into `Circuit.slots`; None if it is
    summed over positions."""
    dictionary: str = ""
    """Name of the dictionary of a circuit node that is a feature or error term."""
    feature: int | None = None
    """Index of the circuit node's feature in its dictionary; the token id for tokens and logits."""
    effect: float | None = None
    """Effect of the circuit node in the target's units, with the sign and meaning that the method
    gives it (`Circuit.effect_means`)."""
    value: float | None = None
    """Value of the circuit node: activation, norm of an error term, or probability of a logit,
    averaged over prompts."""
    label: str = ""
    """Text of a token or logit node; the labels of features are in the catalog."""
    exact: float | None = None
    """Exact effect of the circuit node: the change of the target when only this node goes to its
    baseline, measured by ablation on the prompts on which `effect` is estimated; None if it was not
    measured."""


@dataclass(frozen=True)
class CircuitEdge:
    """Record of one circuit edge. Its `weight` is in the target's units for sparse feature
    circuits; other methods define their own meaning."""

    source: str
    target: str
    weight: float
    stability: float | None = None
    """Share of bootstrap draws over prompts in which the edge holds (`edge_stability.py`). None for
    circuits of one prompt."""


@dataclass(frozen=True)
class EffectCheck:
    """Record of the agreement of a circuit's estimated effects with exact ablations of its
    strongest nodes, one at a time."""

    nodes: int
    """Number of nodes that the check of effects ablated."""
    spearman: float | None
    """Spearman correlation of estimated and exact effects; None below three nodes, or if either
    side does not vary."""
    slope: float | None
    """Slope of the regression of the exact effects on the estimated effects."""
    median_error: float | None
    """Median relative error of the estimated effects: |estimate − measured| ÷ |measured|."""
    paths: int | None = None
    """Number of paths of integrated gradients that were used in the end; None for other
    estimates."""

    @property
    def reached(self) -> bool:
        """Return whether a circuit's estimated effects agree well enough with exact ablations:
        Spearman correlation of at least 0.95 and a slope of 0.9 to 1.1."""
        if self.spearman is None or self.slope is None:
            return False
        return self.spearman >= LEAST_SPEARMAN and SLOPE_RANGE[0] <= self.slope <= SLOPE_RANGE[1]


@dataclass(frozen=True)
class FaithfulnessPoint:
    """Record of one point of a circuit's faithfulness curve: the strongest `nodes` nodes, evaluated
    by ablation."""

    nodes: int
    errors: ErrorTermMode
    share: Estimate | None = None
    """Share (F(C) − F(∅)) ÷ (F(M) − F(∅)) for the curve; the faithfulness that is reported of a
    circuit is its `Faithfulness` record, which has a null."""
    completeness: Estimate | None = None
    """Completeness: the share of the target that all nodes but these reach; low is good."""


@dataclass(frozen=True)
class NullFaithfulness:
    """Record of the null of a circuit's faithfulness: the faithfulness of random sets with as many
    active nodes in every dictionary and slot."""

    median: float
    low: float
    """2.5th percentile of the faithfulness of the random sets."""
    high: float
    """97.5th percentile of the faithfulness of the random sets."""
    percentile_95: float
    draws: int
    """Number of random sets that were run for the null of faithfulness."""
    nearer: float
    """Share of the random sets that end further from the whole model's target than the circuit
    does."""


@dataclass(frozen=True)
class Faithfulness:
    """Faithfulness record of a circuit: the share of the target that its nodes carry, together with
    the null from random sets of the same composition.

    Faithfulness is never stored without its null, which is a required field.
    """

    value: float
    null: NullFaithfulness
    nodes: int
    """Number of nodes that the circuit kept when its faithfulness was measured, error terms
    included."""
    errors: ErrorTermMode = "count"
    low: float | None = None
    """Lower end of the 95 % interval of the faithfulness over prompts; None if there are too few
    prompts for one."""
    high: float | None = None
    n: int = 0
    """Number of prompts on which faithfulness was measured."""

    def __post_init__(self) -> None:
        if not isinstance(self.null, NullFaithfulness) or self.null.draws < 1:
            raise InputError(
                "Faithfulness cannot be stored without its null: the random sets are missing."
            )

    @property
    def above_null(self) -> bool:
        """Return whether the faithfulness is above the 95th percentile of the random sets."""
        return self.value > self.null.percentile_95

    @property
    def better_than_random(self) -> bool:
        """Return whether the circuit is nearer to the whole model than 95 % of random sets are.

        This is the same as being above their 95th percentile, unless either overshoots the whole
        model: 1.8 is as far from it as 0.2.
        """
        if max(self.value, self.null.percentile_95) <= 1:
            return self.above_null
        return self.null.nearer >= 0.95


@dataclass(frozen=True)
class CircuitPrompt:
    """Prompt of a circuit record: its text, tokens, answers, and corrupted prompt."""

    text: str
    tokens: tuple[str, ...] = ()
    """Text of each token of the prompt, BOS included."""
    ids: tuple[int, ...] = ()
    answer: str = ""
    against: str = ""
    corrupt: str = ""
    """Corrupted prompt of the circuit's prompt pair, if there is one."""


@dataclass(frozen=True)
class Circuit:
    """Circuit record: a graph of nodes and edges, the target that it explains, and its
    faithfulness. `from_json(to_json())` gives back the same record."""

    method: str
    model: str
    prompts: tuple[CircuitPrompt, ...]
    target: str
    """Description of the circuit's target, such as logit(" Mary") - logit(" John") at the last
    token."""
    nodes: tuple[CircuitNode, ...]
    """Nodes of the circuit by falling |effect|, tokens and logits last: the curve point of n nodes
    keeps the first n."""
    edges: tuple[CircuitEdge, ...]
    """Edges of the circuit by falling |weight|."""
    baseline: BaselineKind | None = None
    """Kind of baseline that ablated nodes of the circuit take; None for methods without
    ablation."""
    dictionaries: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    """Names of the positions in the circuit: the prompt's tokens, or the places of a template."""
    effect_means: str = ""
    """Sentence that explains the sign and unit of a node's effect in this circuit."""
    clean: Estimate | None = None
    """Target of the circuit on the unedited model."""
    empty: Estimate | None = None
    """Target of the empty circuit, with every node at its baseline."""
    faithfulness: Faithfulness | None = None
    """Faithfulness of the circuit as returned; None if it was not run, or if the whole model is not
    clearly better than the empty circuit."""
    completeness: Estimate | None = None
    error_share: Mapping[str, float] = field(default_factory=dict)
    """Share of the error terms in the circuit's effects for each dictionary: Σ|effects of error
    terms| ÷ Σ|all effects|."""
    curves: tuple[FaithfulnessPoint, ...] = ()
    held: tuple[FaithfulnessPoint, ...] = ()
    """Curve points of the whole graph with attention patterns and norm scales frozen as on the
    prompt, for methods that freeze them; in `curves` both run freely."""
    held_faithfulness: Faithfulness | None = None
    """Faithfulness of the circuit with patterns and norms frozen and error terms counted as
    nodes."""
    effect_check: EffectCheck | None = None
    """Agreement of effects for the nodes that have an `exact` value; None for methods that estimate
    no effects."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Results that only the circuit's method has, as plain data."""
    notes: tuple[str, ...] = ()
    """Sentences for the reader on what the circuit does not cover, what was cut, and what is
    undefined."""

    def node(self, id: str) -> CircuitNode:
        """Return the node with that id in the circuit record; raises InputError if there is
        none."""
        for one in self.nodes:
            if one.id == id:
                return one
        raise InputError(f"This circuit has no node {id!r}.")

    def to_json(self) -> dict[str, Any]:
        """Return the circuit record as plain data for JSON; NaN and infinite numbers become
        null."""
        plain = {
            "format": CIRCUIT_FORMAT,
            **_to_plain_data(asdict(self, dict_factory=_plain_record)),
        }
        for name in FAITHFULNESS_FIELDS:
            if (figure := getattr(self, name)) is not None:
                plain[name]["better_than_random"] = figure.better_than_random
        return plain

    @classmethod
    def from_json(cls, given: object) -> "Circuit":
        """Restore a circuit record from the data of `to_json`; raises InputError, with the reason,
        for other data."""
        if isinstance(given, Mapping) and given.get("format", 1) == 1:
            given = convert_format_1(given)
        row = _read_fields(cls, given, "a circuit", ignoring=("format",))
        if isinstance(given, Mapping) and given.get("format", CIRCUIT_FORMAT) != CIRCUIT_FORMAT:
            raise InputError(
                f"This circuit has format {given['format']}; formats 1 and {CIRCUIT_FORMAT} can "
                "be read."
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
    """Return the node id of a feature in a circuit record: `resid-2/17@4`, or `resid-2/17@*` summed
    over positions."""
    return f"{dictionary}/{feature}@{_position_text(position)}"


def error_id(dictionary: str, position: int | None) -> str:
    """Return the node id of an error term in a circuit record: `resid-2/error@4`."""
    return f"{dictionary}/error@{_position_text(position)}"


def token_id(position: int) -> str:
    """Return the node id of a token in a circuit record: `token@4`."""
    return f"token@{position}"


def logit_id(token: int | str, position: int | None) -> str:
    """Return the node id of a logit in a circuit record, `logit/312@8`; a target of several logits
    has a word in place of the number."""
    return f"logit/{token}@{_position_text(position)}"


def head_id(layer: int, head: int, position: int | None) -> str:
    """Return the node id of an attention head in a circuit record, `head/2.1@8`; the node's feature
    is the number of the head, its dictionary is empty."""
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


ESTIMATE_FIELDS = {one.name for one in fields(Estimate)}


def _plain_record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a record's fields as a dict; an estimate's unused fields are left out."""
    record = dict(pairs)
    if record.keys() == ESTIMATE_FIELDS:
        return {k: v for k, v in record.items() if v or k not in ("n_documents", "note")}
    return record


def _read_estimate(given: object, name: str) -> Estimate | None:
    return (
        None
        if given is None
        else _construct_record(Estimate, _read_fields(Estimate, given, name), name)
    )


def _read_fields(
    of: type, given: object, what: str, ignoring: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the fields of a circuit record, or of one of its parts, from a JSON object; raises
    InputError for a value that is no object and for unknown fields."""
    if not isinstance(given, Mapping):
        raise InputError(f"Not {what}: expected a JSON object, not {type(given).__name__}.")
    known = {one.name for one in fields(of)}
    for name in given:
        if name not in known and name not in ignoring:
            raise InputError(f"Unknown field {name!r} in {what}.")
    return {str(name): value for name, value in given.items() if name in known}


def _construct_record(of: type[RecordType], row: dict[str, Any], what: str) -> RecordType:
    """Construct a circuit record from its fields; raises InputError if required fields are
    missing."""
    try:
        return of(**row)
    except TypeError as bad:
        raise InputError(f"Not {what}: {str(bad).split('__init__() ')[-1]}.") from bad


def _check_list(given: object, name: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise InputError(f"The {name} of a circuit must be a list, not {type(given).__name__}.")
    return given


def check_circuit(circuit: Circuit) -> None:
    """Check a circuit record; raises InputError for unknown kinds, duplicate ids, edges to missing
    nodes, and values that are not numbers."""
    known: set[str] = set()
    for node in circuit.nodes:
        if node.kind not in NODE_KINDS:
            raise InputError(
                f"A node has the kind {node.kind!r}; the kinds are: {', '.join(NODE_KINDS)}."
            )
        if not isinstance(node.id, str) or node.id in known:
            raise InputError(f"The node id {node.id!r} occurs twice, or is not a text.")
        if type(node.layer) is not int or not isinstance(node.position, int | None):
            raise InputError(f"The layer and position of {node.id!r} must be whole numbers.")
        known.add(node.id)
    for edge in circuit.edges:
        missing = next((end for end in (edge.source, edge.target) if end not in known), None)
        if missing is not None:
            raise InputError(f"An edge names the node {missing!r}, which is not in the circuit.")
        if not isinstance(edge.weight, int | float) or not math.isfinite(edge.weight):
            raise InputError(
                f"The weight of the edge {edge.source} → {edge.target} is not a number."
            )
        if not isinstance(edge.stability, int | float | None):
            raise InputError(
                f"The stability of the edge {edge.source} → {edge.target} is not a number."
            )
