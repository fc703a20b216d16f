"""What a user can get wrong about a dictionary, and the whole message."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backend.dictionaries import check_source, load
from feature_store.errors import InputError
from tests import dictionaries as tiny


def message(spec: str | Path, check_only: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        check_source(str(spec)) if check_only else load(str(spec), placement=tiny.CPU)
    return str(caught.value)


def test_a_truncated_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    folder = tiny.saved(tmp_path, "standard")
    weights = folder / "sae_weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert message(folder, check_only=True) == (
        f"{weights} is damaged: it has {len(whole) - 100:,} bytes but its header requires "
        f"{len(whole):,}: copy or download it again."
    )


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    weights = tiny.saved(tmp_path, "standard") / "sae_weights.safetensors"
    weights.write_bytes(content)
    want = f"{weights} is not a safetensors file, or its start is damaged."
    assert message(tmp_path, check_only=True) == want


def test_a_damaged_torch_file_is_named(tmp_path: Path) -> None:
    torch.save({"bias": torch.zeros(500)}, tmp_path / "ae.pt")
    whole = (tmp_path / "ae.pt").read_bytes()
    (tmp_path / "ae.pt").write_bytes(whole[: len(whole) // 2])
    want = f"{tmp_path}/ae.pt is damaged or not a file that torch.save wrote."
    assert message(tmp_path, check_only=True) == want


def test_a_missing_or_broken_configuration_is_named(tmp_path: Path) -> None:
    cfg = tiny.saved(tmp_path, "standard") / "cfg.json"
    cfg.write_text("{")
    assert message(tmp_path, check_only=True).startswith(f"{cfg} cannot be read as JSON (")
    cfg.unlink()
    assert message(tmp_path) == f"{cfg} is missing: a dictionary's folder needs it."


def test_an_unknown_architecture_lists_what_there_is(tmp_path: Path) -> None:
    cfg = tiny.saved(tmp_path, "standard") / "cfg.json"
    cfg.write_text(json.dumps(tiny.config("jumpreluu")))
    assert message(tmp_path) == (
        f"{cfg}: No sae-lens architecture called 'jumpreluu'. Did you mean 'jumprelu'? There are: "
        "abstopk, gated, jumprelu, jumprelu_skip_transcoder, jumprelu_transcoder, "
        "matching_pursuit, skip_transcoder, standard, temporal, topk, transcoder."
    )


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    cfg = tiny.saved(tmp_path, "standard") / "cfg.json"
    cfg.write_text(json.dumps(tiny.config("standard", d_sae=41)))
    text = message(tmp_path)
    assert text.startswith(f"The weights in {tmp_path} do not fit its cfg.json (")
    assert "\n" not in text


def test_a_scale_that_is_not_there_is_never_one(tmp_path: Path) -> None:
    tiny.saved(tmp_path, "standard", normalize_activations="expected_average_only_in")
    assert "the factor is missing: put sae-lens' activation_scaler.json" in message(tmp_path)
    tiny.save_scaler(tmp_path, None)
    assert "the factor is missing" in message(tmp_path)


def test_whitening_that_is_not_there_is_refused(tmp_path: Path) -> None:
    tiny.saved(tmp_path, "topk", normalize_activations="covariance_whitening")
    assert "the matrices are missing: put sae-lens' activation_wh" in message(tmp_path)


def test_whitening_of_a_tied_encoder_is_refused(tmp_path: Path) -> None:
    tiny.saved(tmp_path, "matching_pursuit", normalize_activations="covariance_whitening")
    tiny.save_whitening(tmp_path)
    assert message(tmp_path).endswith("whitens the input of a tied encoder, which is not defined.")


def test_a_dictionary_without_hook_point_asks_for_one(tmp_path: Path) -> None:
    tiny.saved(tmp_path, "standard", metadata={"hook_name": None})
    want = f"{tmp_path} does not say which hook point it reads: write {tmp_path}@HOOK."
    assert message(tmp_path) == want
    given = load(f"{tmp_path}@blocks.2.hook_resid_pre", placement=tiny.CPU)
    assert given.hook_name == given.hook_out == "blocks.2.hook_resid_pre"


def test_a_transcoder_without_output_asks_for_one(tmp_path: Path) -> None:
    tiny.saved(tmp_path, "transcoder", metadata={"hook_name_out": None})
    assert message(tmp_path).endswith(f"write {tmp_path}@{tiny.HOOK},HOOK_OUT.")
    given = load(f"{tmp_path}@{tiny.HOOK},blocks.2.hook_mlp_out", placement=tiny.CPU)
    assert given.hook_out == "blocks.2.hook_mlp_out"


def test_a_single_head_is_refused(tmp_path: Path) -> None:
    tiny.saved(tmp_path, "standard", metadata={"hook_head_index": 3})
    assert "reads one attention head only" in message(tmp_path)


def test_a_processing_that_is_not_known_is_refused(tmp_path: Path) -> None:
    kwargs = {"model_from_pretrained_kwargs": {"refactor_factored_attn_matrices": True}}
    tiny.saved(tmp_path, "standard", metadata=kwargs)
    assert "refactor_factored_attn_matrices=True, which is not supported" in message(tmp_path)


def test_a_folder_that_is_no_dictionary_lists_the_forms(tmp_path: Path) -> None:
    text = message(tmp_path, check_only=True)
    assert text.startswith(f"{tmp_path} is not a dictionary: what works is a folder with cfg.json")
    assert text.endswith("identity:HOOK, or FILE.safetensors@HOOK.")


def test_a_mistyped_release_or_id_is_put_right() -> None:
    assert message("gpt2-smal-res-jb/blocks.8.hook_resid_pre", check_only=True) == (
        "There is no folder 'gpt2-smal-res-jb/blocks.8.hook_resid_pre', and no release "
        "'gpt2-smal-res-jb' in sae-lens' list. Did you mean 'gpt2-small-res-jb'? Write RELEASE/ID, "
        "or OWNER/NAME/PATH for a repository on the Hugging Face hub."
    )
    text = message("gpt2-small-res-jb/blocks.8.hook_resid_pr", check_only=True)
    assert "Did you mean 'blocks.8.hook_resid_pre'?" in text


def test_a_matrix_needs_a_hook_point(tmp_path: Path) -> None:
    file = tmp_path / "v.safetensors"
    save_file({"v": torch.zeros(4)}, file)
    assert message(file, check_only=True) == f"{file} names no hook point: write {file}@HOOK."
    assert "names no hook point" in message(f"{file}@", check_only=True)
