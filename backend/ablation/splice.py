"""Splice a dictionary into the model in place of the activation that it reconstructs, and measure
what its reconstruction costs in next-token loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backend.ablation.ablation_requests import (
    MAX_DETAILED_PROMPTS,
    PromptCase,
    check_prompt_cases,
)
from backend.ablation.model_parts import ModelPart
from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.part_edits import (
    PartLocation,
    compile_part_edits,
    locate_part,
    read_dictionary,
)
from backend.ablation.prompt_ablation import AblationProgress
from backend.ablation.prompt_targets import prepare_prompts
from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import read_activations
from backend.engine import LocalEngine
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError, pick_by_name


@dataclass(frozen=True)
class SpliceLosses:
    """Mean next-token cross-entropy in nats, after counted positions, of the clean model and of the
    model with a dictionary spliced in.
    """

    tokens: int
    clean: float
    with_error: float
    """Loss with reconstruction plus error term: equal to the clean loss up to rounding."""
    without_error: float
    zero: float
    """Loss with the activation at the hook set to zero."""
    mean: float
    """Loss with the activation at the hook set to its mean over this text."""

    @property
    def recovered_zero(self) -> float:
        """Share of the loss recovered by the splice compared with zero ablation of the hook; NaN
        where zeroing costs nothing.
        """
        return loss_recovered(self.zero, self.without_error, self.clean)

    @property
    def recovered_mean(self) -> float:
        """Share of the loss recovered by the splice compared with mean ablation of the hook, a
        stricter baseline.
        """
        return loss_recovered(self.mean, self.without_error, self.clean)


def loss_recovered(worst: float, found: float, best: float) -> float:
    """Return the share of loss that a splice recovers: (worst − found) ÷ (worst − best); NaN if
    worst equals best.
    """
    return (worst - found) / (worst - best) if worst != best else float("nan")


def splice_losses_by_dictionary(
    engine: LocalEngine,
    cases: Sequence[PromptCase],
    names: Sequence[str],
    tick: AblationProgress | None = None,
) -> dict[str, Any]:
    """Return the next-token losses with each dictionary spliced into the model, as plain data.

    Raises InputError for an unknown dictionary, and for prompts without a token to predict.
    """
    check_prompt_cases(cases, MAX_DETAILED_PROMPTS)
    if not names:
        raise InputError("Pick at least one dictionary.")
    targeted = prepare_prompts(engine, cases)
    judged = targeted.prompts.counted[:, :-1] & targeted.prompts.real[:, 1:]
    if not judged.any():
        raise InputError("There is no token to predict. Give a prompt of several tokens.")
    rows = []
    for number, name in enumerate(names, 1):
        one = pick_by_name("dictionary", name, engine.dictionaries)
        found = measure_splice(engine.lm, one, targeted.prompts)
        shares = {"recovered_zero": found.recovered_zero, "recovered_mean": found.recovered_mean}
        known = {key: value if value == value else None for key, value in shares.items()}
        rows.append(
            {"dictionary": name, "hook": " + ".join(one.write_hooks), **asdict(found), **known}
        )
        if tick:
            tick(number, len(names))
    return {"rows": rows, "n": len(targeted), "tokens": int(judged.sum())}


@torch.no_grad()
def measure_splice(
    lm: LanguageModel, dictionary: Dictionary, prompts: PaddedPrompts
) -> SpliceLosses:
    """Run prompts with the dictionary spliced in at its output hook and return the losses."""
    counted = prompts.counted.to(lm.placement.device)
    judged = counted[:, :-1] & prompts.real[:, 1:].to(counted.device)

    def cost(change: dict[str, ActivationEdit]) -> float:
        return float(lm.token_losses(prompts.tokens, change)[judged].mean())

    def whole(value: ActivationEdit) -> dict[str, ActivationEdit]:
        return {
            hook: lambda h: torch.where(counted[..., None], value(h), h)
            for hook in dictionary.write_hooks
        }

    if dictionary.has_several_sites:
        rebuilt = reconstruct_at_sites(lm, dictionary, prompts)
        with_error, without_error = (
            put_reconstructions(rebuilt, counted, keep_error=keep) for keep in (True, False)
        )
    else:
        error = locate_part(lm, {dictionary.name: dictionary}, ModelPart("error", dictionary.name))
        with_error = restore_with_error(lm, error, counted)
        without_error = compile_part_edits(lm, [error], {error.part: 0.0}, counted)
    return SpliceLosses(
        tokens=int(judged.sum()),
        clean=cost({}),
        with_error=cost(with_error),
        without_error=cost(without_error),
        zero=cost(whole(torch.zeros_like)),
        mean=cost(whole(lambda h: h[counted].mean(0).expand_as(h))),
    )


def reconstruct_at_sites(
    lm: LanguageModel, dictionary: Dictionary, prompts: PaddedPrompts
) -> dict[str, Float[Tensor, "batch pos width"]]:
    """Return a dictionary's reconstruction at each hook point that it writes, from the clean model.

    A dictionary of several sites may read a hook point after one that it writes, so its
    reconstruction is computed before anything is spliced in.
    """
    x = read_activations(lm, dictionary, prompts.tokens, dictionary.processing)
    rebuilt = dictionary.reconstruct(x)
    return {site.hook: rebuilt[..., site.columns] for site in dictionary.writes}


def put_reconstructions(
    rebuilt: Mapping[str, Float[Tensor, "batch pos width"]], counted: Tensor, *, keep_error: bool
) -> dict[str, ActivationEdit]:
    """Return the edits that splice reconstructions into the model at counted positions, with or
    without the error term of each hook point.
    """

    def put(value: Tensor) -> ActivationEdit:
        def edit(h: Tensor) -> Tensor:
            new = value.to(h.dtype)
            return torch.where(counted[..., None], new + (h - new) if keep_error else new, h)

        return edit

    return {hook: put(value) for hook, value in rebuilt.items()}


def restore_with_error(
    lm: LanguageModel, error: PartLocation, counted: Tensor
) -> dict[str, ActivationEdit]:
    """Return the edits that splice in reconstruction plus error term, both computed during the
    forward pass, as a check that the model is unchanged.
    """
    one = error.dictionary
    assert one is not None, "an error term belongs to a dictionary"
    read: dict[str, Tensor] = {}

    def keep(h: Tensor) -> Tensor:
        read["x"] = h
        return h

    def rebuild(h: Tensor) -> Tensor:
        x = lm.process(error.read_at, read.get("x", h), one.processing)
        whole = read_dictionary(one, h, x, counted)
        both = one.reconstruct(whole.x) + whole.error_term()
        return torch.where(counted[..., None], both.to(h.dtype), h)

    found: dict[str, ActivationEdit] = {error.hook: rebuild}
    if error.read_at != error.hook:
        found[error.read_at] = keep
    return found
