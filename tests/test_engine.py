"""The live side: the same numbers as the encoders', for the weights that were harvested."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app import live
from backend import engine
from backend.dictionaries.dictionary_table import check_weights_unchanged
from backend.engine import LocalEngine, find_weight_location
from backend.harvest.run import make_spec_absolute
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.weight_locations import WeightLocations
from tests.dictionaries import CPU
from tests.harvests import Rig, harvest_on_disk
from tests.pages import engine_loaded

TEXT = "the cat ran to the park"


@pytest.fixture(scope="module")
def local(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def test_a_text_is_read_with_its_bos(local: LocalEngine) -> None:
    read = local.read(TEXT)
    assert read.token_ids[0] == local.bos
    assert read.counted == [False] + [True] * (len(read.token_ids) - 1)


def test_firing_is_what_the_encoder_gives(local: LocalEngine) -> None:
    read = local.read(TEXT)
    names = list(local.dictionaries)
    for name, found in local.compute_activations(read, names).items():
        one = local.dictionaries[name]
        acts = local.lm.activations(torch.tensor([read.token_ids]), [one.hook_name])
        dense = one.encode(acts[one.hook_name])[0]
        again = np.zeros(dense.shape, dtype=np.float32)
        again[found.position, found.feature] = found.value
        assert again == pytest.approx(dense.numpy(), abs=1e-5)


def test_one_features_activations_by_position(local: LocalEngine) -> None:
    found = local.compute_activations(local.read(TEXT), list(local.dictionaries)[:1])
    firing = next(iter(found.values()))
    feature = int(firing.feature[0])
    mine = firing.by_position(feature)
    assert len(mine) == int((firing.feature == feature).sum())
    assert mine[int(firing.position[0])] == pytest.approx(float(firing.value[0]))


def test_a_text_that_is_empty_or_too_long_is_refused(local: LocalEngine) -> None:
    with pytest.raises(InputError) as error:
        local.read("")
    assert str(error.value) == "There is no text to read: type some."
    with pytest.raises(InputError, match=f"reads at most {local.lm.n_ctx} at once. Shorten it."):
        local.read("cat " * (local.lm.n_ctx + 1))


def test_weights_that_are_elsewhere_or_changed_are_refused() -> None:
    with pytest.raises(InputError, match="does not know where the model tiny lies"):
        find_weight_location("00", "model tiny", {})
    with pytest.raises(InputError, match="The model tiny has changed on disk"):
        check_weights_unchanged("model tiny", "00", "11")


def test_a_harvest_remembers_where_its_weights_lie(harvested: Path) -> None:
    file = HarvestFile(harvested)
    known = WeightLocations(harvested.parents[1] / "places.json").read_all()
    hashes = {file.record.model_hash, *(d.weights_hash for d in file.dictionaries.values())}
    assert hashes == set(known)
    assert all(Path(known[d.weights_hash]).is_dir() for d in file.dictionaries.values())


def test_places_are_local_paths_made_absolute_and_names_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sae").mkdir()
    assert make_spec_absolute("sae") == str(tmp_path / "sae")
    assert make_spec_absolute("sae@blocks.0.hook_out") == f"{tmp_path / 'sae'}@blocks.0.hook_out"
    assert make_spec_absolute("gpt2-small-res-jb/blocks.8") == "gpt2-small-res-jb/blocks.8"


def test_places_keep_the_newest_and_survive_damage(tmp_path: Path) -> None:
    places = WeightLocations(tmp_path / "places.json")
    assert places.read_all() == {}
    places.remember({"a": "1", "b": "2"})
    places.remember({"b": "3"})
    assert (places.find("a"), places.find("b"), places.find("c")) == ("1", "3", None)
    places.path.write_text("{")
    with pytest.raises(InputError, match=r"places\.json cannot be read as JSON: .*harvest again"):
        places.read_all()
    places.remember({"d": "4"})
    assert places.read_all() == {"d": "4"}
    assert (tmp_path / "places.damaged").read_text() == "{"


def test_a_load_that_fails_is_told_and_tried_again(
    harvested: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEFARI_STORE", str(harvested.parents[1]))

    def fail(*_: object) -> LocalEngine:
        raise InputError("gone")

    monkeypatch.setattr(engine.LocalEngine, "load", fail)
    file = HarvestFile(harvested)
    for _ in range(2):
        assert engine_loaded(file) and live.at_hand(file) is None
        with pytest.raises(InputError, match="gone"):
            live.engine(file)


def test_equal_weights_at_two_hook_points_stay_two_dictionaries(tmp_path: Path) -> None:
    """Places are remembered by the weights' hash, which says nothing of where they are read."""
    hooks = {f"at{layer}": f"blocks.{layer}.hook_resid_post" for layer in (0, 1)}
    dictionaries = {name: {"metadata": {"hook_name": hook}} for name, hook in hooks.items()}
    path = harvest_on_disk(tmp_path, tokens=300, **dictionaries)
    file = HarvestFile(path)
    first, second = (file.dictionary(name).weights_hash for name in hooks)
    assert first == second
    here = LocalEngine.load(
        file, WeightLocations(tmp_path / "store" / "places.json").read_all(), CPU
    )
    loaded = {name: here.dictionaries[name].hook_name for name in hooks}
    assert loaded == hooks
