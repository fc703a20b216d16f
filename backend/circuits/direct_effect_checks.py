"""Checks of direct effects: the source of an edge is set to zero, and the change that the edge
predicts is measured.

The edges of attribution graphs and traces are direct effects: the part of the target's value (a
logit, a feature's pre-activation) that comes straight from the source. The source is set to zero in
three runs: *frozen* freezes patterns, norms and all other sources, which checks the arithmetic but
is no causal proof; *direct* freezes the outputs of modules but neither patterns nor norms; *free*
freezes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.part_edits import canonical_hook
from backend.circuits.frozen_model import FINAL_NORM
from backend.circuits.logit_targets import build_logit_target
from backend.circuits.node_and_edge_checks import (
    CHECKED_EDGES_LIMIT,
    summarize_edge_check,
    summarize_relative_errors,
)
from backend.circuits.node_effects import CountProgress
from backend.circuits.records import Circuit, CircuitNode
from backend.circuits.replacement_model import (
    CutSite,
    LinearReadout,
    ReplacementModel,
    fold_encoder_rows,
)
from backend.circuits.subset_encoder import encode_feature_subset
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.model.fast_forward import ActivationEdit, compose_edits
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

DIRECT_EFFECT_METHODS = ("attribution-graph", "trace")
"""Circuit methods whose edges are direct effects and can be checked as such."""
INTERVENTION_MODES = ("frozen", "direct", "free")
CHANGE_MEANING = (
    "Change of the target's own value (a logit, or a feature's activation before "
    "its gate) when the source is set to zero"
)
HookActivations = dict[str, Float[Tensor, "rows pos width"]]
"""Activations in one run of a direct-effect check, by the canonical hook point at which targets are
read."""


def check_direct_edges(
    engine: LocalEngine,
    circuit: Circuit,
    edges: Sequence[tuple[str, str]] = (),
    on_progress: CountProgress | None = None,
) -> dict[str, Any]:
    """Compare predicted and measured direct effects of a circuit's edges, in the format of
    `check_edges`: the change of the target's value when the source is set to zero.

    Raises InputError for circuits of other methods, for edges into attention heads, and for unknown
    nodes.
    """
    if circuit.method not in DIRECT_EFFECT_METHODS:
        raise InputError(
            f"The edges of {circuit.method} are not direct effects, so a single "
            "intervention cannot check them."
        )
    check = DirectEffectCheck(engine, circuit)
    weights = {(one.source, one.target): one.weight for one in circuit.edges}
    asked = (
        list(edges)
        or [pair for pair in weights if check.is_readable(pair[1])][:CHECKED_EDGES_LIMIT]
    )
    for source, target in asked:
        if (source, target) not in weights:
            raise InputError(f"This circuit has no edge from {source} to {target}.")
    readouts = {target: check.target_readout(target) for _, target in asked}
    measured = {
        mode: _measure_edges(check, mode, asked, readouts, on_progress)
        for mode in INTERVENTION_MODES
    }
    found: dict[str, Any] = {"n_prompts": 1, "note": "", "means": CHANGE_MEANING}
    for mode, changes in measured.items():
        both = [(-weights[pair], *change) for pair, change in zip(asked, changes, strict=True)]
        found[mode] = summarize_edge_check(asked, both)
        if mode == "frozen":
            found[mode]["relative_error"] = summarize_relative_errors(
                [(a, b, False) for a, b, _ in both]
            )  # of pre-activations, which do not depend on the gate
    return found


@dataclass(eq=False)
class DirectEffectCheck:
    """Check of direct effects in one circuit: it runs the circuit's prompt with the recorded output
    of every module, sets one source at a time to zero, and reads the targets."""

    engine: LocalEngine
    circuit: Circuit

    @property
    def lm(self) -> LanguageModel:
        return self.engine.lm

    @cached_property
    def tokens(self) -> Tensor:
        if not self.circuit.prompts or not self.circuit.prompts[0].ids:
            raise InputError(
                "This circuit does not record the tokens of its prompt, so its edges cannot be "
                "checked. Run it again."
            )
        return torch.tensor([self.circuit.prompts[0].ids])

    @cached_property
    def replacement(self) -> ReplacementModel:
        """Return the replacement model of the circuit's prompt, whose direct effects are
        checked."""
        counted = torch.tensor([self.engine.text(self.tokens[0].tolist()).counted])
        reads = [f"{FINAL_NORM}.hook_out"]
        with torch.enable_grad():
            return ReplacementModel(
                self.lm, self.tokens, counted, self.dictionaries, extra_reads=reads, rows=1
            )

    @property
    def dictionaries(self) -> list[Dictionary]:
        return [self.dictionary(name) for name in self.circuit.dictionaries]

    def dictionary(self, name: str) -> Dictionary:
        """Return the loaded dictionary that a direct-effect check needs; raises InputError if the
        engine has none of that name."""
        if name not in self.engine.dictionaries:
            raise InputError(
                f"The dictionary {name} is not loaded. Open the harvest that contains it."
            )
        return self.engine.dictionaries[name]

    @cached_property
    def nodes(self) -> dict[str, CircuitNode]:
        return {node.id: node for node in self.circuit.nodes}

    def node(self, id: str) -> CircuitNode:
        """Return the node with that id in the checked circuit; raises InputError if there is
        none."""
        if id not in self.nodes:
            raise InputError(f"This circuit has no node {id!r}.")
        return self.nodes[id]

    def is_readable(self, id: str) -> bool:
        """Return whether direct effects on a target can be checked: its value can be read for
        logits and for features of the circuit's dictionaries."""
        node = self.node(id)
        return node.kind == "logit" or (
            node.kind == "feature" and node.dictionary in self.circuit.dictionaries
        )

    def target_readout(self, id: str) -> LinearReadout:
        """Return the linear readout of an edge's target (a logit or a feature's pre-activation), of
        whose value the direct effects are terms. Raises InputError for a target that cannot be
        read."""
        node = self.node(id)
        if node.kind == "logit":
            return self._logit_readout(node)
        if not self.is_readable(id) or node.feature is None or node.position is None:
            raise InputError(
                f"No dictionary of this circuit reads {id}, so edges into it cannot be checked."
            )
        d = self.dictionary(node.dictionary)
        G, b = fold_encoder_rows(self.lm, d, torch.tensor([node.feature]))
        return LinearReadout(self.lm.canonical(d.hook_name), node.position, G[0], float(b[0]))

    def _logit_readout(self, node: CircuitNode) -> LinearReadout:
        aim = self.circuit.facts.get("aim") or {}
        ids = [node.feature] if node.feature is not None else aim.get("answers", [])
        less = [] if node.feature is not None else aim.get("against", [])
        if not ids:
            raise InputError(
                "This circuit was found by a version whose edges cannot be checked. Run it again."
            )
        with torch.no_grad():
            logits = self.lm.logits(self.tokens)[0, -1]
        (one,) = build_logit_target(self.lm, logits, ids, less)
        return one.linear_readout(self.lm, self.tokens.shape[1] - 1)

    def zero_source(self, id: str) -> tuple[int, Float[Tensor, "1 pos width"]]:
        """Return the change of a module's output that sets the source of a direct effect to zero:
        the index of the replacement model's cut at that output, and the change, [1, position,
        width]."""
        node = self.node(id)
        name = "blocks.0.hook_resid_pre" if node.kind == "token" else node.dictionary
        at = next((i for i, site in enumerate(self.replacement.sites) if site.name == name), None)
        if at is None or node.position is None:
            raise InputError(
                f"{id} has no output that can be set to zero, so edges from it cannot be checked."
            )
        site = self.replacement.sites[at]
        change = torch.zeros_like(site.h)
        here = (slice(None), node.position)
        if node.kind == "feature":
            assert site.activations is not None
            active = site.activations.active
            mine = (active.position == node.position) & (active.feature == node.feature)
            part = site.activations.decode_feature_values(torch.where(mine, active.value, 0.0))
            change[here] = -part[here]
        else:
            change[here] = -(site.h if site.remainder is None else site.remainder)[here]
        return at, change

    @torch.no_grad()
    def run_with_changes(
        self, mode: str, output_changes: Mapping[int, Tensor], wanted: Sequence[str]
    ) -> HookActivations:
        """Run the circuit's prompt in one mode of a direct-effect check (frozen, direct or free)
        with `output_changes` added at the replacement model's cuts, and return the activations at
        the canonical hook points `wanted`."""
        if mode == "frozen":
            self.replacement._forward(1, dict(output_changes))
            return {hook: self.replacement._live[hook].detach() for hook in wanted}
        live: HookActivations = {}
        reads = list(wanted)
        reads += [
            self.lm.canonical(s.activations.dictionary.hook_name)
            for s in self.replacement.sites
            if s.activations is not None and s.activations.dictionary.W_skip is not None
        ]
        edits: dict[str, list[ActivationEdit]] = {}
        for hook in dict.fromkeys(reads):
            edits.setdefault(hook, []).append(_record_activation(hook, live))
        for i, site in enumerate(self.replacement.sites):
            hook = site.hook if site.hook.endswith("_mid") else canonical_hook(self.lm, site.hook)
            edits.setdefault(hook, []).append(
                self._build_cut_edit(mode, site, output_changes.get(i), live)
            )
        self.lm.logits(self.tokens, {hook: compose_edits(some) for hook, some in edits.items()})
        return {hook: live[hook] for hook in wanted}

    def _build_cut_edit(
        self, mode: str, site: CutSite, output_changes: Tensor | None, live: HookActivations
    ) -> ActivationEdit:
        """Return the edit of a module's output in a direct-effect check: it writes the recorded
        output in the direct run, keeps the run's own output in the free run, and adds
        `output_changes`."""
        d = None if site.activations is None else site.activations.dictionary

        def write(h: Tensor) -> Tensor:
            new = site.h if mode == "direct" and not site.is_tokens else h
            if mode == "direct" and d is not None and d.W_skip is not None:
                assert site.activations is not None
                x = self.lm.process(d.hook_name, live[self.lm.canonical(d.hook_name)], d.processing)
                moved = (x.to(site.activations.x) - site.activations.x) * self.replacement.counted[
                    ..., None
                ]
                new = new + (moved @ d.W_skip.T).to(new.dtype)
            return new if output_changes is None else new + output_changes.to(new.dtype)

        return write


def _measure_edges(
    check: DirectEffectCheck,
    mode: str,
    asked: Sequence[tuple[str, str]],
    readouts: Mapping[str, LinearReadout],
    on_progress: CountProgress | None,
) -> list[tuple[float, bool]]:
    """Measure for each checked edge the direct effect (change of the target's value when the source
    is zero), and whether the target's feature was switched on or off."""
    wanted = list(dict.fromkeys(readout.hook for readout in readouts.values()))
    before = {k: v.clone() for k, v in check.run_with_changes(mode, {}, wanted).items()}
    found: dict[tuple[str, str], tuple[float, bool]] = {}
    sources = list(dict.fromkeys(source for source, _ in asked))
    for done, source in enumerate(sources):
        at, change = check.zero_source(source)
        after = check.run_with_changes(mode, {at: change}, wanted)
        for pair in asked:
            if pair[0] == source:
                readout = readouts[pair[1]]
                moved = _read_number(after, readout) - _read_number(before, readout)
                found[pair] = (moved, _has_switched(check, pair[1], readout, before, after))
        if on_progress:
            on_progress(done + 1, len(sources))
    return [found[pair] for pair in asked]


def _read_number(live: HookActivations, readout: LinearReadout) -> float:
    h = live[readout.hook][0, readout.position]
    return float(h.double() @ readout.direction.double())


def _has_switched(
    check: DirectEffectCheck,
    id: str,
    readout: LinearReadout,
    before: HookActivations,
    after: HookActivations,
) -> bool:
    """Return whether setting the source of a direct effect to zero switched the target's feature on
    or off; False for a target that is no feature."""
    node = check.node(id)
    if node.kind != "feature" or node.feature is None:
        return False
    d, ids = check.dictionary(node.dictionary), torch.tensor([node.feature])
    on = []
    for live in (before, after):
        x = check.lm.process(d.hook_name, live[readout.hook], d.processing).to(d.coder.W_dec)
        on.append(bool(encode_feature_subset(d, ids.to(x.device), x)[0, readout.position, 0] != 0))
    return on[0] != on[1]


def _record_activation(hook: str, live: HookActivations) -> ActivationEdit:
    def listen(h: Tensor) -> Tensor:
        live[hook] = h
        return h

    return listen
