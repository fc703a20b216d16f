"""Frozen model: a forward pass in which attention patterns and norm scales keep the values that
they have on one prompt.

Between two places of the residual stream a frozen model is an affine map, so that each effect is a
sum over its causes: the setting of attribution graphs (Ameisen et al. 2025). Queries and keys are
replaced by those of the clean run, which fixes the patterns; norms continue with their derivative
at a fixed scale. All activations stay exactly those of the model, only their dependence on one
another changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.features.logit_lens import norm_gain
from backend.model.fast_forward import ActivationEdit, compose_edits
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

NORM_NAMES = ("ln1", "ln1_post", "ln2", "ln2_post")
FINAL_NORM = "ln_final"
NORMALIZED_SUFFIX = ".hook_normalized"
MIDDLE_SUFFIX = ".hook_resid_mid"
AFFINE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Relative error, by dtype, up to which the values and derivatives of a frozen model count as those
of one affine map."""


@dataclass(frozen=True)
class FrozenNorm:
    """One norm of the frozen model on the prompt: its input, the scale that it divided by, its gain
    and its output."""

    path: str
    clean_input: Float[Tensor, "1 pos d"]
    length: Float[Tensor, "1 pos 1"]
    gain: Float[Tensor, "d"] | None
    clean_output: Float[Tensor, "1 pos d"]
    centres: bool

    def scaled_change(self, h: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        """Return the change of `h` since the clean run divided by the frozen scale, before the
        gain."""
        moved = h - self.clean_input
        if self.centres:
            moved = moved - moved.mean(-1, keepdim=True)
        return moved / self.length

    def output(self, h: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        """Return the output of the norm for the input `h` at the frozen scale."""
        moved = self.scaled_change(h)
        return self.clean_output + (moved if self.gain is None else moved * self.gain)

    def normalized(self, h: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        """Return the normalized value before gain and bias, as at hook_normalized, at the frozen
        scale."""
        entered = self.clean_input
        if self.centres:
            entered = entered - entered.mean(-1, keepdim=True)
        return entered / self.length + self.scaled_change(h)


@dataclass(frozen=True)
class FrozenModel:
    """Recorded queries, keys and norms of one prompt, which freeze the model on that prompt."""

    lm: LanguageModel
    tokens: Int[Tensor, "1 pos"]
    norms: Mapping[str, FrozenNorm]
    kept: Mapping[str, Float[Tensor, "1 pos width"]]
    """Queries and keys of every layer that the frozen model keeps, by canonical hook point."""

    def build_edits(
        self, live: dict[str, Tensor], wanted: Sequence[str], cuts: Mapping[str, ActivationEdit]
    ) -> dict[str, ActivationEdit]:
        """Return the edits of a frozen forward pass, by hook point.

        `live[hook]` receives the activations at the canonical hook points `wanted`, in the autograd
        graph: before a cut at the same place, and for queries and keys before they are replaced.
        `cuts` are further edits, by hook point as `LanguageModel.logits` takes them; at a norm's
        hook_normalized they see the value at the frozen scale, and what they return is ignored.
        """
        inside: dict[str, Tensor] = {}
        cuts = dict(cuts)
        watching = {hook: cuts.pop(hook) for hook in list(cuts) if hook.endswith(NORMALIZED_SUFFIX)}
        leaving = {
            f"{path}.hook_out": _replace_norm_output(one, inside)
            for path, one in self.norms.items()
        }
        entering = {
            f"{path}.hook_in": _record_norm_input(
                one, inside, live, watching.get(f"{path}{NORMALIZED_SUFFIX}")
            )
            for path, one in self.norms.items()
        }
        noting = {
            hook: _record_hook(hook, live)
            for hook in wanted
            if not hook.endswith(NORMALIZED_SUFFIX)
        }
        keeping = {hook: _replace_with_kept(value) for hook, value in self.kept.items()}
        made: dict[str, list[ActivationEdit]] = {}
        # A cut between attention and MLP has its own hook point, and comes first: the input of the
        # norm there must be cut already.
        middles = {hook: edit for hook, edit in cuts.items() if hook.endswith(MIDDLE_SUFFIX)}
        for hook, edit in middles.items():
            at = self.lm.canonical(hook)
            made[hook] = [noting.pop(at), edit] if at in noting else [edit]
        others = {hook: edit for hook, edit in cuts.items() if hook not in middles}
        for table in (leaving, noting, others, entering, keeping):
            for hook, edit in table.items():
                made.setdefault(hook, []).append(edit)
        return {hook: compose_edits(edits) for hook, edits in made.items()}


def freeze_model(lm: LanguageModel, tokens: Int[Tensor, "1 pos"]) -> FrozenModel:
    """Record the attention patterns and norm scales of a prompt, in one or two forward passes, and
    return the frozen model.

    Raises InputError for a model whose attention or norms cannot be frozen.
    """
    queries = [name for layer in range(lm.n_layers) for name in _list_query_key_hooks(lm, layer)]
    paths = list_norm_paths(lm)
    ends = [f"{path}.hook_{end}" for path in paths for end in ("in", "out")]
    with torch.no_grad():
        got = {k: v.clone() for k, v in lm.activations(tokens, [*queries, *ends]).items()}
    norms = {path: _freeze_norm(lm, path, got) for path in paths}
    return FrozenModel(lm, tokens, norms, {lm.canonical(name): got[name] for name in queries})


def list_norm_paths(lm: LanguageModel) -> list[str]:
    """List the norms on the path of the residual stream, which a frozen model keeps at fixed
    scales, by component name."""
    there = set(lm.hook_names())
    paths = [f"blocks.{layer}.{norm}" for layer in range(lm.n_layers) for norm in NORM_NAMES]
    return [path for path in [*paths, FINAL_NORM] if f"{path}.hook_out" in there]


def _list_query_key_hooks(lm: LanguageModel, layer: int) -> list[str]:
    """List the hook points of a layer's queries and keys; raises InputError if the model has
    none."""
    names = [f"blocks.{layer}.attn.hook_{key}" for key in "qk"]
    known = set(lm.hook_names())
    if not known.issuperset(names):
        raise InputError(
            f"The attention of {lm.name} cannot be frozen: layer {layer} has no separate "
            "queries and keys. Use the method sparse-features."
        )
    return names


def _freeze_norm(lm: LanguageModel, path: str, got: Mapping[str, Tensor]) -> FrozenNorm:
    """Record the input, scale and output of one norm to freeze it; raises InputError if it is
    neither LayerNorm nor RMSNorm."""
    component = lm.component(path)
    entered, left = got[f"{path}.hook_in"], got[f"{path}.hook_out"]
    centres = not component.uses_rms_norm
    h = entered if entered.dtype == torch.float64 else entered.float()
    if centres:
        h = h - h.mean(-1, keepdim=True)
    module = component.original_component
    eps = getattr(module, "eps", None) or getattr(module, "variance_epsilon", 1e-5)
    length = (h.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    weight = norm_gain(lm, path)
    weight = None if weight is None else weight.to(entered.dtype)
    built = h / length * (1 if weight is None else weight)
    bias = getattr(module, "bias", None)
    built = built if bias is None else built + bias
    if (built - left).norm() > _affine_tolerance(lm) * left.norm().clamp_min(1e-6):
        raise InputError(
            f"The norms of {lm.name} cannot be frozen: {path} is neither LayerNorm nor "
            "RMSNorm. Use the method sparse-features."
        )
    return FrozenNorm(path, entered, length.to(entered.dtype), weight, left, centres)


def _affine_tolerance(lm: LanguageModel) -> float:
    return AFFINE_TOLERANCE.get(lm.placement.dtype, 1e-3)


def _record_norm_input(
    norm: FrozenNorm,
    inside: dict[str, Tensor],
    live: dict[str, Tensor],
    watch: ActivationEdit | None,
) -> ActivationEdit:
    def enter(h: Tensor) -> Tensor:
        inside[norm.path] = h
        live[f"{norm.path}{NORMALIZED_SUFFIX}"] = normalized = norm.normalized(h)
        if watch is not None:
            watch(normalized)
        return h

    return enter


def _replace_norm_output(norm: FrozenNorm, inside: dict[str, Tensor]) -> ActivationEdit:
    return lambda _: norm.output(inside[norm.path])


def _record_hook(hook: str, live: dict[str, Tensor]) -> ActivationEdit:
    def note(h: Tensor) -> Tensor:
        live[hook] = h
        return h

    return note


def _replace_with_kept(value: Tensor) -> ActivationEdit:
    return lambda h: value.expand_as(h)


def check_affine(
    lm: LanguageModel, gave: Callable[[float], Float[Tensor, "n"]], slope: Float[Tensor, "n"]
) -> None:
    """Check that the frozen model is affine: raise InputError unless `gave(x)`, numbers read from
    it after x times a fixed change of its activations, is gave(0) + x · slope."""
    at_0, at_1, at_2 = gave(0.0), gave(1.0), gave(2.0)
    size = max(float(slope.norm()), 1e-3 * float(at_0.norm()), 1e-9)
    bend = max(float((at_1 - at_0 - slope).norm()), float((at_2 - at_1 - slope).norm()))
    if bend > _affine_tolerance(lm) * size:
        raise InputError(
            f"{lm.name} cannot be frozen: with patterns and norms fixed it is not an affine "
            f"map (relative error {bend / size:.2g}). Use the method sparse-features."
        )
