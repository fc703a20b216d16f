"""The house: which package may name which, what stays light, and how large anything may grow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.stores import make_store

ROOT = Path(__file__).resolve().parent.parent
HOUSE = {
    "app": {"app", "backend", "autointerp", "feature_store"},
    "backend": {"backend", "feature_store"},
    "autointerp": {"autointerp", "feature_store"},
    "feature_store": {"feature_store"},
}
"""Each package, and which of ours it may import."""
OURS = sorted(path for package in HOUSE for path in (ROOT / package).rglob("*.py"))
OTHERS = sorted(path for folder in ("benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))
WRITTEN = [*OURS, *OTHERS, *sorted((ROOT / "tests").glob("*.py"))]
HEAVY = ("torch", "transformers", "transformer_lens", "sae_lens")
LIGHT = (
    "app.cli, backend.corpus, backend.model.model_source_checks, backend.dictionaries, "
    "backend.harvest.harvest_plan"
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SUFFIXES = {".py", ".js", ".css", ".sql"}
LONGEST_FILE, LONGEST_FUNCTION = 500, 60


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path, *, late: bool = True) -> set[str]:
    """Full names of what a file imports; with `late`, inside functions too."""
    found: set[str] = set()
    for node in statements(tree(path), late=late):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide which package is meant"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def statements(node: ast.AST, *, late: bool = True) -> Iterator[ast.AST]:
    """Those inside `node`, at any depth; expressions, which hold none, are not looked into."""
    for block in ("body", "handlers", "cases", "orelse", "finalbody"):
        for one in getattr(node, block, ()):
            yield one
            if late or not isinstance(one, FUNCTIONS):
                yield from statements(one, late=late)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def who_names(package: str, *, late: bool = True) -> list[str]:
    """The files of the house that import a package."""
    return [name(p) for p in OURS if any(within(m, package) for m in imports(p, late=late))]


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("package", HOUSE)
def test_the_arrows(package: str) -> None:
    """No package names one that it may not, not even inside a function."""
    for other in HOUSE.keys() - HOUSE[package]:
        assert [path for path in who_names(other) if path.startswith(f"{package}/")] == []


def test_nobody_imports_the_application() -> None:
    """Not even the benchmarks: what they measure lies below it."""
    named = [name(p) for p in [*OURS, *OTHERS] if any(within(m, "app") for m in imports(p))]
    assert [path for path in named if not path.startswith("app/")] == []


def test_transformer_lens_is_named_where_the_model_is_loaded_and_kept_only() -> None:
    assert who_names("transformer_lens", late=False) == [
        "backend/model/language_model.py",
        "backend/model/model_loading.py",
    ]
    assert {str(Path(path).parent) for path in who_names("transformer_lens")} == {"backend/model"}


def test_sae_lens_is_named_by_dictionaries_and_the_demos_training_only() -> None:
    assert who_names("sae_lens", late=False) == []
    homes = {str(Path(path).parent) for path in who_names("sae_lens")}
    assert homes == {"backend/dictionaries", "backend/demo"}


@pytest.mark.parametrize(
    ("library", "home"),
    [("streamlit", "app/"), ("click", "app/"), ("rich", "app/"), ("torch", "backend/")],
)
def test_some_libraries_have_one_home(library: str, home: str) -> None:
    assert [path for path in who_names(library) if not path.startswith(home)] == []


def test_annotations_are_read_when_they_stand() -> None:
    """Shape checking reads them at import, so backend has no `from __future__`."""
    assert [path for path in who_names("__future__") if path.startswith("backend/")] == []


@pytest.mark.process
def test_light_modules_never_load_torch(tmp_path: Path) -> None:
    """Help, every reading command, and everything outside backend's heart, in one process."""
    store = make_store(tmp_path / "store").path
    modules = ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in light())
    code = f"""
import sys
import {LIGHT}, {modules}
for words in (["--help"], ["harvest", "--help"], ["list"], ["show", "resid/3"], ["prompt", "abs/3"],
              ["show", "resid/99"]):
    store = [] if words[-1] == "--help" else ["--store", {str(store)!r}]
    status = app.cli.main([*words[:1], *store, *words[1:]])
    assert status == 2 * (words[-1] == "resid/99"), words
loaded = sorted({{*{HEAVY!r}}} & sys.modules.keys())
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def light() -> list[Path]:
    """Modules that only read and show; page scripts are left out, for importing one draws it."""
    drawn = [ROOT / "app" / "main.py", *(ROOT / "app" / "views").glob("*.py")]
    backend = ROOT / "backend"
    return [p for p in OURS if backend not in p.parents and p not in drawn and p.stem != "__init__"]


def test_files_stay_small() -> None:
    folders = [*HOUSE, "tests", "benchmarks", "docs"]
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES]
    files = [path for path in files if "vendor" not in path.parts]
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {path: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_functions_stay_small() -> None:
    lengths = {
        f"{name(path)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in WRITTEN
        for node in statements(tree(path))
        if isinstance(node, FUNCTIONS)
    }
    assert {function: n for function, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_no_module_is_named_for_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [name(path) for path in WRITTEN if vague & {path.stem, path.parent.name}] == []


WRITERS = {
    "feature_store/atomic_file.py": "the one place",
    "backend/corpus/plan_writer.py": "a plan's folder is renamed when whole",
    "backend/corpus/token_file.py": "tokens on their way, read by nobody else",
    "backend/dictionaries/null_dictionaries.py": "its folder is renamed when whole",
    "backend/harvest/work_folder.py": "the process's number, for a sentence",
    "backend/demo/demo_report.py": "run by whoever makes the demo's weights",
    "backend/demo/tokenizer_trainer.py": "run by whoever makes the demo's weights",
    "feature_store/exchange/neuronpedia_export.py": "its folder is renamed when whole",
}


def test_files_are_written_in_one_place() -> None:
    """Whole or not at all; what appends to a log or journal of its own is another matter."""
    assert {name(path) for path in OURS if writes(tree(path))} == set(WRITERS)


def writes(module: ast.Module) -> bool:
    """Whether a module writes a file in place: write_text, write_bytes, or open for writing."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    named = [(getattr(c.func, "attr", getattr(c.func, "id", "")), c) for c in calls]
    opens = [
        a.value for n, c in named if n == "open" for a in c.args if isinstance(a, ast.Constant)
    ]
    in_place = any(isinstance(m, str) and len(m) <= 3 and set(m) & {"w", "x"} for m in opens)
    return in_place or any(n in ("write_text", "write_bytes") for n, _ in named)


JSON_HOMES = {
    "feature_store/strict_json.py": "the one place",
    "feature_store/sql_console_worker.py": "imports nothing of ours; reads sql_console.py's JSON",
    "autointerp/llm/reply_parser.py": "finds JSON inside a reply's prose, with the same strictness",
}


def test_json_is_written_and_read_in_one_place() -> None:
    """Python's json writes NaN and reads it, keys that occur twice, and halves of characters."""
    named = set(who_names("json")) | {
        name for lib in ("orjson", "ujson") for name in who_names(lib)
    }
    assert named == set(JSON_HOMES)


def test_what_commands_print_as_json_has_null_for_what_is_no_number() -> None:
    """`print_json` records it; a command that writes JSON itself would end in an error there."""
    writers = [
        path for path in who_names("feature_store.strict_json.dump_json") if "commands" in path
    ]
    assert writers == ["app/commands/demo.py", "app/commands/terminal.py"]
