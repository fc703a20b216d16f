"""Null dictionaries of a harvest: untrained control dictionaries made from the harvest's first
tokens.

They depend on the model, the dictionaries, the plan and its seed, not on the batches, and are kept
in the store under `nulls/HARVEST`, where the engine loads them.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend import dictionaries as loaders
from backend.dictionaries.base import Dictionary
from backend.dictionaries.null_dictionaries import (
    NULL_BUILDERS,
    ON_SHUFFLED,
    NullFacts,
    derive_null_seed,
    name_shuffled_null,
    save,
)
from backend.dictionaries.site_activations import read_activations
from backend.evaluation.reconstruction_check import ReconstructionCheck
from backend.harvest.coactivation import initial_sample_level
from backend.harvest.dictionary_measurements import SAMPLE_BUDGET, DictionaryMeasurement
from backend.harvest.forward_batches import BatchFeed, ForwardBatch, plan_forward_batches
from backend.harvest.segments import select_rows
from backend.harvest.shard_run import assign_rows, encode_batch
from backend.harvest.work_folder import WorkLock
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import WeightProcessing
from feature_store.errors import InputError
from feature_store.hook_sites import check_single_sites
from feature_store.null_dictionaries import SHUFFLED

THRESHOLD_TOKENS = 16_384
"""Counted tokens from which the thresholds of null dictionaries are set, about: a whole number of
sequences."""
SCALE_SEQUENCES = 64
"""Sequences on which a null dictionary's activation scales are measured."""
SAMPLE_BATCH_TOKENS = 2048
"""Tokens of one forward pass over the sample for null dictionaries. Fixed, so that the result does
not depend on the harvest's own batch size."""
UNCHECKED_ARCHITECTURES = (*(f"null-{kind}" for kind in NULL_BUILDERS), ON_SHUFFLED)
"""Architectures that promise no reconstruction and so have no self-check."""
UNTRAINED_ARCHITECTURES = ("identity", "directions", *UNCHECKED_ARCHITECTURES)
"""Architectures that are not trained, so that no null dictionary is made for them."""
LOCK_PATIENCE_S = 3600.0
"""Seconds that a process waits for another process of the same harvest to make the null
dictionaries."""


@dataclass(frozen=True)
class NullInputs:
    """Inputs from which null dictionaries are made: the model, the token batches, the processing
    and the seed."""

    lm: LanguageModel
    feed: BatchFeed
    processing: WeightProcessing
    seed: int


def load_or_make_nulls(
    inputs: NullInputs,
    dictionaries: Sequence[Dictionary],
    kinds: Sequence[str],
    folder: Path,
    work_folder: Path,
) -> list[tuple[Path | None, Dictionary]]:
    """Return the null dictionaries of every trained dictionary (neurons and matrices have none), by
    dictionary and kind, each with its folder.

    Those on disk are loaded, the others are made and saved first. For the kind `shuffled` the
    dictionary is the trained one, without a folder of its own. Raises InputError where no
    dictionary is trained.
    """
    trained = [
        (n, d) for n, d in enumerate(dictionaries) if d.architecture not in UNTRAINED_ARCHITECTURES
    ]
    if not trained:
        raise InputError(
            "--null needs a trained dictionary: neurons and matrices are nulls already."
        )
    if set(kinds) - {SHUFFLED}:
        check_single_sites([one for _, one in trained], "Null dictionaries made of directions")
    loaded: list[tuple[Path | None, Dictionary]] = []
    with WorkLock(work_folder / "nulls", "The null dictionaries of this harvest", LOCK_PATIENCE_S):
        for number, dictionary in trained:
            paths = {k: folder / f"{number}-{k}" for k in kinds if k != SHUFFLED}
            missing = {kind: path for kind, path in paths.items() if not path.exists()}
            if missing:
                make_nulls(inputs, dictionary, missing)
            loaded += [
                (path, loaders.load(str(path), placement=inputs.lm.placement))
                for path in paths.values()
            ]
            loaded += [(None, name_shuffled_null(dictionary))] if SHUFFLED in kinds else []
    return loaded


def make_nulls(inputs: NullInputs, dictionary: Dictionary, missing: dict[str, Path]) -> None:
    """Make the missing null dictionaries of one trained dictionary and save them."""
    hooks = {kind: null_hook_point(inputs, dictionary, kind) for kind in missing}
    acts, counts = sample_activations(inputs, dictionary, sorted(set(hooks.values())))
    metadata_keys = ("prepend_bos", "model_from_pretrained_kwargs")
    metadata = {
        key: dictionary.metadata[key] for key in metadata_keys if key in dictionary.metadata
    }
    for kind, path in missing.items():
        x = acts[hooks[kind]]
        facts = NullFacts(kind, dictionary.name, hooks[kind], len(x), metadata)
        save(
            path,
            facts,
            NULL_BUILDERS[kind](x, counts, derive_null_seed(inputs.seed, dictionary.name, kind)),
        )


def null_hook_point(inputs: NullInputs, dictionary: Dictionary, kind: str) -> str:
    """Return the hook point that a null dictionary reads: the trained dictionary's own.

    A `neurons` null reads the neurons of the MLP that writes to that hook point or before it, where
    such an MLP exists on the model's fast forward path.
    """
    own = inputs.lm.canonical(dictionary.hook_name)
    if kind != "neurons" or not own.startswith("blocks.") or ".attn." in own:
        return dictionary.hook_name
    block = int(own.split(".")[1]) - own.endswith("hook_resid_pre")
    hook = f"blocks.{block}.mlp.hook_post"
    with suppress(InputError):
        if block >= 0 and inputs.lm.has_fast_forward(hook):
            zeros = torch.zeros(1, 1, inputs.lm.width(hook), device=inputs.lm.placement.device)
            inputs.lm.process(hook, zeros, inputs.processing)
            return hook
    return dictionary.hook_name


@torch.inference_mode()
def sample_activations(
    inputs: NullInputs, dictionary: Dictionary, hooks: Sequence[str]
) -> tuple[dict[str, Float[Tensor, "n d"]], Int[Tensor, "d_sae"]]:
    """Return the model's activations at several hook points on the plan's first tokens, and for
    each of the dictionary's features the number of these tokens on which it fires. Null
    dictionaries are fitted to both."""
    counts = torch.zeros(dictionary.d_sae, dtype=torch.int64)
    rows: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    wanted = list(dict.fromkeys([*hooks, dictionary.hook_name]))
    for batch in first_plan_batches(inputs.feed):
        acts = inputs.lm.activations(batch.tokens, wanted, inputs.processing)
        feature = find_firings(dictionary, acts[dictionary.hook_name], batch)[0]
        counts += torch.bincount(feature, minlength=dictionary.d_sae).cpu()
        for hook in hooks:
            flat = acts[hook].reshape(-1, acts[hook].shape[-1])
            rows[hook].append(select_rows(flat, batch.counted).float())
    return {hook: torch.cat(parts) for hook, parts in rows.items()}, counts


def first_plan_batches(feed: BatchFeed) -> Iterator[ForwardBatch]:
    """Yield the forward batches of the plan's first sequences, about THRESHOLD_TOKENS tokens."""
    lengths = np.asarray(feed.plan.length)
    n = int(np.searchsorted(np.cumsum(lengths), THRESHOLD_TOKENS)) + 1
    for sequences in plan_forward_batches(lengths[:n], SAMPLE_BATCH_TOKENS):
        yield feed.batch(sequences)


def find_firings(dictionary: Dictionary, x: Tensor, batch: ForwardBatch) -> tuple[Tensor, Tensor]:
    """Return the features and values of a dictionary's non-zero activations at a batch's counted
    tokens, to which null dictionaries are fitted."""
    triples = assign_rows(
        encode_batch(dictionary, x, batch, "exact"), batch, 0, sparse_rows=dictionary.needs_sequence
    )
    return triples.feature.long(), triples.value


@torch.inference_mode()
def measure_null_scales(
    lm: LanguageModel,
    dictionary: Dictionary,
    feed: BatchFeed,
    processing: WeightProcessing,
    forward_batch: int,
) -> DictionaryMeasurement:
    """Measure a null dictionary's activation scales on the plan's first sequences. A null
    dictionary reconstructs zeros, so its self-check is empty."""
    largest, n_fired, n_tokens = 0.0, 0, 0
    for sequences in plan_forward_batches(
        np.asarray(feed.plan.length[:SCALE_SEQUENCES]), forward_batch
    ):
        batch = feed.batch(sequences)
        x = read_activations(lm, dictionary, batch.tokens, processing)
        values = find_firings(dictionary, x, batch)[1]
        largest = max(largest, float(values.abs().max()) if len(values) else 0.0)
        n_fired, n_tokens = n_fired + len(values), n_tokens + len(batch.counted)
    active = max(n_fired / max(n_tokens, 1), 1.0)
    return DictionaryMeasurement(
        check=dict.fromkeys(field.name for field in fields(ReconstructionCheck)),
        words=[],
        largest=largest,
        coactive_level=initial_sample_level(active, feed.plan.n_tokens),
        sample_rate=min(1.0, SAMPLE_BUDGET / (active * feed.plan.n_tokens)),
    )
