"""Null dictionaries: untrained directions with thresholds that make them fire as often as an SAE.

f = relu((x − mean) · direction − threshold), and one unit of f adds one direction. The thresholds
are set on a sample of tokens so that feature i fires on as many of them as wanted. What a score is
worth beyond such features is what training gave (Heap et al., arXiv 2501.17727).
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
from backend.dictionaries.base import Dictionary
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
COLUMNS = 256
"""Features whose projections are sorted at a time."""
ROUNDING = 4e-6
"""Of the range of values: equal values that come from different batches differ by less."""
NullBuilder = Callable[[Float[Tensor, "n d"], Int[Tensor, "m"], int], dict[str, Tensor]]
"""Activations, wanted firings of the dictionary's features among them, seed → the tensors."""


@dataclass(frozen=True)
class NullFacts:
    """What stands beside the tensors."""

    kind: str
    of: str
    """The dictionary that it stands against."""
    hook_name: str
    tokens: int
    """Tokens of the sample that set the thresholds."""
    metadata: Mapping[str, object]
    """`prepend_bos` and the processing, as the dictionary has them."""


def draw_random_null(
    x: Float[Tensor, "n d"], counts: Int[Tensor, "m"], seed: int
) -> dict[str, Tensor]:
    """As many directions, uniform on the sphere; feature i fires as often as the SAE's i."""
    dice = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(counts), x.shape[1], generator=dice, dtype=torch.float64)
    return build_null_tensors(x, drawn / drawn.norm(dim=1, keepdim=True), counts)


def build_pca_null(
    x: Float[Tensor, "n d"], counts: Int[Tensor, "m"], seed: int
) -> dict[str, Tensor]:
    """All components, the one of most variance first, each as two features: 2i up, 2i + 1 down."""
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
    """The coordinates at the hook point, each as two features: 2i above its mean, 2i + 1 below."""
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
    """Each direction, then its opposite."""
    return torch.stack([directions, -directions], 1).flatten(0, 1)


def spread_firing_counts(counts: Int[Tensor, "m"], order: Int[Tensor, "k"]) -> Int[Tensor, "k"]:
    """Quantiles of the live features' counts, the largest for the feature that `order` has first:
    the distribution of densities is the SAE's though the number of features is not."""
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
    """The dictionary, float32 on the CPU."""
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
    """For each column what exactly `counts` of its values exceed (fewer where values are equal):
    halfway to the next one, so that fresh tokens exceed it as often."""
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
    """A harvest's seed made this dictionary's, or this tensor's, own."""
    text = f"{seed}/{of}/{kind}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())


def name_shuffled_null(dictionary: Dictionary) -> Dictionary:
    """The very dictionary, by name and source the null one that reads a shuffled model."""
    return replace(
        dictionary,
        name=null_dictionary_name(dictionary.name, SHUFFLED),
        source=null_dictionary_source(dictionary.name, SHUFFLED),
        architecture=ON_SHUFFLED,
    )


def save(folder: Path, facts: NullFacts, weights: Mapping[str, Tensor]) -> None:
    """Write a null dictionary; there is a whole one or none."""
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
    """A folder that `save` wrote."""
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
    return Dictionary(
        name=null_dictionary_name(facts.of, facts.kind),
        hook_name=facts.hook_name,
        hook_out=facts.hook_name,
        architecture=f"null-{facts.kind}",
        source=null_dictionary_source(facts.of, facts.kind),
        weights_hash=weights_hash(stored),
        coder=AffineCoder(
            W_enc=directions.T.contiguous(),
            b_enc=-kept["threshold"],
            W_dec=directions,
            b_dec=kept["mean"],
            rule=ThresholdRule(),
            b_in=kept["mean"],
        ),
        metadata=facts.metadata,
    )
