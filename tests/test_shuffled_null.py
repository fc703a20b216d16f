"""The null dictionary on a model with shuffled weights: the model is the same numbers in another
order, the facts are those of its activations, the rest of the harvest stays, and nothing live takes
it for a dictionary of the model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.jobs import scoring
from app.jobs.scoring import Scoring
from backend.engine import LocalEngine
from backend.harvest import harvest_models
from backend.harvest.checkpoint import Shard
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.model.language_model import LanguageModel
from backend.model.shuffled_model import shuffle_model
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_reader import HarvestFile
from feature_store.null_dictionaries import (
    NullTarget,
    find_null_target,
    is_on_shuffled_model,
    list_model_dictionaries,
)
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.dictionaries import CPU, HOOK
from tests.harvests import (
    Rig,
    advance,
    assert_same,
    content,
    harvest_on_disk,
    published,
    small_steps,
)
from tests.models import shared, tiny, token_batch

TRAINED = ("top", "abs", "relu", "seq")


@pytest.fixture(scope="module")
def one(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> HarvestFile:
    """A harvest with it, and with another null dictionary, in one pass."""
    folder = tmp_path_factory.mktemp("shuffled")
    return HarvestFile(rig.harvest(folder, nulls=("shuffled",)))


def parameters(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return dict(lm.bare.named_parameters())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_every_tensor_of_the_blocks_keeps_its_entries_and_nothing_else_moves(
    architecture: str,
) -> None:
    lm = shared(architecture)
    before = {name: p.clone() for name, p in parameters(lm).items()}
    found = parameters(shuffle_model(lm, 0))
    for name, own in parameters(lm).items():
        assert own.equal(before[name]) and found[name].shape == own.shape
        assert found[name].flatten().sort().values.equal(own.flatten().sort().values)
        if ".layers." in name or ".h." in name:
            assert not found[name].equal(own), name
        else:
            assert found[name] is own, name  # shared: it costs no memory


def test_it_hangs_on_the_seed_alone() -> None:
    lm, tokens = shared(), token_batch(2, 9)
    again, other = tiny(), shuffle_model(lm, 1)
    own, same, different = (
        m.logits(tokens) for m in (shuffle_model(lm, 0), shuffle_model(again, 0), other)
    )
    assert own.equal(same) and not own.equal(different)
    assert not own.equal(lm.logits(tokens)) and lm.logits(tokens).equal(again.logits(tokens))


def test_every_tensor_has_an_order_of_its_own() -> None:
    lm = tiny()
    for tensor in parameters(lm).values():
        tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
    found = parameters(shuffle_model(lm, 0))
    gate = "model.layers.{}.mlp.gate_proj.weight".format
    up = "model.layers.0.mlp.up_proj.weight"
    assert not found[gate(0)].equal(found[up]) and not found[gate(0)].equal(found[gate(1)])


def test_the_facts_are_those_of_the_shuffled_models_activations(one: HarvestFile, rig: Rig) -> None:
    lm, names = shuffle_model(rig.lm, one.record.seed), ["top", "abs", "relu", "seq"]
    counts = dict.fromkeys(names, 0)
    special = torch.tensor(sorted(rig.lm.special_ids))
    for number in range(len(one.sequences)):
        tokens = torch.from_numpy(one.sequences.tokens(number).astype(np.int64))[None]
        x = lm.activations(tokens, [HOOK])[HOOK]
        for dictionary in rig.found:
            acts = dictionary.encode(x)[0][~torch.isin(tokens[0], special)]
            counts[dictionary.name] += (acts != 0).sum(0).numpy()
    of = "SELECT n_active FROM feature WHERE dictionary = ? ORDER BY feature"
    for name in names:
        found = one.rows(of, [f"{name}~shuffled"])["n_active"].to_numpy()
        assert found.tolist() == counts[name].tolist(), name
        assert found.tolist() != one.rows(of, [name])["n_active"].to_numpy().tolist(), name


def test_the_contexts_and_the_activation_at_bos_are_the_shuffled_models(
    one: HarvestFile, rig: Rig
) -> None:
    lm = shuffle_model(rig.lm, one.record.seed)
    (relu,) = (d for d in rig.found if d.name == "relu")
    for index in range(0, 30, 5):
        feature = FeatureId("relu~shuffled", index)
        for context in one.contexts(feature)[:3]:
            tokens = torch.from_numpy(one.sequences.tokens(context.sequence).astype(np.int64))
            x = lm.activations(tokens[None], [HOOK])[HOOK]
            assert relu.encode(x)[0, context.peak, index] == pytest.approx(
                max(context.activations), rel=1e-5
            )
    of = "SELECT bos_act FROM feature WHERE dictionary = ? ORDER BY feature"
    first = relu.encode(lm.activations(torch.tensor([[lm.bos]]), [HOOK])[HOOK])[0, 0]
    assert one.rows(of, ["relu~shuffled"])["bos_act"].to_numpy() == pytest.approx(first.numpy())


def test_the_file_says_what_it_is_and_what_it_is_not(one: HarvestFile) -> None:
    own, info = one.dictionary("top"), one.dictionary("top~shuffled")
    assert find_null_target(info) == NullTarget("shuffled", "top") and is_on_shuffled_model(info)
    assert list_model_dictionaries(one) == list(TRAINED)
    assert info.weights_hash == own.weights_hash and info.hook_name == own.hook_name
    assert info.explained_variance is info.ce_clean is None
    of = "SELECT promoted_tokens, logit_kurtosis, nearest FROM feature WHERE dictionary = ?"
    null, real = one.rows(of, [info.dictionary]), one.rows(of, [own.dictionary])
    assert null["promoted_tokens"].null_count == null["logit_kurtosis"].null_count == len(null)
    assert real["promoted_tokens"].null_count == 0
    assert null["nearest"].equals(real["nearest"])  # the decoder is the same


def test_the_rest_of_the_harvest_is_as_without(one: HarvestFile, harvested: Path) -> None:
    without = HarvestFile(harvested)
    for table in ("feature", "context", "silent_window", "dictionary"):
        own = f"SELECT * FROM {table} WHERE dictionary IN ('top', 'abs', 'relu', 'seq')"
        assert one.rows(own).equals(without.rows(own)), table
    assert one.record.id != without.record.id


@pytest.fixture(scope="module")
def small(rig: Rig) -> Rig:
    """Two of its dictionaries: one that reads token by token, and one that reads sequences."""
    chosen = [0, 3]
    return replace(
        rig,
        found=[rig.found[i] for i in chosen],
        folders=[rig.folders[i] for i in chosen],
    )


def test_shards_and_interruptions_leave_no_trace(
    small: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"nulls": ("shuffled",), "tokens": 900}
    want = content(small.harvest(tmp_path / "whole", **asked))
    for index in (1, 0):
        part = small.start(tmp_path / "shards", shard=Shard(index, 2), **asked)
        list(part.run())
    assert_same(content(published(part)), want)
    small_steps(monkeypatch)
    stops = iter([10, 7])
    while not advance((last := small.start(tmp_path / "stopped", **asked)).run(), next(stops, 99)):
        pass
    assert_same(content(published(last)), want)


def test_no_second_model_is_made_unless_asked_for(
    small: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(harvest_models, "shuffle_model", lambda lm, seed: made.append(seed) or lm)
    small.harvest(tmp_path, nulls=("random",), tokens=100)
    assert made == []
    small.harvest(tmp_path, nulls=("shuffled",), tokens=100, seed=7)
    assert made == [7]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalEngine, HarvestFile]:
    """Of a harvest whose model lies on disk."""
    folder = tmp_path_factory.mktemp("on-disk")
    harvest_on_disk(folder, tokens=400)
    request = HarvestRequest(
        str(folder / "model"),
        [f"resid={folder / 'resid'}"],
        [str(folder / "text.txt")],
        folder / "store",
        HarvestPlan(tokens=400, context_size=32, window=8),
        CPU,
        nulls=("random", "shuffled"),
    )
    harvest = HarvestRun(request)
    assert list(harvest.run()) and harvest.outcome == "published"
    kept = Store(folder / "store")
    file = kept.harvest(harvest.id)
    return LocalEngine.load(file, kept.places.read_all(), CPU), file


def test_the_engine_refuses_it_and_serves_the_others(
    engine: tuple[LocalEngine, HarvestFile],
) -> None:
    live, file = engine
    assert list(file.dictionaries) == ["resid", "resid~random", "resid~shuffled"]
    assert list(live.dictionaries) == ["resid", "resid~random"] == list_model_dictionaries(file)
    text = live.read("the dog went to the park")
    feature, why = FeatureId("resid~shuffled", 3), "harvested on a model with shuffled weights"
    for ask in (
        lambda: live.compute_activations(text, ["resid~shuffled"]),
        lambda: live.weights(feature),
        lambda: live.logit_lens(feature),
        lambda: live.dictionaries["resid~shuffled"],
        lambda: pick_by_name("dictionary", "resid~shuffled", live.dictionaries),
        lambda: live.find_nearest(FeatureId("resid", 3), "resid~shuffled", 5),
    ):
        with pytest.raises(InputError, match=why):
            ask()
    with pytest.raises(InputError, match="No dictionary called 'resid~shufled'"):
        live.compute_activations(text, ["resid~shufled"])
    assert live.compute_activations(text, ["resid", "resid~random"])


def test_scores_that_need_the_model_itself_are_refused(one: HarvestFile) -> None:
    store = Store(one.path.parent.parent)
    for scorer in ("generation", "intervention"):
        asked = Scoring("", "top~shuffled", "all", ("detection", scorer))
        with pytest.raises(InputError, match="harvested on a model with shuffled weights"):
            scoring.checked(store, asked)
    with pytest.raises(InputError, match="saefari explain"):  # nothing else is in the way
        scoring.checked(store, Scoring("", "top~shuffled", "all", ("detection",)))
