"""Attribution graphs through transcoders: every direct effect on a prompt, and what it amounts to.

With patterns and norm scales held still, each active feature's pre-activation and each logit is a
bias and a sum over features, error terms and tokens before it (Ameisen et al. 2025; circuit-tracer
by Hanna, Piotrowski and others). The sum is exact, so an edge is a promise: take the source away
with patterns, norms and the other features held still, and the target changes by just that much.

1. One forward pass, held still, with every transcoder's output cut.
2. One backward pass for each batch of targets, contracted with the sources' own vectors.
3. Logits first, then features in the order of their influence so far, until the budget is spent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from backend.circuits.frozen_model import FINAL_NORM
from backend.circuits.graph_influence import NodeKindMasks
from backend.circuits.logit_targets import LogitTarget
from backend.circuits.replacement_model import ReplacementModel
from backend.circuits.source_tracer import SourceNode, SourceTracer, TracedCountProgress
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

TRACED_FEATURES = 2_000
"""Features whose own sources are traced."""
EFFECT_BYTES = 512 << 20
"""Bytes of direct effects held at once."""


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Direct effects between the nodes that were traced."""

    effects: Float[np.ndarray, "n n"]
    """Row: target, column: source. Rows of error terms and tokens are empty."""
    places: list[SourceNode]
    """Of all but the logits, which come last."""
    aims: list[LogitTarget]
    values: Float[np.ndarray, "n"]
    """A target's own value: pre-activation or logit; NaN for nodes without sources."""
    replacement: ReplacementModel
    active: int
    """Features active on the prompt, traced or not."""
    left_out: float
    """Share of the features' influence that lies with features that were not traced."""

    @cached_property
    def kinds(self) -> NodeKindMasks:
        """Which node is what."""
        sites = self.replacement.sites
        is_token = [sites[place.site].is_tokens for place in self.places]
        is_feature = [place.feature is not None for place in self.places]
        n = len(self.aims)
        token, feature = np.array([*is_token, *[False] * n]), np.array([*is_feature, *[False] * n])
        logit = np.arange(len(token)) >= len(self.places)
        return NodeKindMasks(feature, ~(token | feature | logit), token, logit)

    @property
    def weights(self) -> Float[np.ndarray, "n"]:
        """Of the aims; 0 for all other nodes."""
        aims = [aim.weight for aim in self.aims]
        return np.array([*[0.0] * len(self.places), *aims])

    @property
    def n_traced(self) -> int:
        return int(self.kinds.feature.sum())


def build_attribution_graph(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    aims: Callable[[Float[Tensor, "vocab"]], list[LogitTarget]],
    *,
    budget: int = TRACED_FEATURES,
    memory: int = EFFECT_BYTES,
    said: TracedCountProgress | None = None,
) -> AttributionGraph:
    """The graph of a prompt. `aims` names the targets from the logits of its last token.

    `said` hears how many of how many features are traced, and may raise to stop. InputError where
    there is no dictionary, or the model cannot be held still.
    """
    if not dictionaries:
        raise InputError("An attribution graph needs a transcoder: name at least one.")
    tokens = torch.tensor([text.token_ids])
    counted = torch.tensor([text.counted])
    held = ReplacementModel(
        lm, tokens, counted, dictionaries, extra_reads=[f"{FINAL_NORM}.hook_out"]
    )
    wanted = aims(lm.logits(tokens)[0, -1].detach())
    numbers = [aim.number(lm, len(text.token_ids) - 1) for aim in wanted]
    weights = np.array([aim.weight for aim in wanted])
    tracer = SourceTracer(held, numbers, weights, budget=budget, memory=memory, rule="influence")
    found = tracer.spend(said)
    places = [tracer.columns.places[i] for i in found.kept]
    active = tracer.columns.n_features
    return AttributionGraph(
        found.effects, places, wanted, found.values, held, active, found.left_out
    )
