"""Logits of given texts under edits, in a single forward pass without generation."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from backend.interventions.edit_plan import EditPlan
from backend.interventions.edited_forward import EditedForward
from backend.interventions.side_effects import next_token_kl
from backend.model.counted_positions import pad_right
from feature_store.errors import InputError

TOO_STRONG = "With these edits the model's logits are not finite: choose smaller strengths."


@dataclass(frozen=True)
class EditedLogits:
    """Logits of given texts under edits, with KL to the clean model, relative change of the stream,
    and watched activations, by row of the edit plan; positions beyond a row's own length have no
    meaning."""

    logits: Float[Tensor, "row pos vocab"]
    """Logits under the edits, [row pos vocab]."""
    clean: Float[Tensor, "row pos vocab"] | None
    """Logits of the clean model on the same tokens; None for a plan without clean twins. A row
    without edits is its own twin."""
    kl: Float[Tensor, "row pos"] | None
    """KL(clean ‖ edited) of the next token after each position, in nats."""
    shift: dict[str, Float[Tensor, "row pos"]]
    """Relative change of the stream, ‖Δh‖/‖h‖, by edited hook point."""
    watched: Float[Tensor, "row pos feature"] | None
    """Activations of the watched features before any edit at their own hook point."""


def compute_edited_logits(
    plan: EditPlan,
    tokens: Sequence[Sequence[int]],
    *,
    n_prompt: int | None = None,
    roles: Sequence[str | None] = (),
) -> EditedLogits:
    """Compute the logits of one text for each row of an edit plan, under the row's edits, in one
    forward pass; texts are padded on the right where lengths differ.

    `n_prompt` is the number of prompt tokens, for edits of one part only; all tokens by default.
    InputError for empty texts and for texts beyond the model's context.
    """
    if len(tokens) != len(plan.rows):
        raise InputError(f"{len(plan.rows)} rows need one text each, not {len(tokens)}.")
    check_text_length(plan, min(map(len, tokens)), max(map(len, tokens)))
    padded = pad_right(tokens, fill=plan.lm.bos or 0)[0].tolist()
    scene = EditedForward(plan, len(padded[0]) if n_prompt is None else n_prompt, roles, keep=False)
    logits = scene.forward(padded, last=False)
    n = len(plan.rows)
    shown = logits[:n]
    if plan.operations and not shown.isfinite().all():
        raise InputError(TOO_STRONG)
    clean = None
    if plan.twins or not plan.operations:
        clean = logits[[plan.twins.get(row, row) for row in range(n)]]
    return EditedLogits(
        logits=shown,
        clean=clean,
        kl=None if clean is None else next_token_kl(clean, shown),
        shift=scene.shift,
        watched=scene.watched(len(padded[0]))[:n] if plan.watched else None,
    )


def check_text_length(plan: EditPlan, shortest: int, longest: int) -> None:
    """Raise InputError if a text whose edited logits are wanted is empty, or has more tokens than
    the model's context; the lengths are those of the shortest and the longest text."""
    if shortest == 0:
        raise InputError("There is no text to read: type some.")
    if longest > plan.lm.n_ctx:
        raise InputError(
            f"The text has {longest:,} tokens; {plan.lm.name} reads at most "
            f"{plan.lm.n_ctx:,} at once. Cut it."
        )
