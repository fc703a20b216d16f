"""Maps: neighbours are exact, the same plan gives the same picture, clusters are those one sees."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.features import feature_map
from feature_store.errors import InputError
from feature_store.feature_maps import FeatureMap, FeatureMapPlan, FeatureMaps
from feature_store.store import Store
from tests.maps import make_mapped
from tests.stores import D_SAE, DEAD

USUAL = FeatureMapPlan()


def quiet(done: int, total: int, note: str) -> None:
    """Nobody is told."""


def enough(done: int, total: int, note: str) -> None:
    """Ends the work in the middle of the layout."""
    if note == "layout" and done > 0:
        raise RuntimeError("enough")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_mapped(tmp_path_factory.mktemp("atlas") / "store")


@pytest.fixture(scope="module")
def made(store: Store) -> FeatureMap:
    return drawn(store)


def drawn(
    store: Store, plan: FeatureMapPlan = USUAL, tell: feature_map.MapProgressCallback = quiet
) -> FeatureMap:
    return feature_map.compute_feature_map(
        store.harvest(), "resid", store.places.read_all(), plan, tell
    )


@pytest.mark.parametrize("tile", [1 << 25, 600, 1])
def test_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(feature_map, "COSINES_PER_TILE", tile)
    units = torch.nn.functional.normalize(torch.randn(90, 7), dim=1)
    units[5] = units[6]  # copies: each is its own first neighbour all the same
    indices, distances = feature_map.find_nearest_directions(units, 4, quiet)
    assert np.array_equal(indices[:, 0], np.arange(90)) and not distances[:, 0].any()
    everything = (1 - units @ units.T).clamp(0).fill_diagonal_(-1).sort(dim=1)
    np.testing.assert_allclose(distances[:, 1:], everything.values[:, 1:4], atol=1e-6)
    assert indices[5, 1] == 6


def test_the_same_plan_gives_the_same_map(store: Store, made: FeatureMap) -> None:
    again = drawn(store)
    assert np.array_equal(made.xy, again.xy) and np.array_equal(made.cluster, again.cluster)
    other = drawn(store, FeatureMapPlan(seed=1))
    assert not np.array_equal(made.xy, other.xy)


def test_torch_keeps_its_number_of_threads(store: Store) -> None:
    """UMAP sets it to that of the cores, for all that the process does afterwards."""
    before = torch.get_num_threads()
    drawn(store)
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="enough"):
        drawn(store, tell=enough)
    assert torch.get_num_threads() == before


def test_dead_features_are_left_out_and_counted(made: FeatureMap) -> None:
    assert made.feature.tolist() == [i for i in range(D_SAE) if i != DEAD]
    assert made.about.left_out == 1


def test_bundles_of_directions_stand_together(made: FeatureMap) -> None:
    """The nearest point in the plane is of the same bundle, nearly always."""
    gaps = ((made.xy[:, None] - made.xy[None]) ** 2).sum(axis=2)
    np.fill_diagonal(gaps, np.inf)
    same = made.feature % 4 == made.feature[gaps.argmin(axis=1)] % 4
    assert same.mean() > 0.9


def test_clusters_are_numbered_by_size() -> None:
    rng = np.random.default_rng(0)
    sizes = {(0, 0): 12, (9, 9): 40, (-9, 9): 25}
    xy = np.concatenate([rng.normal(at, 0.1, (n, 2)) for at, n in sizes.items()])
    found = feature_map.cluster_map_points(xy.astype(np.float32), 10)
    counts = np.bincount(found[found >= 0])
    assert len(counts) >= 3 and (np.diff(counts) <= 0).all()


def test_many_directions_are_reduced_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_map, "MAX_FULL_WIDTH_FEATURES", 50)
    monkeypatch.setattr(feature_map, "REDUCED_WIDTH", 3)
    units = torch.nn.functional.normalize(torch.randn(60, 3) @ torch.randn(3, 9), dim=1)
    few, kept = feature_map.project_on_main_axes(units)
    assert (few.shape, kept) == ((60, 3), 3)
    torch.testing.assert_close(few @ few.T, units @ units.T)  # of rank 3: nothing is lost
    assert feature_map.project_on_main_axes(units[:50])[1] is None


def test_progress_is_told_and_can_end_the_work(store: Store) -> None:
    stages: list[str] = []

    def tell(done: int, total: int, note: str) -> None:
        assert 0 <= done <= total
        stages.append(note)
        enough(done, total, note)

    with pytest.raises(RuntimeError, match="enough"):
        drawn(store, tell=tell)
    wanted = ["reading the decoder", "nearest neighbours", "starting UMAP", "layout"]
    assert list(dict.fromkeys(stages)) == wanted


def test_what_cannot_be_mapped_says_why(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file, places = store.harvest(), store.places.read_all()
    wrong = {
        "does not know where": {},
        "a layer's neurons": dict.fromkeys(places, "identity:blocks.1.hook_resid_post"),
    }
    for sentence, known in wrong.items():
        with pytest.raises(InputError, match=sentence):
            feature_map.compute_feature_map(file, "resid", known, FeatureMapPlan(), quiet)
    monkeypatch.setattr(feature_map, "MIN_MAP_FEATURES", 100)
    with pytest.raises(InputError, match="39 features that fired.*needs 100"):
        drawn(store)


def test_a_map_is_stored_whole_and_read_as_it_was(made: FeatureMap, tmp_path: Path) -> None:
    maps = FeatureMaps(tmp_path)
    assert maps.find(made.about.harvest, "resid") is None
    path = maps.write(made)
    found = maps.find(made.about.harvest, "resid")
    assert found is not None and found.about == made.about
    for name in ("feature", "xy", "cluster"):
        assert np.array_equal(getattr(found, name), getattr(made, name))
    assert [p.name for p in path.parent.iterdir()] == ["resid.parquet"]
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a feature map, or is damaged"):
        maps.find(made.about.harvest, "resid")


def test_any_name_of_a_dictionary_is_one_file(tmp_path: Path) -> None:
    maps = FeatureMaps(tmp_path)
    names = ["gpt2-small/8-res-jb", "../up", "a b", "a%20b", "a+b"]
    paths = {maps.file_path("h", name) for name in names}
    assert len(paths) == len(names) and {path.parent for path in paths} == {tmp_path / "maps" / "h"}
