"""Forward passes with model parts ablated: logits of prompts with and without the parts, and the
losses and KL divergence between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from backend.ablation.harvest_means import FeatureMeans
from backend.ablation.model_parts import (
    AblationKind,
    ModelPart,
    check_ablation_kind,
    check_model_parts,
)
from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.part_edits import (
    PartLocation,
    ReplacementValue,
    compile_part_edits,
    locate_part,
    record_part_values,
)
from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


@dataclass(frozen=True)
class AblationOutcome:
    """Logits of two forward passes on the same prompts, clean and ablated, and what can be computed
    from them.
    """

    clean: Float[Tensor, "batch pos vocab"]
    ablated: Float[Tensor, "batch pos vocab"]
    prompts: PaddedPrompts
    n_nameable: int
    """Token ids from this one on occur in no text and are never listed."""

    def losses(self) -> tuple[Float[Tensor, "batch pos-1"], Float[Tensor, "batch pos-1"]]:
        """Return the next-token cross-entropy in nats of the clean and the ablated forward pass,
        [batch, position − 1] each; NaN at padding.
        """
        return self._losses(self.clean), self._losses(self.ablated)

    def kl(self) -> Float[Tensor, "batch pos"]:
        """Return KL(clean ‖ ablated) in nats between the next-token distributions of the two
        forward passes, [batch, position]; NaN at padding.
        """
        p, q = (x.float().log_softmax(-1) for x in (self.clean, self.ablated))
        # Rounding can make a KL of zero slightly negative.
        found = (p.exp() * (p - q)).sum(-1).clamp_min(0)
        return found.masked_fill(~self.prompts.real.to(found.device), float("nan"))

    def most_moved(self, row: int, position: int, n: int) -> list[tuple[int, float, float]]:
        """Return the `n` tokens whose next-token probability differs most between the clean and the
        ablated forward pass at one position, as (token id, clean probability, ablated probability).
        """
        p, q = (x[row, position].float().softmax(-1) for x in (self.clean, self.ablated))
        change = (p - q).abs()[: self.n_nameable]
        top = change.topk(min(n, len(change))).indices
        before, after = torch.stack([p[top], q[top]]).tolist()  # one copy to the host
        return list(zip(top.tolist(), before, after, strict=True))

    def _losses(self, logits: Tensor) -> Tensor:
        tokens = self.prompts.tokens.to(logits.device)
        flat = logits[:, :-1].float().flatten(0, 1)
        found = nn.functional.cross_entropy(flat, tokens[:, 1:].flatten(), reduction="none")
        real = self.prompts.real[:, 1:].to(logits.device)
        return found.view(len(tokens), -1).masked_fill(~real, float("nan"))


@dataclass(frozen=True)
class AblatedForward:
    """Runs forward passes with model parts ablated, replaced according to the kind of ablation
    (zero, mean, resample, pair).
    """

    lm: LanguageModel
    dictionaries: Mapping[str, Dictionary]
    how: AblationKind
    means: FeatureMeans | None = None
    """Lookup of feature means for mean ablation; other parts take their mean over `donors`."""
    donors: PaddedPrompts | None = None
    """Prompts to take replacement values from.

    Mean ablation of parts that are no feature, and resample ablation: any prompts, by default those
    that are ablated. Pair: the partner prompts.
    """
    seed: int = 0

    def run(self, parts: Sequence[ModelPart], prompts: PaddedPrompts) -> AblationOutcome:
        """Run prompts in a clean forward pass and in one with all parts ablated together. Raises
        InputError for parts that cannot be ablated in this way.
        """
        ablated = self.ablated_logits(parts, prompts)
        with torch.no_grad():
            return AblationOutcome(
                self.lm.logits(prompts.tokens), ablated, prompts, self.lm.n_nameable
            )

    def ablated_logits(
        self, parts: Sequence[ModelPart], prompts: PaddedPrompts
    ) -> Float[Tensor, "batch pos vocab"]:
        """Run one forward pass with the parts ablated together and return its logits [batch,
        position, vocabulary].
        """
        sites = [locate_part(self.lm, self.dictionaries, part) for part in check_model_parts(parts)]
        others = self._replacement_values(sites, prompts)
        with torch.no_grad():
            changed = compile_part_edits(self.lm, sites, others, prompts.counted)
            return self.lm.logits(prompts.tokens, changed)

    def _replacement_values(
        self, sites: Sequence[PartLocation], prompts: PaddedPrompts
    ) -> dict[ModelPart, ReplacementValue]:
        check_ablation_kind(self.how)
        if self.how == "zero":
            return {at.part: 0.0 for at in sites}
        if self.how == "mean":
            return self._means(sites, prompts)
        if self.how == "pair":
            if self.donors is None:
                raise InputError("The ablation kind pair needs a second prompt of the same length.")
            prompts.check_pair(self.donors)
            return dict(record_part_values(self.lm, sites, self.donors.tokens, self.donors.counted))
        return self._resampled(sites, prompts)

    def _means(
        self, sites: Sequence[PartLocation], prompts: PaddedPrompts
    ) -> dict[ModelPart, ReplacementValue]:
        found: dict[ModelPart, ReplacementValue] = {}
        unknown = []
        for at in sites:
            known = self.means(at.part) if self.means and at.part.feature else None
            if known is None:
                unknown.append(at)
            else:
                found[at.part] = known
        if unknown:
            source = prompts if self.donors is None else self.donors
            given = record_part_values(self.lm, unknown, source.tokens, source.counted)
            counted = source.counted.to(self.lm.placement.device)
            found |= {part: v[counted].mean(0) for part, v in given.items()}
        return found

    def _resampled(
        self, sites: Sequence[PartLocation], prompts: PaddedPrompts
    ) -> dict[ModelPart, ReplacementValue]:
        """Return the replacement values of the ablated parts: their values on a donor prompt drawn
        for each prompt, at the same positions.
        """
        taken = self.draw_donors(prompts)
        return dict(record_part_values(self.lm, sites, taken.tokens, taken.counted))

    def draw_donors(self, prompts: PaddedPrompts) -> PaddedPrompts:
        """Draw a donor prompt for each prompt, cut to the same length, from which the ablated
        forward pass takes its values (resample ablation).

        Raises InputError where no other prompt is long enough.
        """
        donors = prompts if self.donors is None else self.donors
        chosen, longest = self._draw_donor_rows(donors, prompts), prompts.tokens.shape[1]
        tokens, real, counted = (
            t[chosen, :longest] for t in (donors.tokens, donors.real, donors.counted)
        )
        return PaddedPrompts(tokens, real, counted, prompts.last)

    def _draw_donor_rows(self, donors: PaddedPrompts, prompts: PaddedPrompts) -> list[int]:
        """Draw for each ablated prompt the row of a donor prompt that is at least as long and
        differs from it.
        """
        generator = torch.Generator().manual_seed(self.seed)
        found = []
        for row, last in enumerate(prompts.last.tolist()):
            size = last + 1
            long = [
                i
                for i, end in enumerate(donors.last.tolist())
                if end >= last
                and donors.tokens[i, :size].tolist() != prompts.tokens[row, :size].tolist()
            ]
            if not long:
                raise InputError(
                    f"Prompt {row + 1} has {size} tokens, and no other prompt is as long: give "
                    "longer prompts, or choose zero or mean."
                )
            found.append(long[int(torch.randint(len(long), (1,), generator=generator))])
        return found
