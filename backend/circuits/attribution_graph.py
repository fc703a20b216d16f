"""Attribution graphs through transcoders: all direct effects between the active features, error
terms, tokens and logits of one prompt.

With attention patterns and norm scales frozen, each active feature's pre-activation and each logit
is a bias plus a sum over earlier features, error terms and tokens (Ameisen et al. 2025;
circuit-tracer by Hanna, Piotrowski and others). The sum is exact, so an edge predicts an
intervention: if the source is ablated while patterns, norms and the other features stay frozen, the
target changes by the weight of the edge.

1. One forward pass of the frozen model, cut at every transcoder's output.
2. One backward pass for each batch of targets, multiplied with the sources' vectors.
3. Logits first, then features in order of their influence so far, until the budget is spent.
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
"""Default number of features of an attribution graph whose own sources are traced."""
EFFECT_BYTES = 512 << 20
"""Default memory, in bytes, for the direct effects of an attribution graph."""


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Attribution graph of one prompt before pruning: the direct effects between the nodes that
    were traced."""

    effects: Float[np.ndarray, "n n"]
    """Direct effects between the nodes of the attribution graph, [target, source]; the rows of
    error terms and tokens are empty."""
    sources: list[SourceNode]
    """Nodes of the attribution graph except the logits, which come last."""
    logit_targets: list[LogitTarget]
    values: Float[np.ndarray, "n"]
    """Value of each target node of the attribution graph, its pre-activation or logit; NaN for
    nodes without sources."""
    replacement: ReplacementModel
    n_active: int
    """Number of transcoder features active on the prompt, whether the attribution graph traced them
    or not."""
    untraced_share: float
    """Share of the features' influence that belongs to features which the attribution graph did not
    trace."""

    @cached_property
    def kinds(self) -> NodeKindMasks:
        """Return one mask over the nodes of the attribution graph for each kind: feature, error
        term, token, logit."""
        sites = self.replacement.sites
        is_token = [sites[place.site].is_tokens for place in self.sources]
        is_feature = [place.feature is not None for place in self.sources]
        n = len(self.logit_targets)
        token, feature = np.array([*is_token, *[False] * n]), np.array([*is_feature, *[False] * n])
        logit = np.arange(len(token)) >= len(self.sources)
        return NodeKindMasks(feature, ~(token | feature | logit), token, logit)

    @property
    def weights(self) -> Float[np.ndarray, "n"]:
        """Return the weights of the logit targets; 0 for all other nodes of the graph."""
        aims = [target.weight for target in self.logit_targets]
        return np.array([*[0.0] * len(self.sources), *aims])

    @property
    def n_traced(self) -> int:
        """Return the number of features in the attribution graph."""
        return int(self.kinds.feature.sum())


def build_attribution_graph(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    select_targets: Callable[[Float[Tensor, "vocab"]], list[LogitTarget]],
    *,
    budget: int = TRACED_FEATURES,
    memory: int = EFFECT_BYTES,
    on_progress: TracedCountProgress | None = None,
) -> AttributionGraph:
    """Build the attribution graph of a prompt. The function `select_targets` selects the logit
    targets from the logits of the last token.

    The callback `on_progress` receives the numbers of features traced and to trace, and may raise
    an exception to stop. Raises InputError without a dictionary, or if the model cannot be
    frozen.
    """
    if not dictionaries:
        raise InputError("An attribution graph needs a transcoder: name at least one.")
    tokens = torch.tensor([text.token_ids])
    counted = torch.tensor([text.counted])
    replacement = ReplacementModel(
        lm, tokens, counted, dictionaries, extra_reads=[f"{FINAL_NORM}.hook_out"]
    )
    targets = select_targets(lm.logits(tokens)[0, -1].detach())
    readouts = [target.linear_readout(lm, len(text.token_ids) - 1) for target in targets]
    weights = np.array([target.weight for target in targets])
    tracer = SourceTracer(
        replacement, readouts, weights, budget=budget, memory=memory, rule="influence"
    )
    found = tracer.trace_features(on_progress)
    sources = [tracer.columns.sources[i] for i in found.kept]
    active = tracer.columns.n_features
    return AttributionGraph(
        found.effects, sources, targets, found.values, replacement, active, found.untraced_share
    )
