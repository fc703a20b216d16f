"""sae-lens' list of published dictionaries (pretrained_saes.yaml), read without importing sae-lens.

The file has 43,000 lines and takes seconds to parse, so only the block of one release is parsed.
"""

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from backend.dictionaries.unsupported_formats import SUMMING_CONVERSIONS, refuse_summed_decoders
from feature_store.errors import InputError, suggest_near_miss


@cache
def _blocks() -> dict[str, str]:
    """Return the YAML text of each release in sae-lens' list of published SAEs, by the release's
    name; empty where sae-lens is not installed."""
    spec = find_spec("sae_lens")  # finds the package without running it
    if spec is None or not spec.submodule_search_locations:
        return {}
    text = Path(spec.submodule_search_locations[0], "pretrained_saes.yaml").read_text("utf-8")
    heads = list(re.finditer(r"^([^\s#][^\n]*?):[ \t]*$", text, re.MULTILINE))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head[1].strip("'\""): text[head.start() : end]
        for head, end in zip(heads, ends, strict=True)
    }


def list_releases() -> list[str]:
    """Return the names of all releases in sae-lens' list of published SAEs."""
    return list(_blocks())


@cache
def release_entries(release: str) -> dict[str, dict[str, object]]:
    """Return the entries of a release in sae-lens' list of published SAEs, by dictionary ID: each
    with its path, and l0 and variance_explained where known."""
    (content,) = yaml.safe_load(_blocks()[release]).values()
    return {str(entry["id"]): entry for entry in content["saes"]}


def split_release(place: str) -> tuple[str, str]:
    """Split `RELEASE/ID` of sae-lens' list, or a hub repository `OWNER/NAME/PATH`, into (release,
    id); InputError for an unknown name."""
    release, _, sae_id = place.partition("/")
    if release in _blocks():
        ids = release_entries(release)
        if sae_id in ids:
            return release, sae_id
        raise InputError(
            f"Release {release!r} has no dictionary "
            f"{sae_id!r}.{suggest_near_miss(sae_id, list(ids))} "
            f"It has {len(ids)}, for example {', '.join(list(ids)[:5])}."
        )
    parts = place.split("/")
    close = difflib.get_close_matches(release, list_releases(), n=1, cutoff=0.75)
    if len(parts) < 3 or close:
        raise InputError(
            f"There is no folder {place!r}, and no release {release!r} in sae-lens' list."
            f"{suggest_near_miss(release, list_releases())} Write RELEASE/ID, or OWNER/NAME/PATH "
            f"for a "
            "repository on the Hugging Face hub."
        )
    return "/".join(parts[:2]), "/".join(parts[2:])


def refuse_summing_release(release: str, sae_id: str) -> None:
    """Raise InputError for a dictionary that sae-lens would read by summing the decoders of a
    cross-layer transcoder.

    The release's loader decides, or what the list says of the dictionary (Gemma Scope 2 keeps
    cross-layer transcoders under `clt/`), or the repository of such a release.
    """
    if release in _blocks():
        refuse_summed_decoders(f"{release}/{sae_id}", release_entries(release).get(sae_id, {}))
    for name, block in _blocks().items():
        loader = re.search(r"^  conversion_func: *(\S+)", block, re.MULTILINE)
        if loader is None or loader[1] not in SUMMING_CONVERSIONS:
            continue
        repository = re.search(r"^  repo_id: *(\S+)", block, re.MULTILINE)
        names = {name.lower(), *([repository[1].lower()] if repository else [])}
        if release.lower() in names:
            refuse_summed_decoders(name)


def published_figures(release: str, sae_id: str) -> dict[str, object]:
    """Return the l0 and variance_explained that sae-lens' list gives for a dictionary; empty where
    it gives none."""
    if release not in _blocks():
        return {}
    entry = release_entries(release).get(sae_id, {})
    return {key: entry[key] for key in ("l0", "variance_explained") if key in entry}
