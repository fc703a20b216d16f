"""Weight paths: the strongest paths of a prompt back from a feature or a logit, found by greedy
search in the weights.

Each step of a path is a product of weights times values of the prompt: an activation, an attention
weight, and the scale of a norm. A step goes to a feature that wrote at the same token, or through
one attention head to another token and on from there (Dunefsky et al. 2024). Only the strongest
steps are followed, so that the search does not find all paths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backend.circuits.frozen_model import FINAL_NORM, FrozenModel, freeze_model
from backend.circuits.patch_free_tracing import FeatureStart, LogitStart, prepare_single_start
from backend.circuits.prompt_tokens import token_texts
from backend.circuits.records import CircuitNode, error_id, feature_id, head_id, token_id
from backend.circuits.replacement_model import CutSite, LinearReadout, build_cut_sites
from backend.circuits.weight_connections import (
    BLOCK_ORDER,
    HEADS_ORDER,
    encoder_rows_in_stream,
    find_norm_before_hook,
    hook_order,
    read_head_weights,
)
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.features.logit_lens import map_to_residual_stream, norm_gain
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

STEPS_PER_PLACE = 5
"""Number of steps of a weight path that are followed from one place."""
BEAM_WIDTH = 40
"""Number of weight paths that continue from one depth of the greedy search to the next."""
MOST_DEPTH = 8
DepthProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class WeightPath:
    """Path in the weights from a source to the start (the logit or feature that is explained);
    `value` is the part of the start's value that comes along the path."""

    nodes: tuple[CircuitNode, ...]
    """Nodes of the weight path, the source first and the start last."""
    value: float
    direction: Float[Tensor, "d_model"] | None
    """Direction of the residual stream with which the weight path can continue; None where it
    ends."""
    position: int
    before: int
    """Rank in the order of hook points (`weight_connections.hook_order`); only what writes before
    it can be the next step of the weight path."""


def find_greedy_paths(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    start: FeatureStart | LogitStart,
    *,
    known: Sequence[Dictionary] = (),
    steps: int = STEPS_PER_PLACE,
    beam: int = BEAM_WIDTH,
    depth: int = MOST_DEPTH,
    through_features: bool = True,
    on_progress: DepthProgress | None = None,
) -> list[WeightPath]:
    """Find the strongest weight paths through these transcoders by greedy search, by falling
    |value|.

    `known` may name the dictionary of a starting feature that paths do not go through. With
    `through_features=False` paths end at the first feature, so that all paths from one source add
    up to its direct effect. Raises InputError for a start that does not exist, for a model whose
    weights do not determine the paths, and for a dictionary of attention outputs, because heads are
    steps of a path.
    """
    for one in dictionaries:
        _check_no_attention(lm, one)
    search = _WeightPathSearch.prepare(lm, dictionaries, text, known)
    first = search.start_path(text, start)
    found: list[WeightPath] = []
    front = [first]
    for level in range(depth):
        new = [step for path in front for step in search.find_steps(path, steps)]
        new.sort(key=lambda path: -abs(path.value))
        new = new[:beam]
        found += new
        front = [
            path
            for path in new
            if path.direction is not None and (through_features or path.nodes[0].kind != "feature")
        ]
        if on_progress:
            on_progress(level + 1, depth)
        if not front:
            break
    return sorted(found, key=lambda path: -abs(path.value))


@dataclass(frozen=True, eq=False)
class _WeightPathSearch:
    """Search state for weight paths: a prompt's activations, attention patterns and norm scales,
    and the weights between them."""

    lm: LanguageModel
    frozen_model: FrozenModel
    sites: list[CutSite]
    patterns: list[Float[Tensor, "head pos pos"]]
    heads: list[tuple[Float[Tensor, "head d d_head"], Float[Tensor, "head d_head d"]]]
    tokens: tuple[str, ...]
    known: dict[str, Dictionary]

    @classmethod
    def prepare(
        cls,
        lm: LanguageModel,
        cut: Sequence[Dictionary],
        text: TokenizedText,
        known: Sequence[Dictionary],
    ) -> "_WeightPathSearch":
        tokens, counted = torch.tensor([text.token_ids]), torch.tensor([text.counted])
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(lm.n_layers)]
        patterns = [pattern[0].float() for pattern in lm.bridge_activations(tokens, names).values()]
        return cls(
            lm,
            freeze_model(lm, tokens),
            build_cut_sites(lm, tokens, counted, cut),
            patterns,
            [read_head_weights(lm, layer) for layer in range(lm.n_layers)],
            tuple(token_texts(lm.tokenizer, text.token_ids)),
            {one.name: one for one in [*known, *cut]},
        )

    def start_path(self, text: TokenizedText, start: FeatureStart | LogitStart) -> WeightPath:
        """Return the weight path from which a search begins: only the start, a logit or a feature,
        without any step."""
        node, readout = prepare_single_start(self.lm, list(self.known.values()), text, start)
        if isinstance(start, FeatureStart):
            d = self.known[start.feature.dictionary]
            direction = self._stream_direction(d, start.feature.index, start.position)
            before = hook_order(self.lm, d.hook_name)
        else:
            direction, before = self._logit_direction(readout), len(BLOCK_ORDER) * self.lm.n_layers
        return WeightPath((node,), float("nan"), direction, readout.position, before)

    def find_steps(self, path: WeightPath, most: int) -> list[WeightPath]:
        """Return the strongest steps by which a weight path continues back from its source."""
        if path.direction is None:
            return []
        found = [
            *self._steps_to_features(path, most),
            *self._steps_through_heads(path, most),
            *self._final_steps(path),
        ]
        found.sort(key=lambda one: -abs(one.value))
        return found[:most]

    def _steps_to_features(self, path: WeightPath, most: int) -> list[WeightPath]:
        """Return the strongest continuations of a weight path to features that wrote at the same
        token."""
        assert path.direction is not None
        found = []
        for site in self.sites:
            if site.activations is None or hook_order(self.lm, site.hook) >= path.before:
                continue
            d, active = site.activations.dictionary, site.activations.active
            here = torch.nonzero(active.position == path.position)[:, 0]
            if not len(here):
                continue
            rows = map_to_residual_stream(self.lm, d.W_dec[active.feature[here]], d.hook_out)
            if rows is None or d.per_token_norm:
                raise InputError(
                    f"{d.name} does not write to the residual stream by its weights alone."
                )
            slopes = rows @ path.direction
            values = slopes * active.value[here]
            for i in values.abs().topk(min(most, len(values))).indices.tolist():
                feature, activation = int(active.feature[here[i]]), float(active.value[here[i]])
                found.append(
                    WeightPath(
                        (self._build_node(site, path.position, feature, activation), *path.nodes),
                        float(values[i]),
                        slopes[i] * self._stream_direction(d, feature, path.position),
                        path.position,
                        hook_order(self.lm, d.hook_name),
                    )
                )
        return found

    def _steps_through_heads(self, path: WeightPath, most: int) -> list[WeightPath]:
        """Return the strongest continuations of a weight path through one attention head to another
        token."""
        found = []
        assert path.direction is not None
        for layer, (W_V, W_O) in enumerate(self.heads):
            reads = len(BLOCK_ORDER) * layer + HEADS_ORDER
            if reads + 1 >= path.before:
                continue
            norm = self.frozen_model.norms[f"blocks.{layer}.ln1"]
            pulled = torch.einsum("hde,hef,f->hd", W_V, W_O, path.direction)
            weight = self.patterns[layer][:, path.position] / norm.length[0, :, 0].float()
            values = weight * (pulled @ norm.clean_input[0].float().T)
            flat = values.flatten()
            for at in flat.abs().topk(min(most, len(flat))).indices.tolist():
                head, source = divmod(at, values.shape[1])
                if flat[at] == 0:
                    continue
                id = f"{head_id(layer, head, path.position)}<{source}"
                seen = float(self.patterns[layer][head, path.position, source])
                looks = f"{layer}.{head}: {path.position} attends to {source}"
                node = CircuitNode(id, "head", layer, path.position, "", head, None, seen, looks)
                direction = weight[head, source] * pulled[head]
                nodes = (node, *path.nodes)
                found.append(WeightPath(nodes, float(flat[at]), direction, source, reads))
        return found

    def _final_steps(self, path: WeightPath) -> list[WeightPath]:
        """Return the continuations of a weight path to tokens and error terms, where paths end."""
        assert path.direction is not None
        found = []
        for site in self.sites:
            if not site.is_tokens and hook_order(self.lm, site.hook) >= path.before:
                continue
            rest = site.h if site.remainder is None else site.remainder
            given = rest[:, path.position].float()
            written = given if site.is_tokens else map_to_residual_stream(self.lm, given, site.hook)
            if written is None:
                raise InputError(
                    f"The activation at {site.hook} does not add to the residual stream directly."
                )
            value = float(written[0] @ path.direction)
            nodes = (self._build_node(site, path.position, None, float(given.norm())), *path.nodes)
            found.append(WeightPath(nodes, value, None, path.position, 0))
        return found

    def _stream_direction(
        self, d: Dictionary, feature: int, position: int
    ) -> Float[Tensor, "d_model"]:
        """Return the direction of the residual stream from which a weight path continues before a
        feature, with the norm's scale at its position."""
        row = encoder_rows_in_stream(self.lm, d, torch.tensor([feature]))[0]
        norm = find_norm_before_hook(self.lm, d.hook_name)
        return row if norm is None else row / self.frozen_model.norms[norm[0]].length[0, position]

    def _logit_direction(self, readout: LinearReadout) -> Float[Tensor, "d_model"]:
        """Return the direction of the residual stream from which a weight path continues before a
        logit, with the final norm's scale."""
        weight = norm_gain(self.lm, FINAL_NORM)
        row = readout.direction.float() * (1 if weight is None else weight)
        row = row - row.mean() if self.lm.is_layer_norm else row
        return row / self.frozen_model.norms[FINAL_NORM].length[0, readout.position]

    def _build_node(self, site: CutSite, at: int, feature: int | None, value: float) -> CircuitNode:
        if feature is not None:
            id = feature_id(site.name, feature, at)
            return CircuitNode(id, "feature", site.layer, at, site.name, feature, None, value)
        if site.is_tokens:
            token = int(self.frozen_model.tokens[0, at])
            return CircuitNode(
                token_id(at), "token", -1, at, "", token, None, value, self.tokens[at]
            )
        return CircuitNode(
            error_id(site.name, at), "error", site.layer, at, site.name, None, None, value
        )


def _check_no_attention(lm: LanguageModel, d: Dictionary) -> None:
    """Raise InputError for a dictionary of attention outputs, because weight paths go through
    heads."""
    order = hook_order(lm, d.hook_out) % len(BLOCK_ORDER)
    if order == HEADS_ORDER + 1:
        raise InputError(
            f"{d.name} represents the attention output of its layer, but paths go through "
            "attention heads. Leave it out, or use the method trace."
        )
