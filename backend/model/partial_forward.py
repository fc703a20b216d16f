"""A forward pass of the plain model that begins after its first blocks, from their stored output.

An edit inside block L changes nothing before it. What the blocks before it give is therefore kept
from the clean pass and put in their place. That the rest of the model then gives the same logits is
checked once per starting point, not believed: a model whose later blocks read more than the
residual stream (shared keys and values, for example) runs as a whole.
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
    """Losses under edits, computed from the last block that the edits leave as it was."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._same: dict[int, bool] = {}
        self._returns_tuple = False

    def last_unchanged_block(self, hook: str) -> int | None:
        """Return the number of the last block whose output no edit at `hook` can change.

        None where the pass has to begin at the embedding, or where beginning later has been found
        to give other logits.
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
        """Return `Lm.token_losses` under edits. `start` is a block's number and its clean output
        on these tokens; None runs the whole model."""
        if start is None:
            return self._lm.token_losses(tokens, edits)
        with self._lm.turn_bare({}), self._skipping(*start):
            return self._lm.token_losses(tokens, edits)

    @contextmanager
    def _skipping(self, last: int, output: Tensor) -> Iterator[None]:
        blocks = [self._lm.block(layer) for layer in range(last + 1)]
        returns_tuple = self._returns_tuple
        with skip_blocks(blocks, output, returns_tuple=returns_tuple):
            yield

    def _gives_the_same(self, last: int) -> bool:
        """Compare the logits of a short random sequence with and without the first blocks."""
        lm, hook = self._lm, f"blocks.{last}.hook_out"
        seen: dict[str, Tensor] = {}
        try:
            if not lm.on_fast_road(hook):
                return False
            self._returns_tuple = self._block_returns_tuple(last)
            with torch.no_grad():
                want = lm.logits(lm.probe_tokens, {hook: make_recording_edit(seen, hook)})
                with lm.turn_bare({}), self._skipping(last, seen[hook]):
                    got = lm.logits(lm.probe_tokens)
        except (InputError, TypeError, ValueError, KeyError, AttributeError, IndexError):
            return False  # blocks of another make than this knows
        difference = (got - want).float().norm() / want.float().norm().clamp_min(1e-12)
        return bool(difference <= FAST_FORWARD_TOLERANCE.get(lm.placement.dtype, 1e-4))

    def _block_returns_tuple(self, last: int) -> bool:
        found: list[bool] = []
        hook = self._lm.block(last).register_forward_hook(
            lambda module, args, out: found.append(isinstance(out, tuple))
        )
        try:
            with self._lm.turn_bare({}) as bare, torch.no_grad():
                bare(self._lm.probe_tokens, use_cache=False)
        finally:
            hook.remove()
        return found == [True]


def make_recording_edit(kept: dict[str, Tensor], name: str) -> ActivationEdit:
    """Return an edit that changes nothing and leaves the activation in `kept`."""

    def keep(h: Tensor) -> Tensor:
        kept[name] = h
        return h

    return keep


@contextmanager
def skip_blocks(
    blocks: Sequence[nn.Module], output: Tensor, *, returns_tuple: bool
) -> Iterator[None]:
    """Within the block, every one of `blocks` hands its input on and the last one gives `output`.

    Forward hooks of the modules still run. `returns_tuple`: these blocks return a tuple of one.
    """

    def as_returned(h: Tensor) -> Any:
        return (h,) if returns_tuple else h

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        return as_returned(args[0] if args else kwargs["hidden_states"])

    def give(*args: Any, **kwargs: Any) -> Any:
        return as_returned(output)

    stubs: list[Callable[..., Any]] = [hand_on] * (len(blocks) - 1) + [give]
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block, stub in zip(blocks, stubs, strict=True):
            block.forward = stub
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                vars(block).pop("forward", None)
            else:
                block.forward = own
