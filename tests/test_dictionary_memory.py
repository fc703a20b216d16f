"""Laws of dictionaries that are loaded when asked for, and kept by bytes."""

import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app import live
from backend import dictionaries as loaders
from backend import engine
from backend.dictionaries import dictionary_table
from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.dictionaries.dictionary_cache import DictionaryCache, dictionary_bytes
from backend.engine import LocalEngine
from backend.interventions.edit_plan import compile_edits
from backend.interventions.records import Edit
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.dictionaries import CPU, HOOK, saved
from tests.harvests import harvest_on_disk

TEXT = "the cat ran to the park"
LAYERS = 6


def _dictionary(d_sae: int) -> Dictionary:
    """`d_sae` × 36 bytes: encoder and decoder of width 4, a bias and a threshold less one bias."""
    W = torch.zeros(4, d_sae)
    coder = AffineCoder(W, torch.zeros(d_sae), W.T.contiguous(), torch.zeros(4), ThresholdRule())
    return Dictionary(
        str(d_sae), *single_sites(HOOK, HOOK, coder), "standard", "", str(d_sae), coder
    )


def test_bytes_are_those_of_the_storages() -> None:
    assert dictionary_bytes(_dictionary(10)) == 4 * (4 * 10 + 10 + 10 * 4 + 4)


@given(
    budget=st.integers(0, 8_000),
    asked=st.lists(st.integers(1, 6), max_size=30),
    held=st.sets(st.integers(1, 6)),
)
def test_the_least_recently_used_are_dropped_beyond_the_budget(
    budget: int, asked: list[int], held: set[int]
) -> None:
    cache, mine, loads, kept = DictionaryCache(budget), {}, 0, []
    sizes = {n: dictionary_bytes(_dictionary(10 * n)) for n in range(1, 7)}

    def load() -> Dictionary:
        nonlocal loads
        loads += 1
        return _dictionary(10 * number)

    for number in asked:
        before, there = loads, number in mine or number in kept
        found = cache.get(number, load)
        assert found.d_sae == 10 * number and mine.get(number, found) is found
        assert loads == before + (not there)
        if number in held:
            mine[number] = found
        kept = [*(n for n in kept if n != number), number]
        while sum(sizes[n] for n in kept) > budget and len(kept) > 1:
            kept.pop(0)
        assert cache.kept_bytes() == sum(sizes[n] for n in kept)
        del found


def test_threads_share_one_object_and_load_one_at_a_time() -> None:
    cache, inside, most, got = DictionaryCache(10**9), [], [], {}

    def load(number: int) -> Dictionary:
        inside.append(number)
        most.append(len(inside))
        found = _dictionary(number)
        inside.pop()
        return found

    def visit(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(1, 5, 50).tolist():
            found = cache.get(number, lambda number=number: load(number))
            assert got.setdefault(number, found) is found

    threads = [threading.Thread(target=visit, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(most) == 1 and len(most) == len(got) == 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A harvest of six dictionaries that lie on disk."""
    folder = tmp_path_factory.mktemp("layers")
    kinds = ["topk", "standard", "jumprelu", "gated", "topk", "standard"]
    harvest_on_disk(
        folder, tokens=600, **{f"d{n}": {"architecture": kind} for n, kind in enumerate(kinds)}
    )
    return Store(folder / "store")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[DictionaryCache]:
    """A budget of two dictionaries."""
    cache = DictionaryCache(2 * 6_000)
    monkeypatch.setattr(engine, "shared_dictionary_cache", lambda: cache)
    yield cache


def _engine(store: Store) -> LocalEngine:
    return LocalEngine.load(store.harvest(None), store.places.read_all(), CPU)


def test_what_all_dictionaries_read_does_not_depend_on_the_budget(
    store: Store, small: DictionaryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = _engine(store)
    names = list(tight.dictionaries)
    assert len(names) == LAYERS and small.kept_bytes() == 0  # names load nothing
    found = tight.compute_activations(tight.read(TEXT), names)
    assert 0 < small.kept_bytes() <= small.budget
    monkeypatch.setattr(engine, "shared_dictionary_cache", lambda: DictionaryCache(10**9))
    wide = _engine(store)
    for name, one in wide.compute_activations(wide.read(TEXT), names).items():
        for a, b in zip(vars(one).values(), vars(found[name]).values(), strict=True):
            assert np.array_equal(a, b)


def test_facts_that_the_harvest_knows_load_nothing(store: Store, small: DictionaryCache) -> None:
    table, file = _engine(store).dictionaries, store.harvest(None)
    for name in table:
        info = file.dictionary(name)
        assert table.read_hooks(name) == info.read_hooks
        assert table.weights_hash(name) == info.weights_hash
    size = table.unloaded_bytes(list(table))
    assert small.kept_bytes() == 0 and size > small.budget == table.budget
    one = table["d0"]
    assert (one.read_hooks, one.weights_hash) == (table.read_hooks("d0"), table.weights_hash("d0"))
    assert table.unloaded_bytes(list(table)) < size


def test_an_edit_holds_its_dictionaries_and_no_others(store: Store, small: DictionaryCache) -> None:
    here = _engine(store)
    edits = [Edit("add", (FeatureId("d0", 1),)), Edit("zero", (FeatureId("d3", 2),))]
    plan = compile_edits(here.lm, here.dictionaries, [edits], watch=(FeatureId("d5", 0),))
    assert set(plan.dictionaries) == {"d0", "d3", "d5"}
    here.compute_activations(here.read(TEXT), list(here.dictionaries))  # drives the others out
    assert all(plan.dictionaries[name] is here.dictionaries[name] for name in plan.dictionaries)


def test_one_dictionary_that_has_changed_is_refused_and_the_others_are_not(
    store: Store, small: DictionaryCache, tmp_path: Path
) -> None:
    here, file = _engine(store), store.harvest(None)
    places = dict(store.places.read_all())
    other = saved(tmp_path / "other", "topk", seed=5, d_in=16)
    places[file.dictionary("d4").weights_hash] = str(other)
    here = LocalEngine.load(file, places, CPU)
    with pytest.raises(InputError, match="dictionary d4 has changed on disk"):
        here.compute_activations(here.read(TEXT), ["d3", "d4"])
    assert here.dictionaries.loading == "" and here.compute_activations(here.read(TEXT), ["d3"])
    shutil.rmtree(other)
    with pytest.raises(InputError):
        _ = here.dictionaries["d4"]


def test_the_name_of_what_is_being_loaded_can_be_said(
    store: Store, small: DictionaryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, said = _engine(store), []
    load = loaders.load

    def watched(*given: object, **options: object) -> Dictionary:
        said.append(here.dictionaries.loading)
        return load(*given, **options)

    monkeypatch.setattr(dictionary_table.loaders, "load", watched)
    for name in ("d1", "d2", "d1"):
        _ = here.dictionaries[name]
    assert said == ["d1", "d2"] and here.dictionaries.loading == ""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what is mapped on Linux only")
def test_weights_are_mapped_from_their_files(tmp_path: Path) -> None:
    """A model and a dictionary in float32 cost no memory of their own until they are read."""
    from tests.models import save

    lm = LanguageModel.load(str(save(tmp_path / "model")), CPU)
    one = loaders.load(str(saved(tmp_path / "sae", "topk", d_in=16)), placement=CPU)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]

    def file_behind(tensor: torch.Tensor) -> str:
        at = tensor.untyped_storage().data_ptr()
        for span, *_, name in maps:
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= at < high:
                return Path(name).name
        return ""

    assert {file_behind(one.coder.W_dec), file_behind(one.W_enc)} == {"sae_weights.safetensors"}
    assert file_behind(lm.bare.model.embed_tokens.weight) == "model.safetensors"


def test_a_page_says_which_dictionaries_it_waits_for(
    store: Store, small: DictionaryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line while they are loaded, gone afterwards; none where all are there, or little is not."""
    lines: list[str] = []

    class Line:
        def caption(self, text: str) -> None:
            lines.append(text)

        def empty(self) -> None:
            lines.append("")

    monkeypatch.setattr(live.st, "empty", Line)
    here = _engine(store)
    names = list(here.dictionaries)
    with live.dictionaries_said(here, names):
        assert lines == []  # some kilobytes: it would not be read
    monkeypatch.setattr(live, "SAID_FROM", 1)
    with live.dictionaries_said(here, names):
        here.compute_activations(here.read(TEXT), names)
        (said,) = lines
    assert lines.pop() == ""
    plain = said.replace("\\", "")
    assert plain.startswith("Loading 6 dictionaries: ") and "12 kB of them are kept" in plain
    assert "--dictionary-memory" in plain
    with live.dictionaries_said(here, names[-1:]):
        assert lines == [said]
    with live.dictionaries_said(here, names[:1]):
        assert lines[-1].replace("\\", "").startswith("Loading the dictionary d0: ")
    wide = LocalEngine(here.lm, {"d0": here.dictionaries["d0"]}, bos=None)
    with live.dictionaries_said(wide, ["d0"]):
        assert lines[-1] == ""
