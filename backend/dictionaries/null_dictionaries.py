"""Null dictionaries: untrained directions whose thresholds make them fire as often as the features
of an SAE.

f = relu((x − mean) · direction − threshold), and one unit of f adds one direction. Thresholds are
set on a sample of tokens so that feature i fires on a given number of them. The part of a score
that exceeds such features is due to training (Heap et al., arXiv:2501.17727).
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.dictionaries.dictionary_sources import (
    NULL_FACTS,
    NULL_WEIGHTS,
    DictionarySource,
    read_json,
)
from backend.dictionaries.weight_files import (
    move_tensors,
    read_safetensors,
    take_tensor,
    weights_hash,
)
from backend.model.finite_weights import check_dictionary_finite
from feature_store.errors import InputError
from feature_store.null_dictionaries import SHUFFLED, null_dictionary_name, null_dictionary_source
from feature_store.strict_json import dump_json

ON_SHUFFLED = f"null-{SHUFFLED}"
"""Architecture name of a trained dictionary that reads a weight-shuffled language model."""
COLUMNS = 256
"""Number of null features whose projections are sorted at a time."""
ROUNDING = 4e-6
"""Relative rounding error of activations, as a share of their range: equal values from different
batches differ by less."""
NullBuilder = Callable[[Float[Tensor, "n d"], Int[Tensor, "m"], int], dict[str, Tensor]]
"""A function (activations [n d], firing counts [m] of the trained features, seed) -> tensors of a
null dictionary."""


@dataclass(frozen=True)
class NullFacts:
    """Description of a null dictionary (a control without training, to compare SAEs with), stored
    as null.json next to its tensors."""

    kind: str
    of: str
    """Name of the trained dictionary for which the null dictionary is the baseline."""
    hook_name: str
    tokens: int
    """Number of tokens of the sample that set the thresholds."""
    metadata: Mapping[str, object]
    """`prepend_bos` and the weight processing of the trained dictionary."""


def draw_random_null(
    x: Float[Tensor, "n d"], counts: Int[Tensor, "m"], seed: int
) -> dict[str, Tensor]:
    """Draw a random null dictionary: one direction for each SAE feature, uniform on the sphere,
    with the same firing counts."""
    dice = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(counts), x.shape[1], generator=dice, dtype=torch.float64)
    return build_null_tensors(x, drawn / drawn.norm(dim=1, keepdim=True), counts)


def build_pca_null(
    x: Float[Tensor, "n d"], counts: Int[Tensor, "m"], seed: int
) -> dict[str, Tensor]:
    """Build the PCA null dictionary: all principal components by falling variance, each as two
    features, 2i for the positive side and 2i + 1 for the negative side."""
    centred = x.double() - x.double().mean(0)
    found = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0)
    largest = found.gather(1, found.abs().argmax(1, keepdim=True))
    both = add_opposite_directions(
        found * largest.sign()
    )  # an eigenvector's own sign means nothing
    return build_null_tensors(x, both, spread_firing_counts(counts, torch.arange(len(both))))


def build_neuron_null(
    x: Float[Tensor, "n d"], counts: Int[Tensor, "m"], seed: int
) -> dict[str, Tensor]:
    """Build the neuron null dictionary: the coordinates of the hook point, each as two features, 2i
    above its mean and 2i + 1 below."""
    both = add_opposite_directions(torch.eye(x.shape[1], dtype=torch.float64))
    variance = x.double().var(0).cpu().repeat_interleave(2)
    return build_null_tensors(
        x, both, spread_firing_counts(counts, (-variance).argsort(stable=True))
    )


NULL_BUILDERS: dict[str, NullBuilder] = {
    "random": draw_random_null,
    "pca": build_pca_null,
    "neurons": build_neuron_null,
}


def add_opposite_directions(directions: Float[Tensor, "n d"]) -> Float[Tensor, "2n d"]:
    """Return the null dictionary's directions, each followed by its opposite, so that its two sides
    become two features: [2n, d]."""
    return torch.stack([directions, -directions], 1).flatten(0, 1)


def spread_firing_counts(counts: Int[Tensor, "m"], order: Int[Tensor, "k"]) -> Int[Tensor, "k"]:
    """Return a firing count for each feature of a null dictionary: quantiles of the firing counts
    of the SAE's live features, the largest for the feature that `order` lists first.

    The null dictionary so has the SAE's distribution of densities even where its number of features
    differs.
    """
    live = counts[counts > 0].sort(descending=True).values
    if not len(live):
        return torch.zeros(len(order), dtype=torch.int64)
    at = ((torch.arange(len(order)) + 0.5) / len(order) * len(live)).long()
    found = torch.empty(len(order), dtype=torch.int64)
    found[order] = live[at]
    return found


def build_null_tensors(
    x: Float[Tensor, "n d"], directions: Float[Tensor, "m d"], counts: Int[Tensor, "m"]
) -> dict[str, Tensor]:
    """Return the directions, mean and thresholds of a null dictionary, float32 on the CPU."""
    mean, rows = x.mean(0), directions.float().to(x.device)
    centred = x - mean
    threshold = torch.cat(
        [
            find_thresholds(centred @ rows[at : at + COLUMNS].T, counts[at : at + COLUMNS])
            for at in range(0, len(rows), COLUMNS)
        ]
    )
    found = {"directions": rows, "mean": mean, "threshold": threshold}
    return {name: one.float().cpu().contiguous() for name, one in found.items()}


def find_thresholds(values: Float[Tensor, "n m"], counts: Int[Tensor, "m"]) -> Float[Tensor, "m"]:
    """Return for each feature of a null dictionary (a column of projections, [token, feature]) the
    threshold that exactly `counts` tokens exceed, or fewer where values are equal.

    The threshold lies halfway to the next value, so that new tokens exceed it as often.
    """
    ordered = values.sort(dim=0, descending=True).values
    n = len(ordered)
    counts = counts.to(ordered.device)
    above = ordered.gather(0, (counts - 1).clamp(0, n - 1)[None])[0]
    below = ordered.gather(0, counts.clamp(0, n - 1)[None])[0]
    width = (ordered[0] - ordered[-1]).clamp(min=1e-6)
    middle = torch.where(counts == 0, below, (above + below) / 2)
    middle = middle.maximum(below + ROUNDING * width)  # tokens after the same words are equal
    always = ordered[-1] - width
    return torch.where(counts >= n, always, middle)


def derive_null_seed(seed: int, of: str, kind: str) -> int:
    """Derive the random seed of one null dictionary from the harvest's seed, the dictionary's name
    and the kind of null."""
    text = f"{seed}/{of}/{kind}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())


def name_shuffled_null(dictionary: Dictionary) -> Dictionary:
    """Return a trained dictionary unchanged but for its name, source and read site: the null
    dictionary that reads the weight-shuffled model."""
    return replace(
        dictionary,
        name=null_dictionary_name(dictionary.name, SHUFFLED),
        source=null_dictionary_source(dictionary.name, SHUFFLED),
        architecture=ON_SHUFFLED,
        reads=tuple(replace(site, model=SHUFFLED) for site in dictionary.reads),
        writes=tuple(replace(site, model=SHUFFLED) for site in dictionary.writes),
    )


def save(folder: Path, facts: NullFacts, weights: Mapping[str, Tensor]) -> None:
    """Write a null dictionary to a folder, which appears complete or not at all."""
    from safetensors.torch import save_file

    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), draft / NULL_WEIGHTS)
    (draft / NULL_FACTS).write_text(dump_json(asdict(facts), indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def load(
    source: DictionarySource,
    device: torch.device,
    dtype: torch.dtype,
    width: Callable[[str], int] | None,
) -> Dictionary:
    """Return the null dictionary in a folder that `save` wrote."""
    try:
        facts = NullFacts(**read_json(source.path / NULL_FACTS))  # type: ignore[arg-type]
    except TypeError as bad:
        raise InputError(f"{source.path / NULL_FACTS} is no null dictionary's ({bad}).") from None
    path = source.path / NULL_WEIGHTS
    stored = read_safetensors(path)
    check_dictionary_finite(stored, str(path))
    kept = move_tensors(
        {name: take_tensor(stored, path, name) for name in ("directions", "mean", "threshold")},
        device,
        dtype,
    )
    directions = kept["directions"]
    coder = AffineCoder(
        W_enc=directions.T.contiguous(),
        b_enc=-kept["threshold"],
        W_dec=directions,
        b_dec=kept["mean"],
        rule=ThresholdRule(),
        b_in=kept["mean"],
    )
    reads, writes = single_sites(facts.hook_name, facts.hook_name, coder)
    return Dictionary(
        name=null_dictionary_name(facts.of, facts.kind),
        reads=reads,
        writes=writes,
        architecture=f"null-{facts.kind}",
        source=null_dictionary_source(facts.of, facts.kind),
        weights_hash=weights_hash(stored),
        coder=coder,
        metadata=facts.metadata,
    )
