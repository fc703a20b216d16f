"""A harvest of real dictionaries on a real model, when there are some."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.dictionaries import load
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.model.language_model import LanguageModel
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.dictionaries import CPU

TOKENS = 10_000
SPECS = {
    "resid": "sae-stories3m-resid3-topk",
    "mlp": "transcoder-stories3m-mlp3",
    "attn": "sae-stories3m-attn3-topk",
}


@pytest.fixture(scope="module")
def file(real: Path, tmp_path_factory: pytest.TempPathFactory) -> HarvestFile:
    request = HarvestRequest(
        model=str(real / "stories3m"),
        dictionaries=[f"{name}={real / spec}" for name, spec in SPECS.items()],
        corpora=[str(real / "text" / "tinystories_validation_part.jsonl")],
        store=tmp_path_factory.mktemp("real"),
        plan=HarvestPlan(tokens=TOKENS, context_size=64),  # of the first 50 documents, too
        placement=CPU,
    )
    harvest = HarvestRun(request)
    assert list(harvest.run()) and harvest.outcome == "published"
    (found,) = Store(request.store).harvests()
    return found


def test_the_budget_and_sparsity_are_exact(file: HarvestFile) -> None:
    assert file.record.tokens == TOKENS
    for name, k in (("resid", 32), ("attn", 16)):
        assert file.dictionary(name).mean_active == k
        table = file.feature_table(name)
        assert sum(table.column("n_active").to_pylist()) == k * TOKENS


def test_the_dictionaries_explain_their_model(file: HarvestFile) -> None:
    for name, least in (("resid", 0.85), ("attn", 0.8), ("mlp", 0.78)):
        info = file.dictionary(name)
        assert (info.explained_variance or 0) > least, name
        assert info.check_words == [] and (info.check_documents or 0) == 50


def test_stored_contexts_are_what_the_model_does_live(file: HarvestFile, real: Path) -> None:
    lm = LanguageModel.load(str(real / "stories3m"), CPU)
    for name, spec in SPECS.items():
        dictionary = load(str(real / spec), name=name, placement=CPU)
        frequent = file.feature_table(name, order="n_active", descending=True, limit=300)
        for index in frequent.column("feature").to_pylist()[::120]:
            for context in (file.contexts(FeatureId(name, index))[i] for i in (0, -1)):
                tokens = torch.from_numpy(file.sequences.tokens(context.sequence).astype(np.int64))
                x = lm.activations(tokens[None], [dictionary.hook_name])[dictionary.hook_name]
                live = dictionary.encode(x)[0, :, index]
                live[0] = 0  # BOS is not counted
                window = live[context.start : context.start + context.length]
                positions = (window.nonzero()[:, 0] + context.start).tolist()
                assert positions == context.positions
                assert live[positions].tolist() == pytest.approx(context.activations, rel=1e-3)
