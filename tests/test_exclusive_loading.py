"""Laws of loading models in one process: one at a time, and nothing is left behind."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from backend.model import model_loading
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from tests.dictionaries import CPU
from tests.models import configs, tokenizer


def _save_tied(folder: Path, seed: int) -> Path:
    """Write a tiny Llama whose output weights are its embeddings, so that the file lacks them."""
    torch.manual_seed(seed)
    config = LlamaConfig.from_dict({**configs()["llama"].to_dict(), "tie_word_embeddings": True})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("tied")
    return [_save_tied(home / f"model{seed}", seed) for seed in range(2)]


def _load_in_threads(folders: list[Path]) -> list[LanguageModel | Exception]:
    """Load each folder in a thread of its own, all at once; the models, or what went wrong."""
    found: list[LanguageModel | Exception] = [RuntimeError("not finished")] * len(folders)
    together = threading.Barrier(len(folders))

    def load(at: int) -> None:
        together.wait(10)
        try:
            found[at] = LanguageModel.load(str(folders[at]), CPU)
        except Exception as error:
            found[at] = error

    threads = [threading.Thread(target=load, args=[at]) for at in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_models_loaded_in_several_threads_are_the_models_on_disk(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most = [], []
    original: Callable = AutoModelForCausalLM.from_pretrained

    def watched(*given, **options):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        try:
            return original(*given, **options)
        finally:
            inside.pop()

    monkeypatch.setattr(model_loading.AutoModelForCausalLM, "from_pretrained", watched)
    names = [*folders, *folders]
    for folder, lm in zip(names, _load_in_threads(names), strict=True):
        assert isinstance(lm, LanguageModel), lm
        assert lm.bare.lm_head.weight is lm.bare.model.embed_tokens.weight
        assert lm.model_hash == model_loading.hash_model_folder(folder)
        assert torch.isfinite(lm.logits(torch.tensor([[0, 5, 6]]))).all()
    assert max(most) == 1


def test_what_others_left_replaced_is_put_back_before_a_load(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other code in the process may load models in threads of its own."""
    original = PreTrainedModel.tie_weights
    monkeypatch.setattr(PreTrainedModel, "tie_weights", lambda *_, **__: None)
    monkeypatch.setattr(torch.nn.init, "normal_", lambda *_, **__: None)
    lm = LanguageModel.load(str(folders[0]), CPU)
    assert lm.bare.lm_head.weight is lm.bare.model.embed_tokens.weight
    assert PreTrainedModel.tie_weights is original


def test_a_load_that_fails_halfway_leaves_nothing_behind(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = PreTrainedModel.tie_weights, PreTrainedModel.init_weights, torch.nn.init.normal_

    def fails(*_: object, **__: object) -> None:
        torch.set_default_dtype(torch.float64)
        PreTrainedModel.tie_weights = PreTrainedModel.init_weights = torch.nn.init.normal_ = fails
        raise RuntimeError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(model_loading.AutoModelForCausalLM, "from_pretrained", fails)
        with pytest.raises(InputError, match="the disk is gone"):
            LanguageModel.load(str(folders[0]), CPU)
    after = PreTrainedModel.tie_weights, PreTrainedModel.init_weights, torch.nn.init.normal_
    assert (after, torch.get_default_dtype()) == (before, torch.float32)
    assert isinstance(LanguageModel.load(str(folders[0]), CPU), LanguageModel)
