"""A model that cannot be is refused with a sentence, before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from backend.model.model_source_checks import check_model_source
from feature_store.errors import InputError
from tests.models import save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "model")


def refusal(model: Path | str) -> str:
    with pytest.raises(InputError) as bad:
        check_model_source(str(model))
    return str(bad.value)


@pytest.mark.parametrize("model", ["gpt2", "EleutherAI/pythia-70m", "google/gemma-2-2b"])
def test_hub_names_pass(model: str) -> None:
    check_model_source(model)


def test_a_whole_folder_passes(folder: Path) -> None:
    check_model_source(str(folder))


def test_a_missing_folder() -> None:
    assert refusal("./nowhere/model") == (
        "No model at './nowhere/model': there is no such folder, and it is not a hub name "
        "such as 'gpt2' or 'EleutherAI/pythia-70m'."
    )


def test_a_file_is_not_a_model(folder: Path) -> None:
    assert "is a file. A model is a Hugging Face folder" in refusal(folder / "config.json")


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "is not a model: it has no config.json" in refusal(tmp_path)


def test_an_unreadable_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "model/config.json is not readable JSON" in refusal(folder)
    (folder / "config.json").write_text("{}")
    assert "names no model_type" in refusal(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == (
        "The folder 'model' has no weights: expected *.safetensors next to config.json."
    )


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_folder_without_a_tokenizer(folder: Path, kept: tuple[str, ...]) -> None:
    """Whether nothing of one is there, or only its settings, which transformers finds out."""
    for path in folder.glob("*token*"):
        if path.name not in kept:
            path.unlink()
    with pytest.raises(InputError) as bad:
        LanguageModel.load(str(folder), choose_placement("cpu"))
    assert "The folder 'model' has no tokenizer: expected tokenizer.json" in str(bad.value)
    assert str(bad.value).endswith("tokenizer.save_pretrained.")


def test_a_cut_off_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert refusal(folder) == (
        "model/model.safetensors is not a complete safetensors file: 10 bytes are missing at its "
        "end. Copy or download it again."
    )


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"])
def test_rubbish_in_place_of_weights(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert "is not a complete safetensors file" in refusal(folder)


def test_a_missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 of its 2 weight files, such as model-2.safetensors" in refusal(folder)


def test_weights_of_another_shape_are_not_filled_at_random(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(InputError, match="lacks 18 of the weights that its config requires"):
        LanguageModel.load(str(folder), choose_placement("cpu"))


def test_a_hub_name_that_is_not_there() -> None:
    with pytest.raises(InputError, match="No model 'no-such-org/no-such-model': there is no such"):
        LanguageModel.load("no-such-org/no-such-model", choose_placement("cpu"))


def test_a_model_that_is_no_language_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(InputError, match="The model in 'model' cannot be loaded"):
        LanguageModel.load(str(folder), choose_placement("cpu"))


@pytest.mark.process
def test_the_checks_do_not_load_torch() -> None:
    code = "import sys, backend.model.model_source_checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
