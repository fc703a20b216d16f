"""The command line in processes of its own: what loads, what Ctrl-C leaves, what shards give."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.cli import main
from feature_store.store import Store
from tests.commands import World, make_world
from tests.harvests import assert_same, content

pytestmark = pytest.mark.process
STEPS = {"tokens": 12_000, "forward-batch": 64}
"""Two seconds of small steps: time enough to be interrupted."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n_texts=500)


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    assert main(world.harvest(store, **STEPS)) == 0
    return only(store)


def only(store: Path) -> dict[str, list[dict]]:
    """What the one harvest of a store holds, nothing being left undone."""
    opened = Store(store)
    (file,) = opened.harvests()
    assert not opened.unfinished() and not opened.problems()
    return content(file.path)


def test_mistakes_are_told_before_torch_loads(world: World, tmp_path: Path) -> None:
    """With a good model and one thing wrong: arguments, corpus, dictionary, store."""
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").touch()
    wrong = [
        {"tokens": 0},
        {"corpus": tmp_path / "bad.txt"},
        {"dictionary": tmp_path},
        {"store": tmp_path / "other"},
    ]
    words = [world.harvest(tmp_path / "store", **one) for one in wrong]
    check = ["check", "--model", str(world.model), "--dictionary", str(world.path / "top")]
    words.append([*check, "--corpus", str(tmp_path / "bad.txt")])
    code = (
        "import sys; from app.cli import main\n"
        f"assert [main(words) for words in {words!r}] == [2] * {len(words)}\n"
        "sys.exit(1 if {'torch', 'transformers', 'sae_lens'} & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(words)


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    world: World, undisturbed: dict, tmp_path: Path
) -> None:
    words = world.harvest(tmp_path / "store", **STEPS)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup … & ignores it
    )
    (tmp_path / "store" / "harvests").mkdir(parents=True)
    while not Store(tmp_path / "store").unfinished():
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), said
    rest = said[said.index("Stopped.") :]
    (begun,) = Store(tmp_path / "store").unfinished()
    assert [line for line in rest.splitlines() if line] == [
        f"Stopped. The results of harvest {begun.id} so far are saved: run the same command "
        "again to resume.",
        "saefari: stopped.",
    ]
    assert main(words) == 0
    assert_same(only(tmp_path / "store"), undisturbed)


@pytest.mark.parametrize("parts", [["--processes", "2"], ["--shard", "2/2", "--shard", "1/2"]])
def test_processes_and_shards_give_the_same_content(
    parts: list[str], world: World, undisturbed: dict, tmp_path: Path
) -> None:
    for option, value in zip(parts[::2], parts[1::2], strict=True):
        assert main(world.harvest(tmp_path / "store", option, value, **STEPS)) == 0
    assert_same(only(tmp_path / "store"), undisturbed)
