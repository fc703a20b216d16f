"""Measurement of a reconstruction check, in which all dictionaries of one model share their forward
passes.

One clean pass over the pieces gives every dictionary its activations, and the clean losses. Each
reconstruction then runs through the blocks after its hook point, and so do zero and the mean, once
for each hook point. Runs end early where their interval is narrow enough.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import list_hooks, process_reads, process_writes
from backend.evaluation.reconstruction_batches import (
    MAX_BATCH_VALUES,
    CountedMasks,
    PieceBatch,
    TextPiece,
    make_piece_batches,
)
from backend.evaluation.reconstruction_check import (
    ReconstructionCheck,
    check_dictionary_fits,
    unigram_loss,
)
from backend.evaluation.reconstruction_losses import (
    MIN_PIECES,
    SummedLosses,
    is_difference_precise,
    is_recovery_precise,
)
from backend.model.counted_positions import uncounted_token_ids
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel
from backend.model.partial_forward import PartialForward, make_recording_edit
from feature_store.errors import InputError

MAX_KEPT_BYTES = 1 << 29
"""Maximum bytes of activations and reconstructions kept from the clean pass; more dictionaries are
measured in groups."""


@dataclass(frozen=True)
class ReconstructionCheckProgress:
    """Progress of a reconstruction measurement: the number of forward passes of one batch done, and
    the most that may be needed."""

    done: int
    total: int


@dataclass
class CleanPassSums:
    """Sums over the activations and reconstructions of one dictionary in the clean pass, which give
    its explained variance, L0 and share of dead features."""

    total: Float[Tensor, "d_out"]
    """Sum of the activations y in float64, like `squares`; all sums are on the model's device and
    read once at the end."""
    fired: Bool[Tensor, "d_sae"]
    squares: Float[Tensor, "2"]
    """Σ‖y‖² of the clean pass, and the squared error of the reconstruction."""
    largest: Float[Tensor, ""]
    n_nonzero: Int[Tensor, ""]
    n: int = 0
    rebuilt: list[Float[Tensor, "n d_out"]] = field(default_factory=list)
    """Reconstruction at the counted positions, one tensor [n, d_out] per batch."""


def check_reconstruction(
    lm: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequence[Sequence[int]],
    *,
    use_all_pieces: bool = False,
) -> ReconstructionCheck:
    """Measure the reconstruction of one dictionary, each sequence being a document; see
    `check_reconstructions`."""
    pieces = [TextPiece(tokens, number) for number, tokens in enumerate(sequences)]
    return run_check_to_end(
        check_reconstructions(lm, [dictionary], pieces, use_all_pieces=use_all_pieces)
    )[dictionary.name]


def run_check_to_end(
    steps: Generator[ReconstructionCheckProgress, None, dict[str, ReconstructionCheck]],
) -> dict[str, ReconstructionCheck]:
    """Run a reconstruction measurement to its end and return the result, ignoring its progress."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def check_reconstructions(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    pieces: Sequence[TextPiece],
    *,
    use_all_pieces: bool = False,
) -> Generator[ReconstructionCheckProgress, None, dict[str, ReconstructionCheck]]:
    """Measure the reconstruction of dictionaries of one model on the first 50 pieces, 128 tokens of
    each.

    Yield progress after each pass; the result is name → ReconstructionCheck. Sums are taken in
    float64. `use_all_pieces` makes every run use all pieces. Raise InputError when a dictionary
    does not fit the model, or no token counts.
    """
    for one in dictionaries:
        check_dictionary_fits(lm, one)
    run = ReconstructionMeasurement(lm, list(dictionaries), pieces, use_all_pieces)
    yield from run.steps()
    return run.results


class ReconstructionMeasurement:
    """Reconstruction measurement in progress: batches, clean losses and results of its
    dictionaries."""

    def __init__(
        self,
        lm: LanguageModel,
        dictionaries: list[Dictionary],
        pieces: Sequence[TextPiece],
        use_all_pieces: bool,
    ) -> None:
        self.lm = lm
        self.dictionaries = dictionaries
        self.use_all_pieces = use_all_pieces
        self.results: dict[str, ReconstructionCheck] = {}
        self._forward = PartialForward(lm)
        self._batches = list(make_piece_batches(lm, pieces))
        self._clean: list[Float[Tensor, "batch pos-1"]] = []
        """Clean losses of each batch; of the first 20 pieces only where nothing is spliced, which
        is enough to see whether the model can predict the text."""
        self._ablated: dict[str, SummedLosses] = {}
        """Losses under zero and mean ablation, by hook point and kind of ablation."""
        self._starts: list[dict[int, Tensor]] = []
        """Per batch, the clean output of the blocks after which partial forward passes start."""
        self._done = self._total = 0

    def steps(self) -> Iterator[ReconstructionCheckProgress]:
        """Run the reconstruction measurement group by group, yielding its progress."""
        groups = list(self._groups())
        spliced = sum(not is_exact_by_construction(one) for one in self.dictionaries)
        self._total = (len(groups) + 3 * spliced) * len(self._batches)
        for group in groups:
            readings = {one.name: make_empty_sums(one, self.lm.placement.device) for one in group}
            self._starts = []
            for number, batch in enumerate(self._batches):
                self._read(batch, number, group, readings)
                yield self._step()
            for one in group:
                yield from self._measure(one, readings.pop(one.name))

    def _step(self) -> ReconstructionCheckProgress:
        """Count one more forward pass of a batch, and return the progress of the reconstruction
        measurement."""
        self._done += 1
        return ReconstructionCheckProgress(self._done, self._total)

    def _groups(self) -> Iterator[list[Dictionary]]:
        """Group dictionaries whose tensors kept from the clean pass fit into memory together, in
        order of their starting block."""
        n = sum(batch.tokens.numel() for batch in self._batches)
        order = sorted(self.dictionaries, key=lambda d: (self._start_of(d) or -1, d.read_hooks))
        group: list[Dictionary] = []
        starts: set[int | None] = set()
        held = 0
        for dictionary in order:
            start = self._start_of(dictionary)
            cost = 0 if is_exact_by_construction(dictionary) else 4 * n * dictionary.d_out
            cost += 0 if start is None or start in starts else 4 * n * self.lm.d_model
            if group and held + cost > MAX_KEPT_BYTES:
                yield group
                group, starts, held = [], set(), 0
            group.append(dictionary)
            starts.add(start)
            held += cost
        if group:
            yield group

    def _start_of(self, dictionary: Dictionary) -> int | None:
        """Return the block after which a dictionary's spliced passes start; None for the whole
        model."""
        if is_exact_by_construction(dictionary):
            return None
        starts = [self._forward.last_unchanged_block(hook) for hook in dictionary.write_hooks]
        return None if None in starts else min(start for start in starts if start is not None)

    def _wants_losses(self, number: int) -> bool:
        """Return whether the clean next-token losses of this batch are needed, which cost a whole
        forward pass: after the first MIN_PIECES pieces only if a dictionary's reconstruction is
        spliced."""
        read = sum(len(batch.documents) for batch in self._batches[:number])
        return read < MIN_PIECES or not all(map(is_exact_by_construction, self.dictionaries))

    @torch.no_grad()
    def _read(
        self,
        batch: PieceBatch,
        number: int,
        group: list[Dictionary],
        readings: dict[str, CleanPassSums],
    ) -> None:
        """Run the clean pass of one batch and add it to the sums of each dictionary."""
        lm = self.lm
        starts = {start for one in group if (start := self._start_of(one)) is not None}
        hooks = {f"blocks.{start}.hook_out" for start in starts}
        hooks |= set(list_hooks(group, writes=True))
        fast = [hook for hook in sorted(hooks) if lm.has_fast_forward(hook)]
        stored: dict[str, Tensor] = {}
        if len(self._clean) == number and self._wants_losses(number):
            edits = {
                lm.canonical(hook): make_recording_edit(stored, lm.canonical(hook)) for hook in fast
            }
            self._clean.append(lm.token_losses(batch.on_device, edits))
            stored = {hook: stored[lm.canonical(hook)] for hook in fast}
        elif fast:
            stored = lm.activations(batch.on_device, fast)
        if slow := sorted(hooks - set(fast)):
            stored |= lm.activations(batch.on_device, slow)
        self._starts.append({start: stored[f"blocks.{start}.hook_out"] for start in starts})
        for one in group:
            x, y = process_reads(lm, one, stored), process_writes(lm, one, stored)
            add_batch_to_sums(readings[one.name], one, x, y, self._masks(batch, one).counted)

    def _measure(
        self, dictionary: Dictionary, reading: CleanPassSums
    ) -> Iterator[ReconstructionCheckProgress]:
        """Run the spliced and the ablated passes of one dictionary, and store its reconstruction
        check."""
        if reading.n == 0:
            raise InputError(
                "The self-check found no token to count: give it texts longer than one token."
            )
        clean = self._losses_of(dictionary, self._clean)
        if clean.n == 0:
            raise InputError("The self-check found no next token to predict: give it longer texts.")
        spliced, zero, mean = clean, None, None
        if not is_exact_by_construction(dictionary):
            spliced = SummedLosses()
            yield from self._run(dictionary, reading.rebuilt, spliced, clean)
            reading.rebuilt.clear()
            values = (reading.total / reading.n).to(self.lm.placement.device, torch.float32)
            written = " + ".join(map(self.lm.canonical, dictionary.write_hooks))
            place = f"{written} under {dictionary.processing}, {dictionary.d_out}"
            ablated = []
            for name, value in (("zero", torch.zeros_like(values)), ("mean", values)):
                key = f"{name} at {place}, {sorted(self._uncounted(dictionary))}"
                if key not in self._ablated:
                    self._ablated[key] = SummedLosses()
                    replacements = [value] * len(self._batches)
                    yield from self._run(
                        dictionary, replacements, self._ablated[key], clean, spliced
                    )
                ablated.append(self._ablated[key])
            zero, mean = ablated
        self.results[dictionary.name] = build_check_result(
            dictionary,
            reading,
            self._batches,
            (clean, spliced, zero, mean),
            unigram_loss(self._targets(dictionary), self.lm.d_vocab),
        )

    @torch.no_grad()
    def _run(
        self,
        dictionary: Dictionary,
        replacements: Sequence[Tensor],
        losses: SummedLosses,
        clean: SummedLosses,
        spliced: SummedLosses | None = None,
    ) -> Iterator[ReconstructionCheckProgress]:
        """Run the model on each batch with the activations at the dictionary's write sites replaced
        by `replacements`, and add the next-token losses to `losses`, until the confidence interval
        of the loss difference is narrow enough.

        With `spliced`, the losses of the reconstruction, the run is an ablation that gives the
        scale of the recovery.
        """
        start = self._start_of(dictionary)
        for number, batch in enumerate(self._batches):
            edits = make_splice_edits(
                self.lm, dictionary, replacements[number], self._masks(batch, dictionary).counted
            )
            partial_start = None if start is None else (start, self._starts[number][start])
            batch_losses = self._forward.token_losses(batch.on_device, edits, partial_start)
            losses.add(batch_losses, self._masks(batch, dictionary), batch.documents)
            yield self._step()
            if not batch.last_of_round or self.use_all_pieces:
                continue
            if spliced is None and is_difference_precise(losses, clean):
                return
            if spliced is not None and is_recovery_precise(losses, spliced, clean):
                return

    def _losses_of(self, dictionary: Dictionary, batch_losses: Sequence[Tensor]) -> SummedLosses:
        losses = SummedLosses()
        for batch, values in zip(self._batches, batch_losses, strict=False):
            losses.add(values, self._masks(batch, dictionary), batch.documents)
        return losses

    def _targets(self, dictionary: Dictionary) -> np.ndarray:
        """Return the token ids predicted where the clean loss is counted, from which the unigram
        loss is computed."""
        batches = self._batches[: len(self._clean)]
        return np.concatenate([self._masks(batch, dictionary).targets for batch in batches])

    def _masks(self, batch: PieceBatch, dictionary: Dictionary) -> CountedMasks:
        return batch.masks(self._uncounted(dictionary))

    def _uncounted(self, dictionary: Dictionary) -> frozenset[int]:
        return frozenset(uncounted_token_ids(self.lm.bos, self.lm.special_ids, dictionary.metadata))


def is_exact_by_construction(dictionary: Dictionary) -> bool:
    """Return whether a dictionary reconstructs its input exactly by construction: a layer's own
    neurons."""
    return dictionary.architecture == "identity" and not dictionary.is_transcoder


def make_empty_sums(dictionary: Dictionary, device: torch.device) -> CleanPassSums:
    """Make the sums of a clean pass before the first batch, all zero."""
    zeros = partial(torch.zeros, device=device)
    return CleanPassSums(
        zeros(dictionary.d_out, dtype=torch.float64),
        zeros(dictionary.d_sae, dtype=torch.bool),
        zeros(2, dtype=torch.float64),
        zeros(()),
        zeros((), dtype=torch.int64),
    )


def add_batch_to_sums(
    reading: CleanPassSums,
    dictionary: Dictionary,
    x: Float[Tensor, "batch pos d_in"],
    y: Float[Tensor, "batch pos d_out"],
    positions: Int[Tensor, "n"],
) -> None:
    """Add the activations and reconstructions of one batch, at its counted `positions` (flat
    indices), to the sums of a dictionary's clean pass."""
    reconstructions = []
    for f, reconstruction in reconstruct_positions(dictionary, x, positions):
        reading.n_nonzero += torch.count_nonzero(f)
        reading.fired |= (f != 0).any(0)
        if f.numel():
            reading.largest = torch.maximum(reading.largest, f.abs().max().float())  # NaN stays
        reconstructions.append(reconstruction)
    reconstruction, true = torch.cat(reconstructions), y.flatten(0, 1)[positions].double()
    reading.n += len(true)
    reading.total += true.sum(0)
    reading.squares += torch.stack(
        [true.pow(2).sum(), (true - reconstruction.double()).pow(2).sum()]
    )
    if not is_exact_by_construction(dictionary):
        reading.rebuilt.append(reconstruction)


def reconstruct_positions(
    dictionary: Dictionary, x: Float[Tensor, "batch pos d_in"], positions: Int[Tensor, "n"]
) -> Iterator[tuple[Float[Tensor, "n d_sae"], Float[Tensor, "n d_out"]]]:
    """Yield the dictionary's dense activations [n, d_sae] and reconstructions [n, d_out] at the
    flat `positions` of a batch, some rows at a time."""
    if dictionary.needs_sequence:
        f = dictionary.encode(x)
        yield f.flatten(0, 1)[positions], dictionary.decode(f, x).flatten(0, 1)[positions]
        return
    for rows in x.flatten(0, 1)[positions].split(max(1, MAX_BATCH_VALUES // dictionary.d_sae)):
        f = dictionary.encode(rows)
        yield f, dictionary.decode(f, rows)


def make_splice_edits(
    lm: LanguageModel, dictionary: Dictionary, new: Tensor, positions: Int[Tensor, "n"]
) -> dict[str, ActivationEdit]:
    """Make the edits, by hook point, that replace the activations at the dictionary's write sites
    by `new` ([n, d_out] or [d_out], a reconstruction or an ablation) at the flat `positions` of a
    batch and nowhere else."""
    return {
        site.hook: _make_splice_edit(lm, dictionary, site.hook, new[..., site.columns], positions)
        for site in dictionary.writes
    }


def _make_splice_edit(
    lm: LanguageModel, dictionary: Dictionary, hook: str, new: Tensor, positions: Int[Tensor, "n"]
) -> ActivationEdit:
    def edit(h: Tensor) -> Tensor:
        y = lm.process(hook, h, dictionary.processing)
        # Added as a difference: what processing removes of the raw activation is kept.
        delta = torch.zeros_like(h, memory_format=torch.contiguous_format)
        delta.view(-1, h.shape[-1])[positions] = (new - y.flatten(0, 1)[positions]).to(h.dtype)
        return h + delta

    return edit


def build_check_result(
    dictionary: Dictionary,
    reading: CleanPassSums,
    batches: Sequence[PieceBatch],
    losses: tuple[SummedLosses, SummedLosses, SummedLosses | None, SummedLosses | None],
    ce_unigram: float,
) -> ReconstructionCheck:
    """Build the result of a reconstruction check from the clean pass's sums and the losses."""
    clean, spliced, zero, mean = losses
    ce_clean, n = clean.mean(), reading.n
    square, error = reading.squares.tolist()
    delta, margin = spliced.difference(clean)
    damage = [
        None if dictionary is None else dictionary.difference(clean)[0]
        for dictionary in (zero, mean)
    ]
    variance = square - float(reading.total.pow(2).sum()) / n
    return ReconstructionCheck(
        n_documents=len({d for batch in batches for d in batch.documents}),
        n_pieces=sum(len(batch.documents) for batch in batches),
        n_tokens=n,
        explained_variance=one_minus_ratio(error, variance),
        l0=int(reading.n_nonzero) / n,
        dead_share=1 - int(reading.fired.sum()) / dictionary.d_sae,
        dead_bound=3 / n,
        largest=float(reading.largest),
        ce_clean=ce_clean,
        ce_unigram=ce_unigram,
        ce_spliced=ce_clean + delta,
        ce_zero=None if damage[0] is None else ce_clean + damage[0],
        ce_mean=None if damage[1] is None else ce_clean + damage[1],
        delta_ce=delta,
        delta_ce_margin=margin,
        delta_ce_pieces=spliced.n_pieces,
        recovery_zero=one_minus_ratio(delta, damage[0]),
        recovery_mean=one_minus_ratio(delta, damage[1]),
        published_l0=read_metadata_number(dictionary, "l0"),
        published_explained_variance=read_metadata_number(
            dictionary, "explained_variance", "variance_explained"
        ),
    )


def one_minus_ratio(part: float, whole: float | None) -> float | None:
    """Return 1 - part/whole, as for explained variance; None where the whole is not positive, NaN
    where it is NaN."""
    return None if whole is None or whole <= 0 else 1 - part / whole


def read_metadata_number(dictionary: Dictionary, *keys: str) -> float | None:
    """Return the first of a dictionary's metadata `keys` that holds a number, such as its published
    L0."""
    for key in keys:
        value = dictionary.metadata.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
