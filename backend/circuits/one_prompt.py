"""The proof of a circuit that was found on one prompt without ablation.

Graphs that follow a model held still predict; here they are run: nodes outside go to zero in the
real model, features and error terms read anew. The target is the sum of logits that the graph
explains, each less the vocabulary's mean. What no dictionary stands for runs freely, and so do
attention patterns; once more they and the norms' lengths are held as on the whole prompt, which is
what the graph says anything about.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from backend.ablation.laying import Laid
from backend.ablation.prompts import Prompts
from backend.attribution.targets import Target
from backend.circuits.aims import Aim, capped, chosen, likeliest
from backend.circuits.checked_effects import CHECKED, compare_effects
from backend.circuits.checking import predicted, table_of
from backend.circuits.exact import exact
from backend.circuits.examples import Examples
from backend.circuits.frozen import hold_still
from backend.circuits.grounds import Grounds, Site
from backend.circuits.judging import Judge
from backend.circuits.proof import DRAWS, Said, prove
from backend.circuits.records import Circuit, EffectCheck, Node
from backend.circuits.replacement import layer_of
from backend.circuits.sparse_features import chosen as dictionaries_of
from backend.circuits.table import Table, grid
from backend.circuits.words import prompt_of
from backend.engine import LocalEngine
from backend.live import Text
from feature_store.number_ranges import describe_layers

ABLATED = ("feature", "error")
CAPPED = (
    "the graph explains them before the cap and ablation measures them after it, so what is "
    "predicted and what is measured agree only approximately."
)


def proven(
    engine: LocalEngine,
    circuit: Circuit,
    text: Text,
    answers: Sequence[int] = (),
    against: Sequence[int] = (),
    *,
    draws: int = DRAWS,
    said: Said | None = None,
) -> Circuit:
    """The circuit with its curves, its figures, and what it takes to run parts of it again.

    `answers` and `against` are the token ids of its target; without answers, the likeliest next
    tokens together. InputError for two dictionaries that write at one place.
    """
    aims = aims_of(engine, text, answers, against)
    examples = examples_of(engine, text, aims)
    used = dictionaries_of(engine, circuit.dictionaries)
    grounds = Grounds(engine.lm, used, "zero", examples)
    kept, _ = table_of(circuit, [one.name for one in used])
    table = with_others(kept, grounds.sites(examples))
    judge = Judge(engine.lm, grounds, examples)
    size = len(kept)
    nulls = [size] if size else []
    proof = prove(judge, table, [*grid(size), size], nulls=nulls, draws=draws, said=said)
    held = prove(held_still(judge), table, nulls, nulls=nulls, draws=draws, said=said)
    here = proof.at(size, "count")
    nodes, check = measured(engine, grounds, examples, circuit, kept)
    return replace(
        circuit,
        nodes=nodes,
        effect_check=check,
        baseline="zero",
        clean=proof.clean,
        empty=proof.empty,
        curves=proof.points,
        faithfulness=proof.figures.get(size),
        completeness=here and here.completeness,
        held=held.points,
        held_faithfulness=held.figures.get(size),
        facts={**circuit.facts, **facts_of(examples, answers, against)},
        notes=(*circuit.notes, *free(engine, circuit, table), *capped(engine.lm, CAPPED)),
    )


def measured(
    engine: LocalEngine, grounds: Grounds, examples: Examples, circuit: Circuit, kept: Table
) -> tuple[tuple[Node, ...], EffectCheck | None]:
    """The circuit's nodes, the strongest with what their exact ablation measured, and how well that
    agrees with what the graph predicts of them. `kept` has the nodes in the circuit's order."""
    there = [n.id for n in circuit.nodes if n.dictionary in kept.names and n.kind in ABLATED]
    top = kept.rows(torch.arange(min(CHECKED, len(kept))))
    if not len(top):
        return circuit.nodes, None
    found = exact(engine.lm, grounds, examples, top.which, top.slot, top.feature)
    known = dict(zip(there, found.tolist(), strict=False))
    nodes = tuple(replace(n, exact=known.get(n.id)) for n in circuit.nodes)
    said = predicted(circuit)
    both = [id for id in known if id in said]
    estimated = np.array([said[id] for id in both], dtype=np.float64)
    values = np.array([known[id] for id in both], dtype=np.float64)
    return nodes, compare_effects(estimated, values)


def held_still(judge: Judge) -> Judge:
    """The same of one prompt whose attention patterns and norm scales stay what they were.

    InputError for a model that cannot be held still.
    """
    still = hold_still(judge.lm, judge.examples.laid.prompts.tokens)
    return Judge(judge.lm, judge.grounds, judge.examples, still)


def aims_of(
    engine: LocalEngine, text: Text, answers: Sequence[int], against: Sequence[int]
) -> list[Aim]:
    """What the graph explains, as the attribution graph and the trace have it."""
    with torch.no_grad():
        logits = engine.lm.logits(torch.tensor([text.token_ids]))[0, -1]
    if answers:
        return chosen(engine.lm, logits, answers, against)
    return likeliest(engine.lm, logits)


def examples_of(engine: LocalEngine, text: Text, aims: Sequence[Aim]) -> Examples:
    """The prompt by position, with the weighted sum of the aims as its target."""
    prompts = Prompts.of([text])
    ids = [token for aim in aims for token in aim.ids]
    weights = [aim.weight * part for aim in aims for part in aim.parts]
    slot = torch.arange(prompts.tokens.shape[1])[None].masked_fill(~prompts.counted, -1)
    shown = prompt_of(engine.lm.tokenizer, text)
    target = Target([ids], None, prompts.last, [weights], engine.lm.n_nameable)
    laid = Laid(prompts, target, None)
    return Examples(laid, slot.to(engine.lm.placement.device), shown.tokens, (shown,))


def facts_of(examples: Examples, answers: Sequence[int], against: Sequence[int]) -> dict:
    """What `examples.again` reads, and the token ids of the target (none: the likeliest)."""
    target = examples.laid.target
    return {
        "slot_of": examples.slot.tolist(),
        "places": "slots",
        "seed": 0,
        "against": None,
        "answers": [list(ids) for ids in target.answers],
        "weights": [list(each) for each in target.weights or ()],
        "aim": {"answers": list(answers), "against": list(against)},
    }


def with_others(kept: Table, sites: Sequence[Site]) -> Table:
    """The circuit's nodes, and behind them every other that is active: the null draws from all."""
    there = {
        (int(k), int(s), int(i))
        for k, s, i in zip(kept.which, kept.slot, kept.feature, strict=True)
    }
    more: dict[tuple[int, int, int], None] = {}
    for site in sites:
        k = kept.names.index(site.dictionary.name)
        active = site.reading.active
        slots = site.slot[active.row, active.position].tolist()
        found = [(k, s, i) for s, i in zip(slots, active.feature.tolist(), strict=True)]
        found += [(k, s, -1) for s in site.slot[site.slot >= 0].tolist()]
        more |= dict.fromkeys(one for one in found if one not in there)
    which, slot, feature = torch.tensor(list(more), dtype=torch.long).reshape(-1, 3).T
    nothing = torch.zeros(len(more), dtype=torch.double)
    active = torch.ones(len(more), dtype=torch.bool)
    columns = (which, slot, feature, nothing, nothing, active)
    own = (kept.which, kept.slot, kept.feature, kept.effect, kept.value, kept.active)
    return Table(kept.names, *(torch.cat(both) for both in zip(own, columns, strict=True)))


def free(engine: LocalEngine, circuit: Circuit, table: Table) -> list[str]:
    """What runs freely in the proof."""
    outside = dict.fromkeys(
        node.dictionary
        for node in circuit.nodes
        if node.kind == "error" and node.dictionary not in table.names
    )
    layers = sorted(layer_of(name) for name in outside)
    parts = [f"the MLPs of {describe_layers(layers)}"] if layers else []
    attended = any(".attn" in engine.dictionaries[name].hook_out for name in table.names)
    if not attended and not any("resid" in engine.dictionaries[n].hook_out for n in table.names):
        parts.insert(0, "attention")
    if not parts:
        return []
    return [f"In faithfulness these run freely, for want of nodes: {', '.join(parts)}."]
