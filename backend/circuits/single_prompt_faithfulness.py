"""Faithfulness of circuits that were found on a single prompt without ablation: attribution graphs,
traces and weight paths.

These methods predict from a frozen model; here their circuits are run: nodes outside go to zero in
the real model, and features and error terms are recomputed. The target is the sum of logits that
the graph explains, each less the mean over the vocabulary. What no dictionary represents runs
freely, and so do attention patterns; in a second run patterns and norm scales are frozen as on the
unedited prompt, because the graph's predictions are about the frozen model.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.prompt_targets import TargetedPrompts
from backend.attribution.target_metric import TargetMetric
from backend.circuits.circuit_prompts import CircuitPromptSet
from backend.circuits.complement_ablation import ComplementAblation
from backend.circuits.effect_refinement import CHECKED_NODES, compare_with_exact_effects
from backend.circuits.faithfulness import RANDOM_SETS, StageProgress, measure_faithfulness_curves
from backend.circuits.frozen_model import freeze_model
from backend.circuits.logit_targets import (
    LogitTarget,
    build_logit_target,
    describe_logit_cap,
    select_likeliest_logits,
)
from backend.circuits.node_and_edge_checks import build_circuit_node_table, predict_node_effects
from backend.circuits.node_baselines import DictionaryOnPrompts, NodeBaselines
from backend.circuits.node_table import NodeTable, log_spaced_sizes
from backend.circuits.prompt_tokens import build_circuit_prompt
from backend.circuits.records import Circuit, CircuitNode, EffectCheck
from backend.circuits.replacement_model import layer_of_hook
from backend.circuits.single_node_ablation import ablate_single_nodes
from backend.circuits.sparse_feature_circuit import select_dictionaries as dictionaries_of
from backend.engine import LocalEngine
from backend.engine_protocol import TokenizedText
from feature_store.number_ranges import describe_layers

ABLATED_KINDS = ("feature", "error")
LOGIT_CAP_NOTE = (
    "the graph explains logits before the cap and ablation measures them after it, "
    "so predicted and measured effects agree only approximately."
)


def measure_single_prompt_faithfulness(
    engine: LocalEngine,
    circuit: Circuit,
    text: TokenizedText,
    answers: Sequence[int] = (),
    against: Sequence[int] = (),
    *,
    draws: int = RANDOM_SETS,
    on_progress: StageProgress | None = None,
) -> Circuit:
    """Measure the faithfulness of a single-prompt circuit and return it with its curves, figures,
    and the facts that are needed to run parts of it again.

    `answers` and `against` are the token ids of its target; without answers the target is the
    likeliest next tokens together. Raises InputError for two dictionaries that write to one hook
    point.
    """
    logit_targets = select_logit_targets(engine, text, answers, against)
    examples = build_single_prompt(engine, text, logit_targets)
    used = dictionaries_of(engine, circuit.dictionaries)
    baselines = NodeBaselines(engine.lm, used, "zero", examples)
    kept, _ = build_circuit_node_table(circuit, [one.name for one in used])
    table = append_other_active_nodes(kept, baselines.read_dictionaries(examples))
    ablation = ComplementAblation(engine.lm, baselines, examples)
    size = len(kept)
    nulls = [size] if size else []
    measure_curves = partial(
        measure_faithfulness_curves, table=table, nulls=nulls, draws=draws, on_progress=on_progress
    )
    curves = measure_curves(ablation, sizes=[*log_spaced_sizes(size), size])
    frozen_curves = measure_curves(freeze_complement_ablation(ablation), sizes=nulls)
    full_point = curves.point_at(size, "count")
    nodes, check = ablate_circuit_nodes(engine, baselines, examples, circuit, kept)
    return replace(
        circuit,
        nodes=nodes,
        effect_check=check,
        baseline="zero",
        clean=curves.clean,
        empty=curves.empty,
        curves=curves.points,
        faithfulness=curves.figures.get(size),
        completeness=full_point and full_point.completeness,
        held=frozen_curves.points,
        held_faithfulness=frozen_curves.figures.get(size),
        facts={**circuit.facts, **record_target_facts(examples, answers, against)},
        notes=(
            *circuit.notes,
            *describe_unablated_modules(engine, circuit, table),
            *describe_logit_cap(engine.lm, LOGIT_CAP_NOTE),
        ),
    )


def ablate_circuit_nodes(
    engine: LocalEngine,
    baselines: NodeBaselines,
    examples: CircuitPromptSet,
    circuit: Circuit,
    kept: NodeTable,
) -> tuple[tuple[CircuitNode, ...], EffectCheck | None]:
    """Ablate the strongest nodes of a single-prompt circuit exactly; return all nodes, the
    strongest with their exact effects, and the agreement with the effects that the graph predicts.
    `kept` has the nodes in the circuit's order."""
    there = [n.id for n in circuit.nodes if n.dictionary in kept.names and n.kind in ABLATED_KINDS]
    top = kept.select(torch.arange(min(CHECKED_NODES, len(kept))))
    if not len(top):
        return circuit.nodes, None
    found = ablate_single_nodes(engine.lm, baselines, examples, top.which, top.slot, top.feature)
    known = dict(zip(there, found.tolist(), strict=False))
    nodes = tuple(replace(n, exact=known.get(n.id)) for n in circuit.nodes)
    predicted = predict_node_effects(circuit)
    both = [id for id in known if id in predicted]
    estimated = np.array([predicted[id] for id in both], dtype=np.float64)
    values = np.array([known[id] for id in both], dtype=np.float64)
    return nodes, compare_with_exact_effects(estimated, values)


def freeze_complement_ablation(ablation: ComplementAblation) -> ComplementAblation:
    """Return the complement ablation of a single prompt with attention patterns and norm scales
    frozen.

    Raises InputError for a model that cannot be frozen.
    """
    frozen_model = freeze_model(ablation.lm, ablation.examples.batch.prompts.tokens)
    return ComplementAblation(ablation.lm, ablation.baselines, ablation.examples, frozen_model)


def select_logit_targets(
    engine: LocalEngine, text: TokenizedText, answers: Sequence[int], against: Sequence[int]
) -> list[LogitTarget]:
    """Select the logit targets of a prompt in the same way as the attribution graph and the
    trace."""
    with torch.no_grad():
        logits = engine.lm.logits(torch.tensor([text.token_ids]))[0, -1]
    if answers:
        return build_logit_target(engine.lm, logits, answers, against)
    return select_likeliest_logits(engine.lm, logits)


def build_single_prompt(
    engine: LocalEngine, text: TokenizedText, logit_targets: Sequence[LogitTarget]
) -> CircuitPromptSet:
    """Build the prompt set of one prompt, with slots by position and the weighted sum of the logit
    targets as its target metric."""
    prompts = PaddedPrompts.of([text])
    ids = [token for target in logit_targets for token in target.ids]
    weights = [target.weight * part for target in logit_targets for part in target.parts]
    slot = torch.arange(prompts.tokens.shape[1])[None].masked_fill(~prompts.counted, -1)
    shown = build_circuit_prompt(engine.lm.tokenizer, text)
    target = TargetMetric([ids], None, prompts.last, [weights], engine.lm.n_nameable)
    laid = TargetedPrompts(prompts, target, None)
    return CircuitPromptSet(laid, slot.to(engine.lm.placement.device), shown.tokens, (shown,))


def record_target_facts(
    examples: CircuitPromptSet, answers: Sequence[int], against: Sequence[int]
) -> dict:
    """Return the facts about slots and target that are stored with a single-prompt circuit so that
    `restore_circuit_prompts` can restore it, and the token ids of its target (empty for the
    likeliest next tokens)."""
    target = examples.batch.target
    return {
        "slot_of": examples.slot.tolist(),
        "places": "slots",
        "seed": 0,
        "against": None,
        "answers": [list(ids) for ids in target.answers],
        "weights": [list(each) for each in target.weights or ()],
        "aim": {"answers": list(answers), "against": list(against)},
    }


def append_other_active_nodes(kept: NodeTable, sites: Sequence[DictionaryOnPrompts]) -> NodeTable:
    """Append all other nodes that are active on the prompt to the node table of a circuit, so that
    random sets for the null of faithfulness can be drawn from them."""
    there = {
        (int(k), int(s), int(i))
        for k, s, i in zip(kept.which, kept.slot, kept.feature, strict=True)
    }
    more: dict[tuple[int, int, int], None] = {}
    for site in sites:
        k = kept.names.index(site.dictionary.name)
        active = site.activations.active
        slots = site.slot[active.row, active.position].tolist()
        found = [(k, s, i) for s, i in zip(slots, active.feature.tolist(), strict=True)]
        found += [(k, s, -1) for s in site.slot[site.slot >= 0].tolist()]
        more |= dict.fromkeys(one for one in found if one not in there)
    which, slot, feature = torch.tensor(list(more), dtype=torch.long).reshape(-1, 3).T
    nothing = torch.zeros(len(more), dtype=torch.double)
    active = torch.ones(len(more), dtype=torch.bool)
    columns = (which, slot, feature, nothing, nothing, active)
    own = (kept.which, kept.slot, kept.feature, kept.effect, kept.value, kept.active)
    return NodeTable(kept.names, *(torch.cat(both) for both in zip(own, columns, strict=True)))


def describe_unablated_modules(
    engine: LocalEngine, circuit: Circuit, table: NodeTable
) -> list[str]:
    """Return a note that names the modules which run freely in the faithfulness run because no
    dictionary represents them."""
    outside = dict.fromkeys(
        node.dictionary
        for node in circuit.nodes
        if node.kind == "error" and node.dictionary not in table.names
    )
    layers = sorted(layer_of_hook(name) for name in outside)
    parts = [f"the MLPs of {describe_layers(layers)}"] if layers else []
    attended = any(".attn" in engine.dictionaries[name].hook_out for name in table.names)
    if not attended and not any("resid" in engine.dictionaries[n].hook_out for n in table.names):
        parts.insert(0, "attention")
    if not parts:
        return []
    return [
        "In the faithfulness runs no node represents these parts, so they run freely: "
        f"{', '.join(parts)}."
    ]
