"""Quick checks of a model's source (a local folder or a hub name), made before anything heavy is
imported.

Only the standard library is used here, so that a wrong path is reported within milliseconds.
"""

import math
import re
from pathlib import Path

from feature_store.errors import InputError
from feature_store.strict_json import parse_json

HUB_NAME_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""Pattern of a model's hub name: `name` or `org/name`, as the Hugging Face hub spells them."""

TOKENIZER_FILE_PATTERNS = (
    "tokenizer*",
    "*vocab*",
    "*.model",
    "*.tiktoken",
    "merges.txt",
    "tekken.json",
)
"""File name patterns of tokenizers; a model folder has at least one such file, whatever its kind of
tokenizer."""


def check_model_source(model: str) -> None:
    """Check that `model` is a usable local folder or may be a hub name; raise InputError otherwise.

    In a folder the config and the headers and lengths of its safetensors files are read. The hub is
    not asked.
    """
    folder = Path(model)
    if folder.is_dir():
        _check_folder(folder)
    elif folder.is_file():
        raise InputError(
            f"{model!r} is a file. A model is a Hugging Face folder with config.json and "
            "*.safetensors, or a hub name such as 'gpt2'."
        )
    elif not HUB_NAME_PATTERN.fullmatch(model):
        raise InputError(
            f"No model at {model!r}: there is no such folder, and it is not a hub name "
            "such as 'gpt2' or 'EleutherAI/pythia-70m'."
        )


def check_safetensors_file(path: Path) -> None:
    """Raise InputError unless a safetensors file's header is readable and matches the length of the
    file.

    Format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _broken_file_error(path, "its header is cut off")
        try:
            header = parse_json(file.read(length))
            ends = [entry["data_offsets"][1] for k, entry in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise _broken_file_error(path, "its header is not readable") from None
    missing = 8 + length + max(ends, default=0) - size
    if missing > 0:
        raise _broken_file_error(path, f"{missing} bytes are missing at its end")


def _broken_file_error(path: Path, problem: str) -> InputError:
    return InputError(
        f"{path.parent.name}/{path.name} is not a complete safetensors file: {problem}. "
        "Copy or download it again."
    )


def expected_weight_bytes(model: str, itemsize: int = 4) -> int:
    """Return the bytes that a local model's weights take in memory, from the headers of its
    safetensors files.

    Return 0 where that is unknown (a hub name, no safetensors, a damaged file).
    """
    numbers = 0
    for path in list_weight_files(Path(model)) if model and Path(model).is_dir() else []:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = parse_json(file.read(min(length, path.stat().st_size)))
            header.pop("__metadata__", None)
            numbers += sum(math.prod(entry["shape"]) for entry in header.values())
        except (OSError, ValueError, AttributeError, KeyError, TypeError, MemoryError):
            return 0
    return numbers * itemsize


def list_weight_files(folder: Path) -> list[Path]:
    """List a model folder's safetensors files in name order."""
    return sorted(folder.glob("*.safetensors"))


def _check_folder(folder: Path) -> None:
    _check_config(folder)
    _check_index(folder)
    files = list_weight_files(folder)
    if not files:
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        if pickles:
            raise InputError(
                f"The folder {folder.name!r} keeps its weights in {pickles[0]}, a pickle: opening "
                "one can run code, so it is not opened. Save the model with save_pretrained, "
                "which writes *.safetensors."
            )
        raise InputError(
            f"The folder {folder.name!r} has no weights: expected *.safetensors next to "
            "config.json."
        )
    for path in files:
        check_safetensors_file(path)
    if not any(found for pattern in TOKENIZER_FILE_PATTERNS for found in folder.glob(pattern)):
        raise InputError(missing_tokenizer_message(folder))


def missing_tokenizer_message(folder: Path) -> str:
    """Return the error message for a model folder without a tokenizer."""
    return (
        f"The folder {folder.name!r} has no tokenizer: expected tokenizer.json (or the files of an "
        "older one, such as tokenizer.model, or vocab.json with merges.txt) next to config.json. "
        "Save the model's tokenizer there with tokenizer.save_pretrained."
    )


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"The folder {folder.name!r} is not a model: it has no config.json. "
            "Give a folder written by save_pretrained, or a hub name."
        )
    try:
        config = parse_json(path.read_bytes(), nonfinite="keep")  # Mamba-2 has Infinity there
    except ValueError as bad:
        raise InputError(f"{folder.name}/config.json is not readable JSON: {bad}.") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(
            f"{folder.name}/config.json names no model_type, so it is not a Hugging Face model."
        )


def _check_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        names = set(parse_json(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as bad:
        raise InputError(f"{folder.name}/{index.name} is not readable: {bad}.") from None
    absent = sorted(name for name in names if not (folder / name).is_file())
    if absent:
        raise InputError(
            f"The folder {folder.name!r} lacks {len(absent)} of its {len(names)} weight files, "
            f"such as {absent[0]}. Copy or download them."
        )
