"""Dictionary specifications, such as NAME=FOLDER@HOOK or RELEASE/ID: parsed and checked without
importing torch or sae-lens.

A mistake in a specification is therefore reported at once.
"""

import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from backend.dictionaries.module_hook_points import translate_hook
from backend.dictionaries.unsupported_formats import describe_unreadable, refuse_summed_decoders
from feature_store.errors import InputError
from feature_store.strict_json import parse_json

ACCEPTED_FORMS = (
    "a folder with cfg.json and sae_weights.safetensors (sae-lens), a folder with cfg.json and "
    "sae.safetensors (sparsify), a folder with ae.pt and config.json (dictionary_learning), "
    "a folder with params.npz (Gemma Scope), RELEASE/ID from sae-lens' list, "
    "identity:HOOK, or FILE.safetensors@HOOK"
)

SAELENS_WEIGHTS = "sae_weights.safetensors"
SPARSIFY_WEIGHTS = "sae.safetensors"
LEARNING_WEIGHTS = "ae.pt"
SCOPE_WEIGHTS = "params.npz"
NULL_WEIGHTS, NULL_FACTS = "null.safetensors", "null.json"
IGNORE = "?ignore="
DEEPEST = 4
"""Depth of subfolders in which dictionaries are looked for: `resid_post_layer_8/trainer_3`."""


@dataclass(frozen=True)
class DictionarySource:
    """A parsed dictionary specification: where the weights are, and the hook points that the user
    gave."""

    spec: str
    kind: str
    """Kind of source, a key of SOURCE_KINDS."""
    place: str
    """Path or RELEASE/ID of the weights; empty for `identity`."""
    hook: str | None = None
    hook_out: str | None = None
    ignored: tuple[str, ...] = ()
    """Model-loading keywords that the user asked to ignore (`?ignore=`)."""

    @property
    def path(self) -> Path:
        """Path of the dictionary's file or folder."""
        return Path(self.place)

    @property
    def default_name(self) -> str:
        """Name of the dictionary where the user gives none."""
        if self.kind == "hub":
            return self.place
        if self.kind == "identity":
            return f"identity:{self.hook}"
        return self.path.resolve().name.removesuffix(".safetensors")

    @property
    def public(self) -> str:
        """The dictionary specification without the path's parent folders, which can be stored and
        shown without revealing the user's folders."""
        hooks = ",".join(h for h in (self.hook, self.hook_out) if h)
        if self.kind == "identity":
            return f"identity:{hooks}"
        place = self.place if self.kind == "hub" else self.path.resolve().name
        ignored = f"{IGNORE}{','.join(self.ignored)}" if self.ignored else ""
        return (f"{place}@{hooks}" if hooks else place) + ignored


@dataclass(frozen=True)
class SourceKind:
    """Kind of dictionary source, such as a sae-lens folder: how it is recognised, checked and
    loaded."""

    sniff: Callable[[str], bool]
    check: Callable[[DictionarySource], None]
    """Function that raises InputError for mistakes that can be seen without loading."""
    module: str
    """Module with `load(source, device, dtype, width) -> Dictionary`, imported only to load."""


def parse_spec(text: str) -> tuple[str | None, str]:
    """Split `NAME=SPEC` or `SPEC` into (name or None, specification); InputError for a malformed
    name."""
    if "=" not in text.split(IGNORE)[0] or Path(text).exists():
        return None, text
    name, spec = text.split("=", 1)
    if not name or not spec or name.startswith((".", "~")) or Path(name).is_absolute():
        raise InputError(f"{text!r} is not NAME=SPECIFICATION: write for example layer4=my-sae.")
    return name, spec


def expand_folders(texts: Iterable[str]) -> list[str]:
    """Replace each `[NAME=]FOLDER` that contains several dictionaries by one `NAME=PATH` for each
    of them.

    sparsify and dictionary_learning save one folder per hook point. Such a dictionary is named by
    its path below the given folder, under NAME where one was given.
    """
    found: list[str] = []
    for text in texts:
        name, spec = parse_spec(text)
        bare, ignored = split_ignored(spec)
        inside = find_dictionaries(Path(bare).expanduser())
        if not inside:
            found.append(text)
            continue
        for path in inside:
            below = path.relative_to(Path(bare).expanduser()).as_posix()
            own = below if name is None else f"{name}/{below}"
            found.append(f"{own}={path}" + (f"{IGNORE}{','.join(ignored)}" if ignored else ""))
    return found


def find_dictionaries(folder: Path) -> list[Path]:
    """Return the dictionary folders below a folder that is not one itself, in order of their
    numbers (layer 2 before layer 10)."""
    if not folder.is_dir() or any(kind.sniff(str(folder)) for kind in SOURCE_KINDS.values()):
        return []
    found = {
        path.parent
        for depth in range(1, DEEPEST + 1)
        for weights in (SAELENS_WEIGHTS, SPARSIFY_WEIGHTS, LEARNING_WEIGHTS, SCOPE_WEIGHTS)
        for path in folder.glob("/".join(["*"] * depth + [weights]))
    }
    return sorted(found, key=lambda path: _number_sort_key(path.relative_to(folder).as_posix()))


def _number_sort_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which the numbers of a name sort as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def check_source(spec: str) -> DictionarySource:
    """Return the source that a specification names, after its files were checked; InputError for
    what is wrong with it."""
    source = read_source(spec)
    SOURCE_KINDS[source.kind].check(source)
    return source


def read_source(spec: str) -> DictionarySource:
    """Parse a specification and determine its kind of source."""
    if spec.startswith("identity:"):
        hook, hook_out = _parse_hooks(spec, spec.removeprefix("identity:"))
        return DictionarySource(spec, "identity", "", hook, hook_out)
    bare, ignored = split_ignored(spec)
    place, hook, hook_out = bare, None, None
    if "@" in bare and not Path(bare).expanduser().exists():
        place, after = bare.rsplit("@", 1)
        hook, hook_out = _parse_hooks(spec, after)
    place = str(Path(place).expanduser()) if place.startswith("~") else place
    refuse_summed_decoders(place, {"folder": _resolved_name(place)})
    for name, kind in SOURCE_KINDS.items():
        if kind.sniff(place):
            return DictionarySource(spec, name, place, hook, hook_out, ignored)
    if Path(place).exists():
        if unreadable := describe_unreadable(Path(place)):
            raise InputError(unreadable)
        if inside := find_dictionaries(Path(place)):
            raise InputError(
                f"{place} is not one dictionary: it holds {len(inside)}, such as {inside[0]}. "
                "Name one of them."
            )
        raise InputError(f"{place} is not a dictionary: what works is {ACCEPTED_FORMS}.")
    if place.count("/") == 0 or place.startswith((".", "/")):
        raise InputError(f"There is no dictionary at {place!r}: what works is {ACCEPTED_FORMS}.")
    return DictionarySource(spec, "hub", place, hook, hook_out, ignored)


def split_ignored(spec: str) -> tuple[str, tuple[str, ...]]:
    """Split `SPEC?ignore=KEY,KEY` into the specification and its keys; a path that exists is never
    split."""
    bare, mark, keys = spec.rpartition(IGNORE)
    if not mark or Path(spec).expanduser().exists():
        return spec, ()
    found = tuple(dict.fromkeys(key.strip() for key in keys.split(",") if key.strip()))
    if not found:
        raise InputError(
            f"{spec!r} names nothing to ignore: write for example {bare}?ignore=fold_ln."
        )
    return bare, found


def _resolved_name(place: str) -> str:
    """Return the last parts of a dictionary path after links are resolved; empty for a path that
    does not exist."""
    path = Path(place)
    return "/".join(path.resolve().parts[-DEEPEST:]) if path.exists() else ""


def _parse_hooks(spec: str, text: str) -> tuple[str, str | None]:
    """Return the hook points (read, written) after @ in TransformerLens' names; the second is None
    where only one is given."""
    hook, _, hook_out = text.partition(",")
    if not hook.strip():
        raise InputError(
            f"{spec!r} names no hook point: write for example blocks.3.hook_resid_post."
        )
    hook, hook_out = hook.strip(), hook_out.strip()
    if not hook_out:
        return translate_hook(hook), None
    if hook == hook_out:  # one module: a transcoder reads its input and writes its output
        return translate_hook(hook, reads_input=True), translate_hook(hook)
    return hook, hook_out


def _has_file(weights: str) -> Callable[[str], bool]:
    """Return a test for a folder that contains a weights file of this name."""
    return lambda place: (Path(place) / weights).is_file()


def read_json(path: Path) -> dict[str, object]:
    """Return the JSON object in a dictionary's config file; InputError that names the file for
    anything else."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"), nonfinite="keep")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: a dictionary's folder needs it.") from None
    except (ValueError, OSError) as bad:
        raise InputError(f"{path} cannot be read as JSON ({bad}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object.")
    return content


def check_safetensors(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file; InputError where the file is damaged.

    Format: the length of the header as 8 bytes (little endian), the header as JSON, then the
    tensors, whose offsets count from the end of the header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            header = file.read(length) if length <= size - 8 else b""
    except OSError as bad:
        raise InputError(f"{path} cannot be read: {bad.strerror}.") from None
    try:
        tensors = parse_json(header)
        tensors.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise InputError(f"{path} is not a safetensors file, or its start is damaged.") from None
    if size != 8 + length + end:
        raise InputError(
            f"{path} is damaged: it has {size:,} bytes but its header requires "
            f"{8 + length + end:,}: copy or download it again."
        )
    return list(tensors)


def _check_saelens(source: DictionarySource) -> None:
    """Check the config and weights file of a dictionary folder in sae-lens' format."""
    from backend.dictionaries.saelens_config import SaeLensConfig

    path = source.path / "cfg.json"
    content = read_json(path)
    refuse_summed_decoders(source.spec, content)
    SaeLensConfig.read(content, str(path))
    check_safetensors(source.path / SAELENS_WEIGHTS)


def _check_sparsify(source: DictionarySource) -> None:
    """Check the config and weights file of a sparsify folder."""
    from backend.dictionaries.sparsify_config import SparsifyConfig

    path = source.path / "cfg.json"
    content = read_json(path)
    refuse_summed_decoders(source.spec, content)
    SparsifyConfig.read(content, str(path))
    check_safetensors(source.path / SPARSIFY_WEIGHTS)


def _check_learning(source: DictionarySource) -> None:
    """Check the config and weights archive of a dictionary_learning folder."""
    from backend.dictionaries.dictionary_learning_config import TrainerConfig

    if (config := source.path / "config.json").exists():
        content = read_json(config)
        refuse_summed_decoders(source.spec, content)
        TrainerConfig.read_file(content, str(config))
    weights = source.path / LEARNING_WEIGHTS
    if not zipfile.is_zipfile(weights):  # the end of the archive holds its list of contents
        raise InputError(f"{weights} is damaged or not a file that torch.save wrote.")


def _check_scope(source: DictionarySource) -> None:
    """Check that a Gemma Scope folder holds a complete params.npz."""
    if not zipfile.is_zipfile(source.path / SCOPE_WEIGHTS):
        raise InputError(f"{source.path / SCOPE_WEIGHTS} is damaged or not a file of numpy's.")


def _check_matrix(source: DictionarySource) -> None:
    """Check a safetensors file of directions, and that the specification names its hook point."""
    check_safetensors(source.path)
    if source.hook is None:
        raise InputError(f"{source.spec} names no hook point: write {source.spec}@HOOK.")


def _check_null(source: DictionarySource) -> None:
    """Check the files of a null dictionary's folder."""
    read_json(source.path / NULL_FACTS)
    check_safetensors(source.path / NULL_WEIGHTS)


def _check_hub(source: DictionarySource) -> None:
    """Check that sae-lens' list of published SAEs has this RELEASE/ID, and refuse cross-layer
    transcoders whose decoders sae-lens would sum."""
    from backend.dictionaries.saelens_registry import refuse_summing_release, split_release

    refuse_summing_release(*split_release(source.place))


def _check_nothing(_: DictionarySource) -> None:
    """Check nothing: an identity dictionary, whose features are the neurons themselves, has no
    files."""


SOURCE_KINDS: dict[str, SourceKind] = {
    "identity": SourceKind(
        lambda _: False, _check_nothing, "backend.dictionaries.direction_dictionaries"
    ),
    "saelens": SourceKind(
        _has_file(SAELENS_WEIGHTS), _check_saelens, "backend.dictionaries.saelens"
    ),
    "sparsify": SourceKind(
        _has_file(SPARSIFY_WEIGHTS), _check_sparsify, "backend.dictionaries.sparsify"
    ),
    "dictionary_learning": SourceKind(
        _has_file(LEARNING_WEIGHTS), _check_learning, "backend.dictionaries.dictionary_learning"
    ),
    "gemma_scope": SourceKind(
        _has_file(SCOPE_WEIGHTS), _check_scope, "backend.dictionaries.gemma_scope"
    ),
    "null": SourceKind(
        _has_file(NULL_WEIGHTS), _check_null, "backend.dictionaries.null_dictionaries"
    ),
    "matrix": SourceKind(
        lambda place: re.search(r"\.safetensors$", place) is not None and Path(place).is_file(),
        _check_matrix,
        "backend.dictionaries.direction_dictionaries",
    ),
    "hub": SourceKind(lambda _: False, _check_hub, "backend.dictionaries.saelens"),
}
"""Kinds of dictionary sources, in the order in which a folder is tested; `identity` and `hub` are
recognised by the specification's form."""
