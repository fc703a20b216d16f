"""Fast forward pass: hook points read and edited in the plain Hugging Face model, without
TransformerLens' bridge.

The bridge halves the speed of small models and keeps attention eager. Its components state which
Hugging Face module they wrap, so that most hook points are the input, the output or the normalised
input of a module of an unwrapped copy. `LanguageModel` compares both passes once and uses a hook
point of this one only where they agree.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ActivationEdit = Callable[[Tensor], Tensor]
"""Edit of a flattened activation [batch, pos, width] in the fast forward; returning the same object
changes nothing."""


class ReadOnlyHookPointError(Exception):
    """Raised for an edit at a hook point that the fast forward can only read, such as a norm's
    value before its gain."""


class _AllTapsRead(Exception):
    """Raised by the last hook of the fast forward to leave the pass early."""


@dataclass(frozen=True)
class ModuleTap:
    """Place of a hook point in the plain Hugging Face model: a module and whether its input or its
    output is read."""

    module: nn.Module
    before: bool
    """Whether the tap reads the module's input instead of its output."""
    read: Callable[[Tensor], Tensor]


def find_module_taps(
    names: Iterable[str],
    component: Callable[[str], Any],
    twin: Callable[[nn.Module], nn.Module | None],
) -> dict[str, ModuleTap]:
    """Find the modules of the plain model whose input or output is a canonical hook point, for the
    fast forward.

    `component` returns the bridge's component at a dotted path, `twin` the plain model's
    counterpart of the Hugging Face module that it wraps, or None for a module that only the bridge
    has.
    """
    found_taps: dict[str, ModuleTap] = {}
    for name in names:
        path, _, point = name.rpartition(".")
        if point not in ("hook_in", "hook_out", "hook_normalized"):
            continue
        owner = component(path)
        wrapped = getattr(owner, "original_component", None)
        module = None if wrapped is None else twin(wrapped)
        if module is None:
            continue
        read = _return_unchanged
        if point == "hook_normalized":
            read = partial(normalise_without_gain, module, not owner.uses_rms_norm)
        found_taps[name] = ModuleTap(module, before=point != "hook_out", read=read)
    return found_taps


def normalise_without_gain(norm: nn.Module, centre: bool, h: Tensor) -> Tensor:
    """Return a norm's value before its gain, in float32 at least, as TransformerLens'
    hook_normalized."""
    h = h if h.dtype == torch.float64 else h.float()
    if centre:
        h = h - h.mean(-1, keepdim=True)
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", 1e-5)
    return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)


def read_activations(
    model: nn.Module, tokens: Tensor, taps: Mapping[str, ModuleTap]
) -> dict[str, Tensor]:
    """Run the fast forward, left as soon as every tap (hook point of a module) has been read;
    return each activation [batch, pos, width].

    Taps that the pass never reaches are missing from the result. No mask is built: attention is
    causal, so that padding on the right cannot reach real tokens.
    """
    activations: dict[str, Tensor] = {}

    def keep(name: str, read: Callable[[Tensor], Tensor], h: Tensor) -> None:
        activations[name] = read(h).flatten(2)
        if len(activations) == len(taps):
            raise _AllTapsRead

    handles = [_attach_tap_hook(tap, partial(keep, name, tap.read)) for name, tap in taps.items()]
    try:
        model(tokens, use_cache=False)
    except _AllTapsRead:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return activations


@contextmanager
def edit_activations(edits: Iterable[tuple[ModuleTap, ActivationEdit]]) -> Iterator[None]:
    """Edit activations at module taps of the plain model until the `with` block ends.

    A forward pass raises ReadOnlyHookPointError when an edit changes something at a hook point that
    is only read.
    """
    handles = [_attach_tap_hook(tap, partial(_apply_edit, tap, edit)) for tap, edit in edits]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def compute_edited_logits(
    model: nn.Module, tokens: Tensor, edits: Iterable[tuple[ModuleTap, ActivationEdit]]
) -> Tensor:
    """Compute the logits [batch, pos, vocab] of a whole fast forward pass with edited
    activations."""
    with edit_activations(edits):
        return model(tokens, use_cache=False).logits


def compose_edits(edits: Sequence[ActivationEdit]) -> ActivationEdit:
    """Compose several activation edits at one hook point into one, applied in order."""

    def all_of(h: Tensor) -> Tensor:
        for edit in edits:
            h = edit(h)
        return h

    return all_of


def _apply_edit(tap: ModuleTap, edit: ActivationEdit, h: Tensor) -> Tensor:
    flat = tap.read(h).flatten(2)
    new = edit(flat)
    if new is flat:
        return h
    if tap.read is not _return_unchanged:
        raise ReadOnlyHookPointError
    return new.reshape(h.shape).to(h.dtype)


def _attach_tap_hook(tap: ModuleTap, change: Callable[[Tensor], Tensor | None]) -> Any:
    """Attach a forward hook to a tap's module: a result of `change` that is not None replaces the
    activation."""

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = change(args[0])
            return None if new is None or new is args[0] else ((new, *args[1:]), kwargs)
        key = next(k for k, value in kwargs.items() if isinstance(value, Tensor))
        new = change(kwargs[key])
        return None if new is None or new is kwargs[key] else (args, {**kwargs, key: new})

    def after(module: nn.Module, args: object, out: Any) -> Any:
        if isinstance(out, Tensor):
            return change(out)
        new = change(out[0])
        return None if new is None or new is out[0] else (new, *out[1:])

    if tap.before:
        return tap.module.register_forward_pre_hook(before, with_kwargs=True)
    return tap.module.register_forward_hook(after)


def _return_unchanged(h: Tensor) -> Tensor:
    return h
