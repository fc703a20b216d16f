"""Two harvests of two models in one process: every visitor gets numbers of the right model."""

import threading
import time
import weakref

import numpy as np
import pytest
import torch

from app import live, model_cache, session
from backend.engine import LocalEngine
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from feature_store.harvest_reader import HarvestFile
from feature_store.store import Store
from tests.two_models import BOTH, store_of_two_models

TEXT = "the cat ran to the park"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of_two_models(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def expected(two: Store) -> list[np.ndarray]:
    """What each harvest's model says of a text."""
    places, placement = two.places.read_all(), choose_placement()
    found = [_read(LocalEngine.load(file, places, placement)) for file in two.harvests()]
    assert not np.array_equal(found[0], found[1])
    return found


@pytest.fixture
def one_fits(
    two: Store, expected: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> "list[weakref.ref[torch.Tensor]]":
    """Room for one of the models; gives a weight of each model that is loaded."""
    loaded: list[weakref.ref[torch.Tensor]] = []
    load = LanguageModel.load

    def watched(*given, **options):
        assert [weight for ref in loaded if (weight := ref()) is not None] == []  # it is gone
        lm = load(*given, **options)
        loaded.append(weakref.ref(lm.bare.get_input_embeddings().weight))
        return lm

    monkeypatch.setenv(session.STORE, str(two.path))
    monkeypatch.setattr(LanguageModel, "load", watched)
    monkeypatch.setattr(live, "_budget", lambda: BOTH)
    for name, value in (("SHORTEST_TURN_S", 0.02), ("POLL_S", 0.005)):
        monkeypatch.setattr(model_cache, name, value)
    live.models.clear()
    return loaded


def _read(engine: LocalEngine) -> np.ndarray:
    found = engine.compute_activations(engine.read(TEXT), ["resid"])["resid"]
    return np.stack([found.position, found.feature, found.value])


def test_visitors_of_two_harvests_take_turns_and_read_their_own_models(
    two: Store, expected: list[np.ndarray], one_fits: "list[weakref.ref[torch.Tensor]]"
) -> None:
    files = two.harvests()
    wrong: list[object] = []

    def visit(file: HarvestFile, wanted: np.ndarray) -> None:
        for _ in range(3):
            until = time.monotonic() + 60
            try:
                while (engine := live.ask(file)) is None and time.monotonic() < until:
                    time.sleep(0.01)
                if engine is None or not np.array_equal(_read(engine), wanted):
                    wrong.append((file.record.id, engine))
            except Exception as error:
                wrong.append(repr(error))
            engine = None

    threads = [
        threading.Thread(target=visit, args=pair)
        for pair in zip([*files, *files], [*expected, *expected], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)
    assert len(one_fits) >= 2 and len(live.models().kept()) == 1


def test_a_visit_keeps_its_engine_and_gives_it_back(
    two: Store, one_fits: "list[weakref.ref[torch.Tensor]]"
) -> None:
    first, second = two.harvests()
    with live.visit():
        while (engine := live.ask(first)) is None:
            time.sleep(0.01)
        assert live.ask(first) is engine
        del engine
        assert live.ask(second) is None
        time.sleep(0.2)
        assert list(live.models().kept()) == [first.record.model_hash]
    while live.ask(second) is None:
        time.sleep(0.01)
    assert list(live.models().kept()) == [second.record.model_hash]


def test_two_harvests_of_one_model_share_it(
    two: Store, one_fits: "list[weakref.ref[torch.Tensor]]"
) -> None:
    file = two.harvests()[0]
    other = HarvestFile(file.path)
    object.__setattr__(other.record, "id", "another")
    with live.visit():
        while (engine := live.ask(file)) is None:
            time.sleep(0.01)
        again = live.ask(other)
        assert again is not None and again is not engine and again.lm is engine.lm
    assert len(one_fits) == 1
