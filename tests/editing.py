"""Dictionaries for the tiny models, and edits of theirs."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from backend.dictionaries import load
from backend.dictionaries.base import Dictionary
from backend.interventions.records import ConceptPosterior, Edit, EditBasis
from feature_store.records import FeatureId
from tests.dictionaries import CPU, saved
from tests.models import token_batch

POST, MID = "blocks.1.hook_resid_post", "blocks.1.hook_resid_mid"
FORMS: dict[str, tuple[str, dict]] = {
    "relu": ("standard", {"metadata": {"hook_name": POST}}),
    "topk": ("topk", {"metadata": {"hook_name": POST}}),
    "late": ("jumprelu", {"metadata": {"hook_name": "blocks.2.hook_resid_post"}}),
    "early": ("standard", {"metadata": {"hook_name": "blocks.0.hook_resid_post"}}),
    "enters": ("standard", {"metadata": {"hook_name": "blocks.2.hook_resid_pre"}}),
    "middle": ("standard", {"metadata": {"hook_name": MID}}),
    "normed": (
        "standard",
        {"normalize_activations": "layer_norm", "metadata": {"hook_name": POST}},
    ),
    "heads": (
        "standard",
        {"reshape_activations": "hook_z", "metadata": {"hook_name": "blocks.1.attn.hook_z"}},
    ),
    "mlp": (
        "skip_transcoder",
        {
            "d_out": 16,
            "metadata": {
                "hook_name": "blocks.1.ln2.hook_normalized",
                "hook_name_out": "blocks.1.hook_mlp_out",
            },
        },
    ),
    "sequence": ("temporal", {"metadata": {"hook_name": POST}}),
}


@cache
def dictionaries(d: int = 16) -> dict[str, Dictionary]:
    """One of each form, by name; `heads` has the width of the tiny Llama's heads."""
    folder = Path(mkdtemp())
    made = {}
    for seed, (name, (architecture, fields)) in enumerate(FORMS.items()):
        path = saved(folder / name, architecture, seed, **{"d_in": d, **fields})
        made[name] = load(str(path), placement=CPU, name=name)
    return made


def edit(mode: str, *features: str, strength: float = 2.0, **fields) -> Edit:
    """An edit that brings whatever its mode needs."""
    n = len(features)
    basis = {
        "add_max": EditBasis(values=tuple(1.5 + i for i in range(n))),
        "mean": EditBasis(values=tuple(0.5 + i for i in range(n))),
        "resample": EditBasis(slots=tuple(tuple(0.1 * i for i in range(40)) for _ in range(n))),
        "attenuate": EditBasis(
            posterior=(ConceptPosterior(0.3, 0.6, 1.2, 0.5, 0.2, 0.6, 0.9),) * n
        ),
    }
    parsed = tuple(map(FeatureId.parse, features))
    return Edit(mode, parsed, strength, **{"basis": basis.get(mode, EditBasis()), **fields})


def text(n: int = 12, seed: int = 0) -> list[int]:
    """Ordinary tokens behind a BOS."""
    return token_batch(1, n, seed).tolist()[0]
