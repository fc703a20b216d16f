"""What looks like a dictionary and is refused: summed cross-layer decoders, pickles."""

from pathlib import Path

import pytest
import torch

from backend.dictionaries import check_source, load
from feature_store.errors import InputError
from tests import dictionaries as tiny

SUMMED = "mntss-gemma-2-2b-2.5m-clt-as-per-layer"


@pytest.mark.parametrize(
    "spec",
    [f"{SUMMED}/layer_0", "mntss/clt-gemma-2-2b-2.5M/0", "someone/my-clt-as-per-layer/layer_3"],
)
def test_a_summed_cross_layer_transcoder_is_refused_by_name(spec: str) -> None:
    for look in (check_source, lambda s: load(s, placement=tiny.CPU)):
        with pytest.raises(InputError, match="is a cross-layer transcoder"):
            look(spec)


@pytest.mark.parametrize(
    "tells",
    [
        {"neuronpedia_id": "gemma-2-2b/0-clt-hp"},
        {"release": SUMMED},
        {"model_kind": "cross_layer_transcoder"},
        {"sae_type": "clt"},
    ],
)
def test_a_summed_cross_layer_transcoder_is_refused_by_metadata(
    tmp_path: Path, tells: dict
) -> None:
    tiny.saved(tmp_path, "transcoder", metadata=tells)
    for look in (check_source, lambda s: load(s, placement=tiny.CPU)):
        with pytest.raises(InputError, match="is a cross-layer transcoder"):
            look(str(tmp_path))
    sae = tiny.sae_of("transcoder", metadata=tells)  # in memory, as a script would hand it over
    from backend.dictionaries.dictionary_sources import DictionarySource
    from backend.dictionaries.saelens import adapt_saelens

    with pytest.raises(InputError, match="is a cross-layer transcoder"):
        adapt_saelens(
            sae, DictionarySource("mine", "saelens", "mine"), tiny.CPU.device, torch.float32
        )


def test_a_summed_cross_layer_transcoder_is_refused_by_folder(tmp_path: Path) -> None:
    folder = tiny.saved(tmp_path / SUMMED / "layer_0", "transcoder")
    link = tmp_path / "harmless"
    link.symlink_to(folder.parent / "layer_0")
    for place in (folder, link):
        with pytest.raises(InputError, match="is a cross-layer transcoder"):
            load(str(place), placement=tiny.CPU)
    assert load(str(tiny.saved(tmp_path / "clt-comparison", "transcoder")), placement=tiny.CPU)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["pytorch_model.bin"], "pytorch_model.bin is a pickle"),
        (["sae.pt", "cfg.json"], "sae.pt is a pickle"),
        (["weights.pkl.gz"], "weights.pkl.gz is a pickle"),
        (["params.safetensors"], "Gemma Scope 2's own layout"),
        (["hyperparams.json"], "Llama Scope's own layout"),
        (["config.yaml", "W_enc_0.safetensors"], "in circuit-tracer's layout"),
        (["README.md"], "is not a dictionary: what works is"),
    ],
)
def test_a_folder_of_another_kind_is_named_for_what_it_is(
    tmp_path: Path, files: list[str], says: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=says):
        check_source(str(tmp_path))
    if files == ["weights.pkl.gz"]:
        with pytest.raises(InputError, match=says):
            check_source(f"{tmp_path / files[0]}@{tiny.HOOK}")


def test_a_listed_dictionary_under_clt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma Scope 2 keeps its cross-layer transcoders there, and sae-lens sums them, too."""
    from backend.dictionaries import saelens_registry

    listed = {"layer_1_clt": {"id": "layer_1_clt", "path": "clt/width_262k/params_layer_1"}}
    monkeypatch.setattr(saelens_registry, "release_entries", lambda release: listed)
    with pytest.raises(InputError, match="is a cross-layer transcoder"):
        check_source("gpt2-small-res-jb/layer_1_clt")
