"""Forward passes with functions applied at hook points, on one of two paths: the bare Hugging Face
model or TransformerLens' bridge.

The bare model is faster and keeps its own attention; the bridge reaches every hook point. A plan
keeps to one path, since a key-value cache belongs to the model that filled it. Both run under the
lock of `LanguageModel`, and the functions are active only inside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from weakref import WeakSet

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

ActivationChange = Callable[[Tensor], Tensor]
"""Function from an activation [batch pos width] to one of the same shape; returning the same object
changes nothing."""
ForwardPath = Literal["bare", "bridge"]
CACHE_NAMES = ("past_key_values", "cache_params")
"""Names under which models return and take their memory of tokens already read: attention keys and
values, or the state of a Mamba."""
NO_CACHE = (
    "{} keeps no cache of the text that it has read, so it cannot generate token by token under "
    "edits at this hook point. Try one such as blocks.1.hook_resid_post, or an ablation, which "
    "reads a text at once."
)


def choose_forward_path(lm: LanguageModel, read: set[str], written: set[str]) -> ForwardPath:
    """Choose the path of a plan's forward passes: the bare Hugging Face model, which is faster,
    where it reaches all hook points read and written (canonical names), else TransformerLens'
    bridge."""
    if all(map(lm.has_fast_forward, read | written)):
        computed = {name for name in written if name.endswith("hook_normalized")}
        if not computed:  # not part of the forward pass: such a value can only be read
            return "bare"
    return "bridge"


@dataclass
class ForwardPasses:
    """Successive forward passes of one batch on one forward path (bare model or bridge), with or
    without a key-value cache."""

    lm: LanguageModel
    path: ForwardPath
    keep: bool = True
    """Whether keys and values are kept, so that each call brings new tokens only."""
    cache: Any = None
    _cache_name: str = CACHE_NAMES[0]

    @torch.inference_mode()
    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        changes: Mapping[str, ActivationChange],
        *,
        last: bool,
    ) -> Float[Tensor, "batch _ vocab"]:
        """Run one forward pass on the chosen path with `changes` applied at hook points; return the
        logits at every position, or at the last one alone. The model's lock is held meanwhile."""
        tokens = tokens.to(self.lm.placement.device)
        run = self._bare if self.path == "bare" else self._bridge
        return run(tokens, changes, last)

    def _bare(self, tokens: Tensor, changes: Mapping[str, ActivationChange], last: bool) -> Tensor:
        """Run one forward pass on the bare Hugging Face model."""
        kept: dict[str, Any] = {"logits_to_keep": 1} if last else {}
        if self.keep and self.cache is None and self.lm in _all_remembering:
            kept["past_key_values"] = DynamicCache()
        elif self.cache is not None:
            kept[self._cache_name] = self.cache
        with self.lm.hold_plain_model(changes) as bare:
            out = bare(input_ids=tokens, use_cache=self.keep, **kept)
        if self.keep:
            found = [name for name in CACHE_NAMES if getattr(out, name, None) is not None]
            if not found:
                raise InputError(NO_CACHE.format(self.lm.name))
            self._cache_name = found[0]
            cache = getattr(out, self._cache_name)
            if self.cache is None and _remembers_all(cache):
                _all_remembering.add(self.lm)
            self.cache = cache
        return out.logits

    def _bridge(
        self, tokens: Tensor, changes: Mapping[str, ActivationChange], last: bool
    ) -> Tensor:
        """Run one forward pass on TransformerLens' bridge."""
        hooks = [(name, partial(_apply_on_bridge, change)) for name, change in changes.items()]
        with self.lm.hold_bridge(hooks) as bridge:
            if not self.keep:
                logits = bridge(tokens, return_type="logits")
            elif self.cache is None:
                kind: dict[str, Any] = {"use_cache": True}
                logits, self.cache = bridge(tokens, return_type="logits_and_cache", **kind)
                if self.cache is None:
                    raise InputError(NO_CACHE.format(self.lm.name))
            else:
                kind = {"past_key_values": self.cache}
                logits, self.cache = bridge(tokens, return_type="logits_and_cache", **kind)
        return logits[:, -1:] if last else logits


_all_remembering: WeakSet[LanguageModel] = WeakSet()
"""Models known to keep every key and value in every layer. Their next cache is created here without
reading the configuration of each layer, which takes a tenth of a small model's first step."""


def _remembers_all(cache: object) -> bool:
    """Return whether the cache that a model created for itself in a forward pass is transformers'
    plain one, which keeps all keys and values in every layer."""
    layers = getattr(cache, "layers", ())
    return type(cache) is DynamicCache and {type(one) for one in layers} == {DynamicLayer}


def _apply_on_bridge(change: ActivationChange, act: Tensor, hook: object) -> Tensor | None:
    """Apply an activation change to a bridge activation with its head axes flattened."""
    flat = act.flatten(2)
    new = change(flat)
    return None if new is flat else new.reshape(act.shape).to(act.dtype)
