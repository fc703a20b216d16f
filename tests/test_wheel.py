"""A built wheel holds all that the installed application reads."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from backend.demo import DICTIONARIES, MODEL

ROOT = Path(__file__).resolve().parent.parent
DATA = [
    "app/components/*.css",
    "app/components/*.js",
    "app/vendor/*/*",
    "autointerp/prompts/*.txt",
    "backend/demo/*.txt",
    "feature_store/*.sql",
    "feature_store/migrations/*.sql",
]
"""What is read beside the code; at least one file each."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.process
@pytest.mark.parametrize("pattern", DATA)
def test_what_is_read_beside_the_code_is_in(wheel: zipfile.ZipFile, pattern: str) -> None:
    wanted = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
    assert wanted
    assert wanted - set(wheel.namelist()) == set()


@pytest.mark.process
@pytest.mark.parametrize("folder", [MODEL, *DICTIONARIES], ids=lambda folder: folder.name)
def test_the_demos_weights_are_in(wheel: zipfile.ZipFile, folder: Path) -> None:
    inside = folder.relative_to(ROOT).as_posix()
    weights = "model.safetensors" if folder == MODEL else "sae_weights.safetensors"
    config = "config.json" if folder == MODEL else "cfg.json"
    for name in (weights, config):
        assert wheel.read(f"{inside}/{name}") == (folder / name).read_bytes()


@pytest.mark.process
def test_every_module_and_nothing_else_is_in(wheel: zipfile.ZipFile) -> None:
    packages = ("app", "autointerp", "backend", "feature_store")
    modules = [path for name in packages for path in (ROOT / name).rglob("*.py")]
    code = {path.relative_to(ROOT).as_posix() for path in modules}
    names = set(wheel.namelist())
    assert code - names == set()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(packages)


@pytest.mark.process
def test_the_command_and_the_licence_are_in(wheel: zipfile.ZipFile) -> None:
    (points,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    assert "saefari = app.cli:main" in wheel.read(points).decode()
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())
