"""Delphi import: read the explanations that delphi writes, a folder of files HOOK_latentN.txt, each
with one JSON string.

The configuration of the delphi run, in the folder above, names the model that wrote them.
"""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store.errors import InputError
from feature_store.exchange.dictionary_names import DictionaryNames
from feature_store.exchange.failed_explanations import FailureCounts
from feature_store.exchange.import_rows import (
    LARGEST_FEATURE,
    MAX_TEXT_LENGTH,
    ROW_SCHEMAS,
    ImportRows,
    check_feature_index,
    check_text,
)
from feature_store.storable_text import make_storable
from feature_store.strict_json import JsonError, dump_json, parse_json

FILE_NAME = re.compile(r"(?P<hook>.+)_latent(?P<index>[0-9]+)\.(?:txt|json)")


def list_explanation_files(folder: Path) -> list[Path]:
    """Return delphi's explanation files in a folder or its `explanations/`, by hook and latent
    number."""
    inner = folder / "explanations"
    found = [
        p for p in (inner if inner.is_dir() else folder).iterdir() if FILE_NAME.fullmatch(p.name)
    ]
    return sorted(found, key=lambda path: parse_file_name(path.name))


def parse_file_name(name: str) -> tuple[str, int]:
    """Return the hook and latent number in the name of a delphi file, HOOK_latentN.txt."""
    match = FILE_NAME.fullmatch(name)
    assert match is not None
    return match["hook"], int(match["index"])


def read_delphi_explanations(paths: list[Path], names: DictionaryNames) -> ImportRows:
    """Read all explanations in delphi's files as rows to import; `names` gives each hook's
    dictionary in this store.

    Raises InputError that names the file in which something is wrong.
    """
    rows: list[dict[str, Any]] = []
    failures, model = FailureCounts(), read_explainer_model(paths[0].parent)
    for path in paths:
        hook, index = parse_file_name(path.name)
        try:
            text = read_explanation_text(path)
            if failures.count_if_failed(text):
                continue
            if index > LARGEST_FEATURE:
                raise InputError(f"latent {index} is larger than any dictionary")
            dictionary = names.find(hook)
            check_feature_index(dictionary, index, names.sizes)
            check_text("text", text)
        except InputError as error:
            raise InputError(f"{path.name}: {error}. Nothing was imported.") from error
        provenance = dump_json({"source": "delphi", "hook": hook})
        rows.append(
            {
                "dictionary": dictionary,
                "feature": index,
                "text": text,
                "explainer": "delphi",
                "model": model,
                "author": "model",
                "provenance": provenance,
            }
        )
    left_out = (*failures.describe_failures(), *describe_left_out_scores(paths[0].parent))
    return ImportRows(
        "explanations", pa.Table.from_pylist(rows, ROW_SCHEMAS["explanations"]), left_out
    )


def describe_left_out_scores(folder: Path) -> list[str]:
    """Return sentences about the scores of a delphi run, by scorer, which are not imported."""
    found = []
    for scores in {folder / "scores", folder.parent / "scores"}:
        scorers = sorted(one for one in scores.glob("*/") if one.is_dir())
        named = [
            (one.name, sum(FILE_NAME.fullmatch(p.name) is not None for p in one.iterdir()))
            for one in scorers
        ]
        direct = sum(FILE_NAME.fullmatch(p.name) is not None for p in scores.glob("*"))
        named += [("scores", direct)] if direct else []
        found += [
            f"{n} scores by delphi's {name} (of its own windows; `saefari score` measures them on "
            "those of this harvest)"
            for name, n in named
            if n
        ]
    return found


def read_explanation_text(path: Path) -> str:
    """Read the explanation in one delphi file; empty if delphi's explainer found none."""
    try:
        found = parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})") from error
    except JsonError as error:
        raise InputError(f"it is not JSON ({error.reason})") from error
    if isinstance(found, dict):
        found = found.get("explanation")
    if not isinstance(found, str):
        raise InputError("it holds no text")
    return make_storable(found).strip()


def read_explainer_model(folder: Path) -> str:
    """Read the name of the explaining model from a delphi run's configuration; empty if there is
    none."""
    for path in (folder / "run_config.json", folder.parent / "run_config.json"):
        if path.is_file():
            try:
                config = parse_json(path.read_bytes(), nonfinite="keep")
            except (JsonError, OSError):
                return ""
            model = config.get("explainer_model") if isinstance(config, dict) else None
            return model[:MAX_TEXT_LENGTH] if isinstance(model, str) else ""
    return ""
