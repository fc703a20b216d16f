"""Visitors do not read where things lie on the owner's machine; the owner does."""

from pathlib import Path

import pytest

from app import session
from feature_store.jobs import Jobs
from feature_store.private_paths import hide_paths, private_paths
from feature_store.weight_locations import WeightLocations
from tests.pages import opened
from tests.stores import make_store


def test_the_longest_path_is_hidden_first_and_the_rest_of_it_stays() -> None:
    paths = private_paths("/alps/lab/store", "/alps/lab", "/alps", "/")
    said = hide_paths("/alps/lab/store/jobs/a, /alps/lab/sae, /alps, and '/alps/x'", paths)
    assert said == "store/jobs/a, lab/sae, /alps, and 'alps/x'"
    assert hide_paths("https://arxiv.org/alps/x", paths) == "https://arxiv.org/alps/x"


@pytest.mark.parametrize("shared", [True, False])
def test_pages_name_folders_to_their_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """In sentences of errors, in the log of a job, and in what a job was asked."""
    store = make_store(tmp_path / "secret" / "store")
    monkeypatch.setenv("SAEFARI_STORE", str(store.path))
    monkeypatch.setenv("SAEFARI_SHARED", "1" if shared else "0")
    weights = tmp_path / "models" / "sae"
    WeightLocations(store.path / "places.json").remember({"hash": f"{weights}@blocks.0.hook_out"})
    job = Jobs(store.path).create("map", {"folder": str(store.path)}, "a map")
    (job.folder / "log.txt").write_text(f'File "{store.path}/x.py", {weights}, {Path.home()}/y\n')
    (Jobs(store.path).create("map", {}, "another").folder / "state.json").write_text("[")
    shown = everything(opened(session.JOBS, job=job.id))
    store.catalog.path.write_bytes(b"not a catalog")
    shown += everything(opened(session.FEATURES))
    assert "cannot be read" in shown and "not a catalog of Saefari" in shown
    assert "sae, " in shown and "state.json" in shown
    for path in (tmp_path, Path.home()):
        assert (f"{path}/" in shown) == (not shared)


def everything(test) -> str:
    """All texts of a page."""
    kinds = (test.markdown, test.caption, test.code, test.error, test.warning, test.text)
    return "\n".join(str(one.value) for kind in kinds for one in kind).replace("\\", "")
