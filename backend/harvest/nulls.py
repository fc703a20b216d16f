"""A harvest's null dictionaries: made from its own first tokens, kept in the store.

They follow from the model, the dictionaries, the plan and its seed, whatever the batches are, and
lie in `nulls/HARVEST`, where the engine finds them again.
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
from backend.dictionaries.null import DRAWS, ON_SHUFFLED, NullFacts, on_shuffled, save, seed_of
from backend.harvest.checkpoint import WorkLock
from backend.harvest.coactivation import first_level
from backend.harvest.feed import Batch, Feed, batches
from backend.harvest.probe import SAMPLE_BUDGET, Probe
from backend.harvest.segments import at
from backend.harvest.shard import encode, place
from backend.lm import Lm
from backend.processing import Processing
from backend.selfcheck import SelfCheck
from feature_store.errors import InputError
from feature_store.null_dictionaries import SHUFFLED

SAMPLE_TOKENS = 16_384
"""Counted tokens that set the thresholds, about: a whole number of sequences."""
SCALE_SEQUENCES = 64
"""Sequences on which a null dictionary's scales are measured."""
SAMPLE_BATCH = 2048
"""Tokens of one forward pass of the sample; not the harvest's, so that nothing hangs on that."""
UNCHECKED = (*(f"null-{kind}" for kind in DRAWS), ON_SHUFFLED)
"""Architectures that promise no reconstruction."""
UNTRAINED = ("identity", "directions", *UNCHECKED)
MAKING_S = 3600.0
"""How long another process of the same harvest waits for the one that makes them."""


@dataclass(frozen=True)
class Ground:
    """What null dictionaries are made on."""

    lm: Lm
    feed: Feed
    processing: Processing
    seed: int


def made(
    ground: Ground, found: Sequence[Dictionary], kinds: Sequence[str], folder: Path, work: Path
) -> list[tuple[Path | None, Dictionary]]:
    """The nulls of every dictionary that is trained (neurons and matrices have none), by
    dictionary, then kind, and where they lie. Those on disk are read, the others made and
    written. On a shuffled model the dictionary is the trained one, which lies where it did."""
    trained = [(n, d) for n, d in enumerate(found) if d.architecture not in UNTRAINED]
    if not trained:
        raise InputError(
            "--null needs a trained dictionary: neurons and matrices are nulls already."
        )
    loaded: list[tuple[Path | None, Dictionary]] = []
    with WorkLock(work / "nulls", "The null dictionaries of this harvest", MAKING_S):
        for number, one in trained:
            places = {k: folder / f"{number}-{k}" for k in kinds if k != SHUFFLED}
            missing = {kind: path for kind, path in places.items() if not path.exists()}
            if missing:
                make(ground, one, missing)
            loaded += [
                (path, loaders.load(str(path), placement=ground.lm.placement))
                for path in places.values()
            ]
            loaded += [(None, on_shuffled(one))] if SHUFFLED in kinds else []
    return loaded


def make(ground: Ground, dictionary: Dictionary, missing: dict[str, Path]) -> None:
    """Write the missing nulls of one dictionary."""
    hooks = {kind: hook_of(ground, dictionary, kind) for kind in missing}
    acts, counts = sample(ground, dictionary, sorted(set(hooks.values())))
    kept = ("prepend_bos", "model_from_pretrained_kwargs")
    metadata = {key: dictionary.metadata[key] for key in kept if key in dictionary.metadata}
    for kind, path in missing.items():
        x = acts[hooks[kind]]
        facts = NullFacts(kind, dictionary.name, hooks[kind], len(x), metadata)
        save(path, facts, DRAWS[kind](x, counts, seed_of(ground.seed, dictionary.name, kind)))


def hook_of(ground: Ground, dictionary: Dictionary, kind: str) -> str:
    """Where a null reads: the dictionary's own hook point. Neurons are those of the MLP that
    writes there or before, where there is one that the model gives without detours."""
    own = ground.lm.canonical(dictionary.hook_name)
    if kind != "neurons" or not own.startswith("blocks.") or ".attn." in own:
        return dictionary.hook_name
    block = int(own.split(".")[1]) - own.endswith("hook_resid_pre")
    hook = f"blocks.{block}.mlp.hook_post"
    with suppress(InputError):
        if block >= 0 and ground.lm.on_fast_road(hook):
            nothing = torch.zeros(1, 1, ground.lm.width(hook), device=ground.lm.placement.device)
            ground.lm.process(hook, nothing, ground.processing)
            return hook
    return dictionary.hook_name


@torch.inference_mode()
def sample(
    ground: Ground, dictionary: Dictionary, hooks: Sequence[str]
) -> tuple[dict[str, Float[Tensor, "n d"]], Int[Tensor, "d_sae"]]:
    """Activations at hook points on the plan's first tokens, and on how many of these tokens each
    of the dictionary's features fires."""
    counts = torch.zeros(dictionary.d_sae, dtype=torch.int64)
    rows: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    wanted = list(dict.fromkeys([*hooks, dictionary.hook_name]))
    for batch in first_batches(ground.feed):
        acts = ground.lm.activations(batch.tokens, wanted, ground.processing)
        feature = fired(dictionary, acts[dictionary.hook_name], batch)[0]
        counts += torch.bincount(feature, minlength=dictionary.d_sae).cpu()
        for hook in hooks:
            flat = acts[hook].reshape(-1, acts[hook].shape[-1])
            rows[hook].append(at(flat, batch.counted).float())
    return {hook: torch.cat(parts) for hook, parts in rows.items()}, counts


def first_batches(feed: Feed) -> Iterator[Batch]:
    """The first sequences of the plan, about SAMPLE_TOKENS tokens."""
    lengths = np.asarray(feed.plan.length)
    n = int(np.searchsorted(np.cumsum(lengths), SAMPLE_TOKENS)) + 1
    for sequences in batches(lengths[:n], SAMPLE_BATCH):
        yield feed.batch(sequences)


def fired(dictionary: Dictionary, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The features of a batch's non-zero activations at counted tokens, and the activations."""
    found = place(
        encode(dictionary, x, batch, "exact"), batch, 0, sparse_rows=dictionary.needs_sequence
    )
    return found.feature.long(), found.value


@torch.inference_mode()
def unchecked(
    lm: Lm, dictionary: Dictionary, feed: Feed, processing: Processing, forward_batch: int
) -> Probe:
    """A null dictionary's scales. It rebuilds nothing, so it has no self-check."""
    hook, largest, n_fired, n_tokens = dictionary.hook_name, 0.0, 0, 0
    for sequences in batches(np.asarray(feed.plan.length[:SCALE_SEQUENCES]), forward_batch):
        batch = feed.batch(sequences)
        values = fired(dictionary, lm.activations(batch.tokens, [hook], processing)[hook], batch)[1]
        largest = max(largest, float(values.abs().max()) if len(values) else 0.0)
        n_fired, n_tokens = n_fired + len(values), n_tokens + len(batch.counted)
    active = max(n_fired / max(n_tokens, 1), 1.0)
    return Probe(
        check=dict.fromkeys(field.name for field in fields(SelfCheck)),
        words=[],
        largest=largest,
        coactive_level=first_level(active, feed.plan.n_tokens),
        sample_rate=min(1.0, SAMPLE_BUDGET / (active * feed.plan.n_tokens)),
    )
