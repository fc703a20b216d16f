"""From a request to a harvest: what is loaded, and what is refused before any token is read."""

import json
from pathlib import Path

import pytest

from backend.corpus import SequencePlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.harvest.window_grid import draw_silent_windows, lay_window_grid
from feature_store.errors import InputError
from tests import models
from tests.dictionaries import CPU, saved
from tests.harvests import PLAN, Rig, content, published


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("model") / "tiny-model")


def run(model: Path, rig: Rig, store: Path, *dictionaries: str) -> HarvestRun:
    harvest = HarvestRun(
        HarvestRequest(str(model), list(dictionaries), [str(rig.corpus)], store, PLAN, CPU)
    )
    list(harvest.run())
    return harvest


def test_a_request_is_all_that_is_needed(model: Path, rig: Rig, tmp_path: Path) -> None:
    found = content(published(run(model, rig, tmp_path / "store", *rig.folders[:2])))
    (record,) = found["harvest"]
    assert (record["model"], record["corpus"]) == ("tiny-model", "text.jsonl")
    assert [row["dictionary"] for row in found["dictionary"]] == ["top", "abs"]
    text = json.dumps([found["harvest"], found["dictionary"]], default=str)
    assert str(tmp_path) not in text and str(rig.corpus.parent) not in text


def test_two_dictionaries_of_one_name(model: Path, rig: Rig, tmp_path: Path) -> None:
    folder = rig.folders[0].partition("=")[2]
    with pytest.raises(InputError) as error:
        run(model, rig, tmp_path, f"a={folder}", f"a={folder}")
    assert str(error.value) == (
        f"Two dictionaries are named 'a'. Give one another name: --dictionary NAME={folder}"
    )


def test_dictionaries_that_disagree_on_bos(model: Path, rig: Rig, tmp_path: Path) -> None:
    saved(tmp_path / "no", "topk", d_in=16, metadata={"prepend_bos": False})
    with pytest.raises(InputError) as error:
        run(model, rig, tmp_path / "store", rig.folders[0], f"no={tmp_path / 'no'}")
    assert str(error.value) == (
        "top was trained with a BOS token in front of each sequence and no without. "
        "Harvest them separately."
    )


def test_without_bos_all_positions_count(model: Path, rig: Rig, tmp_path: Path) -> None:
    saved(tmp_path / "no", "topk", d_in=16, metadata={"prepend_bos": False})
    found = content(published(run(model, rig, tmp_path / "store", f"no={tmp_path / 'no'}")))
    assert all(row["token_ids"][0] != rig.lm.bos for row in found["sequence"])
    assert all(row["bos_act"] is None for row in found["feature"])
    assert any(0 in row["positions"] for row in found["context"])


def test_a_dictionary_of_another_model(model: Path, rig: Rig, tmp_path: Path) -> None:
    saved(tmp_path / "wide", "topk", d_in=24)
    with pytest.raises(InputError, match="^wide reads vectors of 24 at .* has 16"):
        run(model, rig, tmp_path / "store", f"wide={tmp_path / 'wide'}")


@pytest.mark.parametrize("pack", [False, True])
def test_the_grid_covers_every_token_once(rig: Rig, tmp_path: Path, pack: bool) -> None:
    one = rig.start(tmp_path, pack=pack)
    for step in one.run():
        if step.stage == "self-check":
            break
    plan = SequencePlan.load(tmp_path / "work" / one.id / "plan")
    windows = lay_window_grid(plan, 8)
    for i in range(plan.n_sequences):
        mine = windows.sequence == i
        covered = [
            position
            for start, length in zip(windows.start[mine], windows.length[mine], strict=True)
            for position in range(start, start + length)
        ]
        assert covered == list(range(plan.length[i]))
    pool = draw_silent_windows(windows, 16, seed=3)
    assert len(set(pool.tolist())) == 16 and (windows.length[pool] == 8).all()
    assert windows.split[pool].sum() == 8
    assert set(pool) != set(draw_silent_windows(windows, 16, seed=4))
