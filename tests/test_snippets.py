"""A kept run as Python: executed, it prints the very texts."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.snippets import as_python
from feature_store.errors import InputError
from feature_store.experiments import Experiment
from feature_store.store import Store
from tests.kept import filled, runs


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Store]:
    """A run from the command line, and the store that it is in; read only."""
    store = filled(tmp_path_factory.mktemp("kept"))
    return runs(store)[-1], Store(store)


def run(script: str) -> None:
    exec(compile(script, "snippet", "exec"), {"__name__": "__main__"})


def test_it_prints_the_same_texts(
    kept: tuple[Experiment, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, store = kept
    run(as_python(experiment, store.places.read_all(), store.path))
    rows = experiment.result["rows"]
    want = "".join(f"{name}: {row['end']['text']!r}\n" for name, row in rows.items())
    assert capsys.readouterr().out == want
    assert rows["default"]["tokens"] != rows["steered"]["tokens"]


def test_other_weights_are_refused(kept: tuple[Experiment, Store]) -> None:
    experiment, store = kept
    places = store.places.read_all()
    hashes = dict.fromkeys(experiment.dictionaries, "0" * 64)
    script = as_python(replace(experiment, dictionaries=hashes), places, store.path)
    script = script.replace(
        "'top': 'top'", repr({"top": places[experiment.dictionaries["top"]]})[1:-1]
    )
    with pytest.raises(InputError, match="not the weights of the run: the dictionary top"):
        run(script)
    script = as_python(
        replace(experiment, model_hash="0" * 64),
        {**places, "0" * 64: places[experiment.model_hash]},
        store.path,
    )
    with pytest.raises(InputError, match="not the weights of the run: the model"):
        run(script)


def test_texts_cannot_become_code(kept: tuple[Experiment, Store]) -> None:
    experiment, store = kept
    nasty = "\"\"\"\n'''; raise SystemExit\\ {id} \ud800"
    changed = replace(experiment, model=nasty, request={**experiment.request, "prompt": nasty})
    script = as_python(changed, {}, Path("s"))
    scope: dict = {}
    before = script.split("engine = ")[0]
    exec(compile(before, "snippet", "exec"), scope)
    assert scope["REQUEST"]["prompt"] == nasty and scope["MODEL"] == nasty


def test_a_kind_without_a_script_is_said(kept: tuple[Experiment, Store]) -> None:
    with pytest.raises(InputError, match="circuit has no script"):
        as_python(replace(kept[0], kind="circuit"), {}, Path("s"))
