"""The language model: one object with one lock, and every hook point under its TransformerLens
name."""

import copy
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backend.model import fast_forward, model_loading
from backend.model.device import Placement
from backend.model.fast_forward import ActivationEdit
from backend.model.vocabulary import count_nameable_tokens
from backend.model.weight_processing import (
    NO_PROCESSING,
    WeightProcessing,
    make_activation_transform,
)
from feature_store.errors import InputError, suggest_near_miss

BridgeHook = tuple[str, Callable[..., Any]]
"""Hook of TransformerLens' bridge of the language model: a hook point's name and `fn(activation,
hook) -> activation | None`."""

USUAL_HOOK_KINDS = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "hook_z",
    "normalized",
)
PROBE_LENGTH = 11
FAST_FORWARD_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest relative difference at which the fast forward and TransformerLens' bridge count as equal
(bfloat16 keeps 8 bits, and the two attention kernels round differently)."""


class LanguageModel:
    """Causal language model with a lock, whose activations are read and edited at hook points.

    `bare` is the Hugging Face model itself, without hooks and with its fast attention; it shares
    every weight with TransformerLens' bridge. Use either only inside `hold_bridge` or
    `hold_plain_model`.
    """

    def __init__(
        self,
        bridge: TransformerBridge,
        bare: PreTrainedModel,
        twins: Mapping[nn.Module, nn.Module],
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        placement: Placement,
    ) -> None:
        self._bridge = bridge
        self._twins = twins
        self._turn = threading.RLock()
        self.bare = bare
        self.tokenizer = tokenizer
        self.name = name
        self.source = name
        self.placement = placement
        self.n_layers: int = bridge.cfg.n_layers
        self.n_heads: int = bridge.cfg.n_heads
        self.d_head: int = bridge.cfg.d_head
        self.d_model: int = bridge.cfg.d_model
        self.n_ctx: int = bridge.cfg.n_ctx
        self.d_vocab: int = bridge.cfg.d_vocab
        self.n_nameable = count_nameable_tokens(tokenizer, self.d_vocab)
        """Number of token ids that the tokenizer can name. Rows of the embedding beyond it are
        padding: they count in the model's probabilities, and are never sampled, listed, ranked or
        averaged over."""
        self.bos = model_loading.find_bos_token(bare, tokenizer)
        known = {*tokenizer.all_special_ids, self.bos}
        self.special_ids = frozenset(int(token) for token in known if token is not None)

    @classmethod
    def load(
        cls, model: str, placement: Placement, *, trust_remote_code: bool = False
    ) -> "LanguageModel":
        """Load a language model by its hub name or from a local Hugging Face folder; raise
        InputError when that fails."""
        network, tokenizer = model_loading.load_model_and_tokenizer(
            model, placement, trust_remote_code=trust_remote_code
        )
        folder = Path(model)
        name = folder.resolve().name if folder.is_dir() else model
        lm = cls.wrap(network, tokenizer, name, placement)
        lm._folder = folder if folder.is_dir() else None
        return lm

    @classmethod
    def wrap(
        cls,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        placement: Placement,
    ) -> "LanguageModel":
        """Make a language model from objects in memory. `network` is rewired in place and must not
        be used afterwards."""
        nn.Module.to(network, placement.device).eval().requires_grad_(False)
        # The bridge rewires the model in place, so the plain copy is made first. The memo keeps
        # the parameters themselves out of the copy: two module trees, one set of weights.
        bare = copy.deepcopy(network, {id(p): p for p in network.parameters()})
        wrapped_modules, plain_modules = network.modules(), bare.modules()
        twins = dict(zip(wrapped_modules, plain_modules, strict=True))
        bridge = model_loading.boot_transformer_bridge(network, tokenizer, name, placement)
        return cls(bridge, bare, twins, tokenizer, name, placement)

    _folder: Path | None = None

    @cached_property
    def model_hash(self) -> str:
        """Hash of the language model: sha256 over the folder's safetensors files, or over the
        weights in memory."""
        from_files = model_loading.hash_model_folder(self._folder) if self._folder else None
        return from_files or model_loading.hash_state_dict(self.bare.state_dict())

    @contextmanager
    def hold_bridge(self, hooks: Sequence[BridgeHook] = ()) -> Iterator[TransformerBridge]:
        """Hold the language model's lock, with `hooks` attached to its bridge until the block ends.

        Hooks belong to the model, not to the caller: without the lock, one visitor's steering would
        show in another visitor's text.
        """
        named = [(self.canonical(name), fn) for name, fn in hooks]
        with self._turn, self._bridge.hooks(fwd_hooks=named):
            yield self._bridge

    @contextmanager
    def hold_plain_model(self, changes: Mapping[str, ActivationEdit]) -> Iterator[PreTrainedModel]:
        """Hold the lock of the plain Hugging Face model, with edits at canonical hook points of the
        fast forward.

        `hold_bridge` costs a millisecond, as much as a small model's whole step; this is free.
        """
        with (
            self._turn,
            fast_forward.edit_activations([(self._taps[name], fn) for name, fn in changes.items()]),
        ):
            yield self.bare

    def hook_names(self) -> list[str]:
        """List every hook point of the language model that carries one vector per token: canonical
        names and aliases."""
        return [name for name, canonical in self._names.items() if canonical in self._widths]

    def check_hook(self, hook: str) -> None:
        """Raise InputError for a hook point that the language model does not have, or that carries
        no vector per token."""
        self.width(hook)

    def canonical(self, hook: str) -> str:
        """Return the canonical TransformerLens name of a hook point; raise InputError for an
        unknown one.

        TransformerLens 3.9 would silently ignore an unknown name.
        """
        if hook in self._names:
            return self._names[hook]
        names = self.hook_names()
        layer = re.match(r"(blocks\.\d+)\.", hook)
        block = layer[1] if layer and self.usual_hooks(layer[1]) else "blocks.0"
        raise InputError(
            f"{self.name} has no hook point {hook!r}.{suggest_near_miss(hook, names)} It has "
            f"{self.n_layers} layers, and in {block}: {', '.join(self.usual_hooks(block))}."
        )

    def usual_hooks(self, block: str) -> list[str]:
        """List the hook points of a block such as `blocks.3` on which dictionaries are usually
        trained."""
        here = [name for name in self.hook_names() if name.startswith(f"{block}.")]
        return [name for kind in USUAL_HOOK_KINDS for name in here if name.endswith(kind)]

    def width(self, hook: str) -> int:
        """Return the number of values per token at a hook point of the language model, heads
        flattened."""
        canonical = self.canonical(hook)
        if canonical not in self._widths:
            raise InputError(
                f"The hook point {hook!r} of {self.name} does not carry one vector per token. "
                "Use one such as blocks.0.hook_resid_post."
            )
        return self._widths[canonical]

    def has_fast_forward(self, hook: str) -> bool:
        """Return whether the fast forward serves this hook point of the language model (checked
        against the bridge)."""
        return self.canonical(hook) in self._taps

    @torch.inference_mode()
    def activations(
        self,
        tokens: Int[Tensor, "batch pos"],
        hooks: Sequence[str],
        processing: WeightProcessing = NO_PROCESSING,
    ) -> dict[str, Float[Tensor, "batch pos width"]]:
        """Compute the activations [batch, pos, width] at hook points in one forward pass, which
        stops after the deepest of them.

        Heads are flattened; keys are those of `hooks`. The tensors are inference tensors: clone one
        before changing it in place. Padding on the right is safe, since attention is causal. Raise
        InputError for sequences longer than the context.
        """
        tokens = self._checked(tokens)
        names = {hook: self.canonical(hook) for hook in hooks}
        needed = list(dict.fromkeys(names.values()))
        for hook in hooks:
            self.check_hook(hook)
        with self._turn:
            if all(name in self._taps for name in needed):
                activations = fast_forward.read_activations(
                    self.bare, tokens, {name: self._taps[name] for name in needed}
                )
            else:
                activations = self._through_bridge(tokens, needed)
        return {h: self.process(h, activations[name], processing) for h, name in names.items()}

    def process(self, hook: str, h: Tensor, processing: WeightProcessing) -> Tensor:
        """Convert raw activations [..., width] at a hook point to those of the model with processed
        weights."""
        if processing == NO_PROCESSING:
            return h
        change = make_activation_transform(processing, self, self.canonical(hook))
        return h if change is None else change(h)

    def logits(
        self, tokens: Int[Tensor, "batch pos"], edits: Mapping[str, ActivationEdit] | None = None
    ) -> Float[Tensor, "batch pos vocab"]:
        """Compute the language model's logits [batch, pos, vocab], in its own dtype, with
        activations edited at hook points.

        Each of `edits` gets the flattened activation [batch, pos, width] and returns a new
        one, or the same object to change nothing. Gradients flow where the caller has enabled them.
        `hook_resid_mid` edits the residual stream itself; `ln2.hook_in`, the same point in
        TransformerLens, edits only what the MLP reads.
        """
        tokens = self._checked(tokens)
        expanded = [
            pair for name, edit in (edits or {}).items() for pair in self._edits(name, edit)
        ]
        with self._turn:
            return self._edited(tokens, expanded)

    @torch.no_grad()
    def next_logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch vocab"]:
        """Compute the language model's logits after the last token only: over a large vocabulary,
        logits are most of a forward pass."""
        tokens = self._checked(tokens)
        with self._turn:
            return self.bare(tokens, use_cache=False, logits_to_keep=1).logits[:, -1]

    @torch.no_grad()
    def token_losses(
        self, tokens: Int[Tensor, "batch pos"], edits: Mapping[str, ActivationEdit] | None = None
    ) -> Float[Tensor, "batch pos-1"]:
        """Compute the cross-entropy of each next token [batch, pos-1] in nats, with activations
        edited as in `logits`."""
        tokens = self._checked(tokens)
        flat = self.logits(tokens, edits)[:, :-1].float().flatten(0, 1)
        losses = nn.functional.cross_entropy(flat, tokens[:, 1:].flatten(), reduction="none")
        return losses.view(len(tokens), -1)

    @torch.no_grad()
    def bridge_activations(
        self, tokens: Int[Tensor, "batch pos"], names: Sequence[str]
    ) -> dict[str, Tensor]:
        """Compute activations at any hook points through TransformerLens' bridge, in its own
        shapes.

        Attention patterns are [batch, heads, pos, pos]. Keys are those of `names`; raise InputError
        for an unknown one.
        """
        tokens = self._checked(tokens)
        canonical = {name: self.canonical(name) for name in names}
        with self._turn:
            _, cache = self._bridge.run_with_cache(
                tokens, names_filter=list(canonical.values()), return_type=None
            )
        return {name: cache[key] for name, key in canonical.items()}

    def component(self, path: str) -> Any:
        """Return the bridge's component at a dotted path such as `blocks.0.attn.o` of the language
        model; None if absent."""
        return reduce(_get_child, path.split("."), self._bridge)

    def block(self, layer: int) -> nn.Module:
        """Return the plain language model's module of a block; raise InputError where it has
        none."""
        wrapped = getattr(self.component(f"blocks.{layer}"), "original_component", None)
        if wrapped is None or wrapped not in self._twins:
            raise InputError(f"{self.name} has no module for its block {layer}.")
        return self._twins[wrapped]

    @property
    def is_layer_norm(self) -> bool:
        """Whether the language model's final norm is a LayerNorm, which subtracts the mean."""
        norm = self.component("ln_final")
        return norm is not None and not norm.uses_rms_norm

    def value_offset(self, layer: int, with_norm_bias: bool) -> Tensor:
        """Return what biases add to the attention values of a layer: [kv_heads * d_head].

        Attention patterns sum to one, so the same is added to z. With `with_norm_bias` (fold_ln)
        the norm's own bias is included, since folding makes it part of the value bias.
        """
        value = self.component(f"blocks.{layer}.attn.v")
        wrapped = getattr(value, "original_component", None)
        if wrapped is None:
            raise InputError(f"{self.name} has no value projection whose bias could be folded.")
        reads = torch.zeros(self.d_model, device=self.placement.device, dtype=self.placement.dtype)
        norm = getattr(self.component(f"blocks.{layer}.ln1"), "original_component", None)
        bias = getattr(norm, "bias", None)
        with torch.no_grad():
            return wrapped(bias if with_norm_bias and bias is not None else reads).detach()

    def _checked(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.n_ctx:
            raise InputError(
                f"{self.name} takes sequences of at most {self.n_ctx} tokens, "
                f"not a batch of shape {list(tokens.shape)}."
            )
        return tokens.to(self.placement.device, torch.long)

    def _edits(self, name: str, edit: ActivationEdit) -> list[tuple[str, ActivationEdit]]:
        """Return an activation edit at the hook point `name` as edits at canonical hook points:
        usually one; at `hook_resid_mid` a second adds the same change to the block's output."""
        self.check_hook(name)
        layer = re.fullmatch(r"(blocks\.\d+)\.hook_resid_mid", name)
        if layer is None:
            return [(self.canonical(name), edit)]
        # At this point hooks see only the input of the MLP branch; the residual stream bypasses it,
        # so the same change is added again where the branches meet.
        change: dict[str, Tensor] = {}

        def enter(h: Tensor) -> Tensor:
            new = edit(h)
            change["delta"] = new - h
            return new

        def leave(h: Tensor) -> Tensor:
            return h + change["delta"]

        return [(self.canonical(name), enter), (f"{layer[1]}.hook_out", leave)]

    def _edited(self, tokens: Tensor, edits: list[tuple[str, ActivationEdit]]) -> Tensor:
        """Compute the language model's logits under edits, applied in order where two are at the
        same hook point."""
        if all(name in self._taps for name, _ in edits):
            try:
                return fast_forward.compute_edited_logits(
                    self.bare, tokens, [(self._taps[n], fn) for n, fn in edits]
                )
            except fast_forward.ReadOnlyHookPointError:
                pass
        with self.hold_bridge([(name, _as_bridge_hook(edit)) for name, edit in edits]) as bridge:
            return bridge(tokens, return_type="logits")

    def _through_bridge(self, tokens: Tensor, names: list[str]) -> dict[str, Tensor]:
        layers = [re.match(r"blocks\.(\d+)\.", name) for name in names]
        deepest = max(int(m[1]) if m else self.n_layers for m in layers) + 1
        stop: dict[str, Any] = {"stop_at_layer": deepest} if deepest < self.n_layers else {}
        _, cache = self._bridge.run_with_cache(tokens, names_filter=names, return_type=None, **stop)
        return {name: cache[name].flatten(2) for name in names}

    @cached_property
    def _names(self) -> dict[str, str]:
        return {name: point.name or name for name, point in self._bridge.hook_dict.items()}

    @cached_property
    def _probe(self) -> dict[str, Tensor]:
        """Activations of the language model's bridge at every hook point, on its probe tokens: the
        reference for the fast forward."""
        with self._turn, torch.no_grad():
            _, cache = self._bridge.run_with_cache(self.probe_tokens, return_type=None)
        return {name: cache[name] for name in dict.fromkeys(self._names.values()) if name in cache}

    @cached_property
    def probe_tokens(self) -> Int[Tensor, "1 pos"]:
        """Short random token sequence [1, pos] on which the fast forward is compared with
        TransformerLens' bridge."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, min(PROBE_LENGTH, self.n_ctx))
        return torch.randint(self.d_vocab, shape, generator=generator).to(self.placement.device)

    @cached_property
    def _widths(self) -> dict[str, int]:
        pos = self.probe_tokens.shape[1]
        return {k: h[0, 0].numel() for k, h in self._probe.items() if _is_per_token(h, pos)}

    @cached_property
    def _taps(self) -> dict[str, fast_forward.ModuleTap]:
        """Module taps of the hook points at which the fast forward gives the same activations as
        the bridge."""
        offered = fast_forward.find_module_taps(self._widths, self.component, self._twins.get)
        with self._turn, torch.no_grad():
            activations = fast_forward.read_activations(self.bare, self.probe_tokens, offered)
        bound = FAST_FORWARD_TOLERANCE[self.placement.dtype]
        return {
            name: offered[name]
            for name, h in activations.items()
            if _relative_difference(h, self._probe[name].flatten(2)) <= bound
        }


def _as_bridge_hook(edit: ActivationEdit) -> Callable[..., Tensor | None]:
    def replace(act: Tensor, hook: object) -> Tensor | None:
        flat = act.flatten(2)
        new = edit(flat)
        return None if new is flat else new.reshape(act.shape).to(act.dtype)

    return replace


def _relative_difference(a: Tensor, b: Tensor) -> float:
    """Return the relative difference ‖a - b‖ ÷ ‖b‖ of two activations; infinity for different
    shapes."""
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).float().norm() / b.float().norm().clamp_min(1e-12))


def _is_per_token(h: Tensor, pos: int) -> bool:
    """Return whether an activation is one vector per token, [1, pos, …, width]; attention patterns
    [1, heads, pos, pos] are not."""
    if not h.is_floating_point() or h.ndim < 3 or h.shape[:2] != (1, pos):
        return False
    return h.ndim == 3 or h.shape[2:] != (pos, pos)


def _get_child(owner: Any, part: str) -> Any:
    if owner is None:
        return None
    return owner[int(part)] if part.isdigit() else getattr(owner, part, None)
