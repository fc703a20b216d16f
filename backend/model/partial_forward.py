"""Partial forward pass: run the plain model from a middle block on, from that block's stored clean
output.

An edit inside block L changes nothing before it, so the output of the blocks before is kept from
the clean pass and reused. That the rest of the model gives the same logits is checked once per
starting block: a model whose later blocks read more than the residual stream (shared keys and
values, for example) runs in full.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import FAST_FORWARD_TOLERANCE, LanguageModel
from feature_store.errors import InputError


class PartialForward:
    """Forward passes under edits that skip the first blocks: they start from the stored output of
    the last block that the edits leave unchanged."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._same: dict[int, bool] = {}
        self._returns_tuple = False

    def last_unchanged_block(self, hook: str) -> int | None:
        """Return the number of the last block whose output no edit at `hook` can change, where a
        partial forward pass can start.

        Return None when the pass has to start at the embedding, or a partial pass was found to give
        other logits.
        """
        name = self._lm.canonical(hook)
        inside = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if inside:
            last = int(inside[1]) - (inside[2] != "hook_out")
        elif name.startswith(("ln_final", "unembed")):
            last = self._lm.n_layers - 1
        else:
            return None
        if last < 0:
            return None
        if last not in self._same:
            self._same[last] = self._gives_the_same(last)
        return last if self._same[last] else None

    @torch.no_grad()
    def token_losses(
        self,
        tokens: Int[Tensor, "batch pos"],
        edits: Mapping[str, ActivationEdit],
        start: tuple[int, Float[Tensor, "batch pos d_model"]] | None,
    ) -> Float[Tensor, "batch pos-1"]:
        """Compute `LanguageModel.token_losses` under edits by a partial forward pass.

        `start` is a block's number and its clean output [batch, pos, d_model] on these tokens; None
        runs the whole model.
        """
        if start is None:
            return self._lm.token_losses(tokens, edits)
        with self._lm.hold_plain_model({}), self._skipping(*start):
            return self._lm.token_losses(tokens, edits)

    @contextmanager
    def _skipping(self, last: int, output: Tensor) -> Iterator[None]:
        blocks = [self._lm.block(layer) for layer in range(last + 1)]
        returns_tuple = self._returns_tuple
        with skip_blocks(blocks, output, returns_tuple=returns_tuple):
            yield

    def _gives_the_same(self, last: int) -> bool:
        """Return whether a partial forward pass gives the full pass's logits on a short random
        sequence."""
        lm, hook = self._lm, f"blocks.{last}.hook_out"
        stored: dict[str, Tensor] = {}
        try:
            if not lm.has_fast_forward(hook):
                return False
            self._returns_tuple = self._block_returns_tuple(last)
            with torch.no_grad():
                full = lm.logits(lm.probe_tokens, {hook: make_recording_edit(stored, hook)})
                with lm.hold_plain_model({}), self._skipping(last, stored[hook]):
                    partial = lm.logits(lm.probe_tokens)
        except (InputError, TypeError, ValueError, KeyError, AttributeError, IndexError):
            return False  # blocks with an unknown signature
        difference = (partial - full).float().norm() / full.float().norm().clamp_min(1e-12)
        return bool(difference <= FAST_FORWARD_TOLERANCE.get(lm.placement.dtype, 1e-4))

    def _block_returns_tuple(self, last: int) -> bool:
        is_tuple: list[bool] = []
        hook = self._lm.block(last).register_forward_hook(
            lambda module, args, out: is_tuple.append(isinstance(out, tuple))
        )
        try:
            with self._lm.hold_plain_model({}) as bare, torch.no_grad():
                bare(self._lm.probe_tokens, use_cache=False)
        finally:
            hook.remove()
        return is_tuple == [True]


def make_recording_edit(storage: dict[str, Tensor], name: str) -> ActivationEdit:
    """Make an edit that changes nothing and stores the activation in `storage`, for a later partial
    forward pass."""

    def keep(h: Tensor) -> Tensor:
        storage[name] = h
        return h

    return keep


@contextmanager
def skip_blocks(
    blocks: Sequence[nn.Module], output: Tensor, *, returns_tuple: bool
) -> Iterator[None]:
    """Skip blocks of the model until the `with` block ends: each passes its input on, and the last
    one returns `output`.

    Forward hooks of the modules still run. `returns_tuple`: these blocks return a tuple of one.
    """

    def as_returned(h: Tensor) -> Any:
        return (h,) if returns_tuple else h

    def pass_on(*args: Any, **kwargs: Any) -> Any:
        return as_returned(args[0] if args else kwargs["hidden_states"])

    def give_output(*args: Any, **kwargs: Any) -> Any:
        return as_returned(output)

    stubs: list[Callable[..., Any]] = [pass_on] * (len(blocks) - 1) + [give_output]
    originals = [vars(block).get("forward") for block in blocks]
    try:
        for block, stub in zip(blocks, stubs, strict=True):
            block.forward = stub
        yield
    finally:
        for block, original in zip(blocks, originals, strict=True):
            if original is None:
                vars(block).pop("forward", None)
            else:
                block.forward = original
