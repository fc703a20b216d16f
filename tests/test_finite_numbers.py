"""NaN and infinity are refused where they enter: weights at load, activations while harvesting."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.harvest.harvest_models import HarvestModels
from backend.model.finite_weights import check_dictionary_finite, is_finite
from backend.model.language_model import LanguageModel
from backend.model.model_source_checks import check_model_source
from feature_store.errors import InputError
from tests import models
from tests.dictionaries import CPU

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_bad_value_is_seen_wherever_it_stands(bad: float, dtype: torch.dtype) -> None:
    for place in (0, 57, -1):
        tensor = torch.ones(10, 10, dtype=dtype)
        assert is_finite(tensor)
        tensor.view(-1)[place] = bad
        assert not is_finite(tensor)
    assert is_finite(torch.empty(0, 3))
    assert is_finite(torch.ones(3, dtype=torch.int64))


def test_the_first_few_features_are_named() -> None:
    W_enc = torch.ones(4, 300)
    W_enc[1, 7:27] = torch.nan
    with pytest.raises(InputError) as caught:
        check_dictionary_finite({"b_dec": torch.ones(4), "W_enc": W_enc}, "FILE")
    assert "its tensor W_enc is not finite at features 7, 8, 9, 10, 11 and 15 more." in str(
        caught.value
    )
    with pytest.raises(InputError, match="b_dec is not finite at 4 of its 4 values"):
        check_dictionary_finite({"b_dec": torch.full((4,), torch.inf)}, "FILE")


@pytest.mark.parametrize("bad", BAD)
def test_a_model_with_weights_that_are_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    folder = models.save(tmp_path / "broken")
    (file,) = folder.glob("*.safetensors")
    state = load_file(file)
    name = "model.layers.1.mlp.down_proj.weight"
    state[name][3, 2] = bad
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"'broken' cannot be used: its tensor {name} .* row 3\."):
        LanguageModel.load(str(folder), CPU)


def test_a_models_pickle_is_not_opened(tmp_path: Path) -> None:
    folder = models.save(tmp_path / "old")
    (file,) = folder.glob("*.safetensors")
    torch.save(load_file(file), folder / "pytorch_model.bin")
    LanguageModel.load(str(folder), CPU)
    file.unlink()
    for look in (check_model_source, lambda path: LanguageModel.load(path, CPU)):
        with pytest.raises(InputError, match="in pytorch_model.bin, a pickle: .* save_pretrained"):
            look(str(folder))


@pytest.mark.parametrize("bad", BAD[:2])
def test_a_harvest_stores_nothing_of_activations_that_are_not_finite(
    rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    """One value of one token in the middle of the corpus, after the self-check."""
    read, calls = HarvestModels.activations, []

    def read_badly(self, tokens, dictionaries, processing):
        found = [x.clone() for x in read(self, tokens, dictionaries, processing)]
        calls.append(1)
        if len(calls) == 3:
            found[1][-1, 2, 5] = bad
        return found

    monkeypatch.setattr(HarvestModels, "activations", read_badly)
    with pytest.raises(InputError, match=r"Activations at blocks\.\S+ are not finite .* in \S+"):
        rig.harvest(tmp_path)
    assert not list(tmp_path.glob("harvests/*.duckdb"))


def test_an_activation_beyond_float32_is_not_stored(
    rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.harvest import shard_run

    encode = shard_run.encode_batch

    def encode_too_large(*given):
        found = encode(*given)
        return found._replace(value=torch.full_like(found.value, torch.inf))

    monkeypatch.setattr(shard_run, "encode_batch", encode_too_large)
    with pytest.raises(InputError, match="are not finite"):
        rig.harvest(tmp_path)
