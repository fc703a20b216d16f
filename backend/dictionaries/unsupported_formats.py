"""Refusal of dictionary formats that cannot be read safely or correctly: summed cross-layer
transcoders, and pickles.

This module does not import torch, so the error appears at once.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from feature_store.errors import InputError

SUMMED_NAME = re.compile(r"clt[-_ ]?as[-_ ]?per[-_ ]?layer", re.IGNORECASE)
"""Pattern in the names of releases in which the decoders of a cross-layer transcoder were summed
over layers."""
CROSS_LAYER_NAME = re.compile(r"clt|cross[-_ ]?layer[-_ ]?transcoders?", re.IGNORECASE)
CROSS_LAYER_ID = re.compile(r"(^|[/_-])\d+-clt([/_-]|$)", re.IGNORECASE)
"""Neuronpedia's ID of one layer of a cross-layer transcoder: `gemma-2-2b/0-clt-hp`."""
KIND_KEYS = ("architecture", "model_kind", "sae_type", "kind", "type", "dict_class")
SUMMING_CONVERSIONS = frozenset({"mntss_clt_layer_transcoder"})
"""sae-lens loaders that sum the decoders of a cross-layer transcoder over the layers that they
write."""

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".pkl.gz", ".joblib")
LAYOUT_SIGNS = {
    "hyperparams.json": "Llama Scope's own layout",
    "params.safetensors": "Gemma Scope 2's own layout",
}
"""File name that identifies a published layout which can be loaded only through sae-lens' list."""


def refuse_summed_decoders(spec: str, metadata: Mapping[str, object] | None = None) -> None:
    """Raise InputError where a name or a file's metadata identifies a cross-layer transcoder with
    summed decoders.

    sae-lens loads one layer of such a transcoder by summing its decoders over all layers that they
    write. The activations are right, but the summed decoder belongs to no layer.
    """
    if SUMMED_NAME.search(spec) or any(
        _is_cross_layer(key, text) for key, text in _config_texts(metadata or {})
    ):
        raise InputError(
            f"{spec} is a cross-layer transcoder (CLT), whose features write to several layers. "
            "Read as a transcoder of one layer, with its decoders summed, it would have a wrong "
            "reconstruction, logit lens, steering and circuits, so it is refused until "
            "cross-layer transcoders can be read. Take a release of per-layer transcoders."
        )


def _is_cross_layer(key: str, text: str) -> bool:
    """Return whether a metadata entry says that the dictionary is a cross-layer transcoder."""
    return (
        SUMMED_NAME.search(text) is not None
        or (key in KIND_KEYS and CROSS_LAYER_NAME.fullmatch(text) is not None)
        or (key in ("neuronpedia_id", "neuronpedia") and CROSS_LAYER_ID.search(text) is not None)
        or (key == "path" and any(CROSS_LAYER_NAME.fullmatch(part) for part in text.split("/")))
    )


def _config_texts(content: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield each text in a configuration, including nested ones, with its key."""
    for key, value in content.items():
        if isinstance(value, str):
            yield str(key), value
        elif isinstance(value, Mapping):
            yield from _config_texts(value)


def describe_unreadable(place: Path) -> str | None:
    """Return a sentence for a file or folder whose format is known and not supported; None for
    others."""
    if place.is_file():
        return _describe_pickle(place) if _is_pickle(place) else None
    names = sorted(path.name for path in place.iterdir() if path.is_file())
    if "config.yaml" in names and any(name.startswith("W_enc_") for name in names):
        return (
            f"{place} holds a cross-layer transcoder (CLT) in circuit-tracer's layout, whose "
            "features write to several layers: that is not read yet."
        )
    for name, layout in LAYOUT_SIGNS.items():
        if name in names:
            return (
                f"{place} holds {name}, {layout}, which is not read from a folder: name it as "
                "RELEASE/ID from sae-lens' list, or save it with sae-lens' save_model."
            )
    pickled = [name for name in names if _is_pickle(Path(name))]
    return _describe_pickle(place / pickled[0]) if pickled else None


def _is_pickle(path: Path) -> bool:
    """Return whether a file's suffix is that of a pickle."""
    return path.name.lower().endswith(PICKLE_SUFFIXES)


def _describe_pickle(path: Path) -> str:
    """Return the sentence that refuses a pickle file."""
    return (
        f"{path} is a pickle, or may hold one: opening it can run code, so it is not opened. "
        "Save its tensors with safetensors, in one of the layouts that are read."
    )
