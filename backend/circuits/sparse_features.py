"""Sparse feature circuits (Marks et al. 2024, arXiv:2403.19647), with their proof.

1. Effects of every feature and error term of all dictionaries, on one half of the prompts.
2. The strongest nodes, and the direct edges between them and to the target.
3. On the other half: faithfulness and completeness by ablation over the number of nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.ablation.changes import point
from backend.circuits.aims import capped
from backend.circuits.checked_effects import MOST_PATHS, CheckedEffects, checked_effects
from backend.circuits.edges import Weights, weights
from backend.circuits.effects import PATHS, Method
from backend.circuits.examples import Examples
from backend.circuits.grounds import Grounds
from backend.circuits.judging import Judge
from backend.circuits.proof import DRAWS, Proof, Said, prove
from backend.circuits.records import (
    Baseline,
    Circuit,
    Edge,
    Errors,
    Node,
    error_id,
    feature_id,
    logit_id,
)
from backend.circuits.stability import stability
from backend.circuits.table import Table, grid
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.sourcing import layer_of
from feature_store.errors import InputError, pick
from feature_store.number_ranges import describe_layers

NAME = "sparse-features"
SPLIT = 20
"""Prompts from which on nodes are chosen on one half and judged on the other."""
MOST_NODES = 2_000
EDGE_PROMPTS = 64
"""Prompts that edges are averaged over, at most."""
EDGE_NUMBERS = 1 << 27
"""Edges of single prompts held at once: 512 MB. Graphs of over 1,400 nodes take fewer prompts."""
CAPPED = (
    "the target is of capped logits, and edges follow the cap's slope at the prompts, so they are "
    "approximate."
)
EFFECTS_OFF = (
    "Estimated effects of the strongest nodes do not agree with their exact ablation (Spearman of "
    "at least 0.95, slope of 0.9 to 1.1): read the measured values."
)
MEANS = (
    "Change of the target when the node alone goes to its baseline, estimated from gradients: "
    "negative where the target needs the node."
)


@dataclass(frozen=True)
class Settings:
    """How a circuit is found."""

    baseline: Baseline = "zero"
    method: Method = "integrated"
    nodes: int = 100
    edges: int = 5_000
    errors: Errors = "count"
    """Of the figures beside the returned graph; the curves have all three."""
    paths: int = PATHS
    """Of integrated gradients, at first."""
    most_paths: int = MOST_PATHS
    """Paths may grow to so many until effects agree with exact ablation."""
    draws: int = DRAWS
    """Random sets of the null; 0: none."""
    seed: int = 0

    def check(self) -> "Settings":
        """InputError for sizes that nothing can be made of."""
        pick("method of attribution", self.method, {"gradient": "", "integrated": ""})
        pick("way with error terms", self.errors, {"count": "", "keep": "", "remove": ""})
        if not 1 <= self.nodes <= MOST_NODES:
            raise InputError(f"A circuit has 1 to {MOST_NODES:,} nodes, not {self.nodes:,}.")
        if self.edges < 0 or self.paths < 1 or self.draws < 0:
            raise InputError("Edges and draws are no negative numbers, and there is one path.")
        return self


def sparse_features(
    engine: LocalEngine,
    examples: Examples,
    names: Sequence[str] = (),
    settings: Settings | None = None,
    said: Said | None = None,
) -> Circuit:
    """The circuit over `examples`; without `names`, all dictionaries. InputError for none, for two
    that write at one hook point, and for a baseline that these prompts do not have."""
    settings = (settings or Settings()).check()
    dictionaries = chosen(engine, names)
    halves = len(examples) >= SPLIT
    first, second = examples.halves() if halves else (examples, examples)
    grounds = Grounds(engine.lm, dictionaries, settings.baseline, first, settings.seed)
    found = checked_effects(
        engine.lm,
        grounds,
        first,
        settings.method,
        settings.paths,
        settings.most_paths,
        _told(said, "effects of nodes"),
    )
    table = found.table
    kept = table.rows(torch.arange(min(settings.nodes, len(table))))
    few = first.rows(slice(0, edge_prompts(len(kept))))
    between = weights(engine.lm, grounds, few, kept, _told(said, "edges"))
    judge = Judge(engine.lm, grounds, second)
    size = len(kept)
    proof = prove(
        judge,
        table,
        [*grid(len(table)), size],
        nulls=[size],
        errors=settings.errors,
        draws=settings.draws,
        seed=settings.seed,
        said=said,
    )
    return _record(engine, examples, dictionaries, settings, found, kept, between, proof)


def chosen(engine: LocalEngine, names: Sequence[str]) -> list[Dictionary]:
    """The dictionaries in the model's order. InputError for none, and for two at one place."""
    found = [pick("dictionary", name, engine.dictionaries) for name in names]
    found = found or list(engine.dictionaries.values())
    if not found:
        raise InputError("There is no dictionary: a circuit of features needs at least one.")
    taken: dict[str, str] = {}
    for one in found:
        at = point(engine.lm, one.hook_out)
        if at in taken:
            raise InputError(
                f"{taken[at]} and {one.name} both write at {one.hook_out}: choose one of them."
            )
        taken[at] = one.name
    return sorted(found, key=_depth)


def _depth(one: Dictionary) -> tuple[int, int]:
    layer = layer_of(one.hook_out)
    parts = ("resid_pre", "attn", "resid_mid", "mlp")
    inside = next((i for i, part in enumerate(parts) if part in one.hook_out), len(parts))
    return (-1 if layer is None else layer, inside)


def _counted(n: int) -> str:
    return "prompt" if n == 1 else f"{n} prompts"


def _spaced(n: int) -> str:
    """12 345, by thin spaces."""
    return f"{n:,}".replace(",", "\u202f")


def _told(said: Said | None, what: str):
    return None if said is None else lambda done, total: said(done, total, what)


def _record(
    engine: LocalEngine,
    examples: Examples,
    dictionaries: Sequence[Dictionary],
    settings: Settings,
    found: CheckedEffects,
    kept: Table,
    between: Weights,
    proof: Proof,
) -> Circuit:
    target = target_text(examples)
    layers = {one.name: layer_of(one.hook_out) or 0 for one in dictionaries}
    measured = [*found.measured.tolist(), *[None] * len(kept)]
    nodes = [_node(kept, i, layers, examples, measured[i]) for i in range(len(kept))]
    goal = Node(
        logit_id("target", None),
        "logit",
        engine.lm.n_layers,
        label=target,
        value=proof.clean.value,
    )
    edges = _edges(between, [*nodes, goal], settings.edges, settings.seed)
    here = proof.at(len(kept), settings.errors)
    return Circuit(
        method=NAME,
        model=engine.lm.name,
        prompts=examples.shown,
        target=target,
        nodes=(*nodes, goal),
        edges=edges,
        baseline=settings.baseline,
        dictionaries=tuple(one.name for one in dictionaries),
        slots=examples.names,
        effect_means=MEANS,
        clean=proof.clean,
        empty=proof.empty,
        faithfulness=proof.figures.get(len(kept)),
        completeness=here and here.completeness,
        error_share={one.name: one.error_share for one in found.found},
        curves=proof.points,
        effect_check=found.check,
        facts=_facts(examples, settings, found, between.n),
        notes=_notes(engine, examples, dictionaries, settings, found, kept, edges, proof),
    )


def _node(
    table: Table, i: int, layers: Mapping[str, int], examples: Examples, measured: float | None
) -> Node:
    name, feature = table.names[int(table.which[i])], int(table.feature[i])
    position = None if examples.summed else int(table.slot[i])
    is_error = feature < 0
    return Node(
        error_id(name, position) if is_error else feature_id(name, feature, position),
        "error" if is_error else "feature",
        layers[name],
        position,
        name,
        None if is_error else feature,
        float(table.effect[i]),
        float(table.value[i]),
        exact=measured,
    )


def edge_prompts(nodes: int) -> int:
    """How many prompts the edges between so many nodes are averaged over."""
    return max(1, min(EDGE_PROMPTS, EDGE_NUMBERS // (nodes + 1) ** 2))


def _edges(between: Weights, nodes: Sequence[Node], most: int, seed: int) -> tuple[Edge, ...]:
    """The strongest edges, each with its stability over prompts."""
    flat = between.mean.flatten()
    strong = flat.abs().topk(min(most, len(flat))).indices
    strong = strong[flat[strong] != 0]
    n = between.mean.shape[1]
    each = between.each.flatten(1)[:, strong].double().numpy()
    held = stability(each, seed=seed)
    shares = [None] * len(strong) if held is None else held.tolist()
    return tuple(
        Edge(nodes[at % n].id, nodes[at // n].id, weight, share)
        for at, weight, share in zip(strong.tolist(), flat[strong].tolist(), shares, strict=True)
    )


def target_text(examples: Examples) -> str:
    """The target in words."""
    target, shown = examples.laid.target, examples.shown
    words = {(one.answer, one.against) for one in shown}
    answer, against = next(iter(words)) if len(words) == 1 else ("answer", "wrong answer")
    several = any(len(ids) > 1 for ids in target.answers)
    quoted = [repr(text) if len(words) == 1 else text for text in (answer, against)]
    if target.against is None:
        return f"log probability of {quoted[0]}"
    what = "log of summed probabilities" if several else "logit"
    return f"{what}: {quoted[0]} - {quoted[1]}"


def _facts(
    examples: Examples,
    settings: Settings,
    found: CheckedEffects,
    edges_on: int,
) -> dict[str, Any]:
    target = examples.laid.target
    lengths = [len(one.ids) for one in examples.shown]
    slots = examples.slot.tolist()
    return {
        "attribution": settings.method,
        "paths": found.check.paths,
        "seed": settings.seed,
        "candidates": len(found.table),
        "errors": settings.errors,
        "gap": {one.name: one.gap for one in found.found},
        "moved": {one.name: one.moved for one in found.found},
        "chosen_on": len(examples) // 2 if len(examples) >= SPLIT else len(examples),
        "edges_on": edges_on,
        "places": "sum" if examples.summed else "slots",
        "slot_of": [row[:n] for row, n in zip(slots, lengths, strict=True)],
        "answers": [list(ids) for ids in target.answers],
        "against": None if target.against is None else [list(ids) for ids in target.against],
    }


def _notes(
    engine: LocalEngine,
    examples: Examples,
    dictionaries: Sequence[Dictionary],
    settings: Settings,
    found: CheckedEffects,
    kept: Table,
    edges: Sequence[Edge],
    proof: Proof,
) -> tuple[str, ...]:
    notes = capped(engine.lm, CAPPED)
    if len(examples) < SPLIT:
        notes.append(
            f"Nodes are chosen and judged on the same {_counted(len(examples))}: figures flatter. "
            f"From {SPLIT} prompts on, one half chooses and the other judges."
        )
    covered = {layer_of(one.hook_out) for one in dictionaries}
    bare = [layer for layer in range(engine.lm.n_layers) if layer not in covered]
    if bare:
        free = describe_layers(bare)
        notes.append(f"Without a dictionary, and so free to run: {free}.")
    if not found.check.reached:
        notes.append(EFFECTS_OFF)
    if len(kept) < len(found.table):
        few, all_ = _spaced(len(kept)), _spaced(len(found.table))
        notes.append(f"The strongest {few} of {all_} nodes by |effect|.")
    if len(edges) == settings.edges:
        notes.append(f"The strongest {_spaced(settings.edges)} edges; there are more.")
    if not proof.clear:
        notes.append(
            "The whole model is not clearly better than the empty circuit (3 standard errors), so "
            "no share of the difference is told."
        )
    elif not settings.draws:
        notes.append("No random sets were asked for, so no faithfulness is told.")
    if settings.errors == "keep":
        notes.append("Error terms outside the graph are kept: faithfulness leans on them.")
    return tuple(notes)
