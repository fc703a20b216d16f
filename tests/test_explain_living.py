"""What scorers ask of the model: texts that fire, steering at one nat, sources, surprisal."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest

from app.jobs import living
from backend.engine import LocalEngine
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from tests.harvests import Rig

NAME = "relu"


@pytest.fixture(scope="module")
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.fixture(scope="module")
def file(harvested: Path) -> HarvestFile:
    return HarvestFile(harvested)


@pytest.fixture(scope="module")
def feature(file: HarvestFile) -> FeatureId:
    table = file.feature_table(NAME, order="n_active", descending=True)
    return FeatureId(NAME, table.column("feature")[3].as_py())


def test_a_texts_activation_is_the_harvests(engine, file, feature) -> None:
    """A sequence read as text has the activations that were stored of it."""
    top = file.contexts(feature)[0]
    text = " ".join(file.vocabulary.display(file.sequences.tokens(top.sequence)[1:]))
    found = asyncio.run(living.activates(engine)(feature, [text, " "]))
    assert found[0] == pytest.approx(abs(top.value), rel=1e-4) and np.isnan(found[1])


def test_steering_moves_the_next_token_as_far_as_it_is_to(
    engine, file, feature, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model is not to be moved by a whole nat."""
    monkeypatch.setattr(living, "AIM", 0.05)
    steers = living.steers(engine, file)
    pairs = asyncio.run(steers(feature, 3))
    assert len(pairs) == 3
    assert [p.kl for p in pairs] == pytest.approx([0.05] * 3, rel=0.11)
    assert all(p.prompt and p.strength > 0 for p in pairs)
    assert any(p.clean != p.steered for p in pairs)


def test_the_texts_of_a_feature_are_made_once(engine, file, feature, monkeypatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(living, "steered", lambda *given: made.append(1))

    async def twice() -> None:
        steers = living.steers(engine, file)
        await asyncio.gather(*(steers(feature, 2) for _ in range(4)))

    asyncio.run(twice())
    assert len(made) == 2


def test_prompts_end_before_the_feature_fires(file, feature) -> None:
    held = {c.sequence: c for c in reversed(file.contexts(feature))}
    for tokens in living.beginnings(file, feature, 5):
        assert len(tokens) > living.LEAST
        assert any(
            file.sequences.tokens(s)[: len(tokens)].tolist() == tokens and c.split == "score"
            for s, c in held.items()
        )


def test_surprisal_is_the_mean_loss_of_the_text_alone(engine) -> None:
    import torch

    prefix, text = "the old cat", " saw a red ball"
    (found,) = asyncio.run(living.surprisal(engine)([prefix], [text]))
    tokens = engine.read(prefix + text).token_ids
    losses = engine.lm.token_losses(torch.tensor([tokens]))[0]
    n = len(engine.read(text).token_ids) - 1
    assert found == pytest.approx(float(losses[-n:].mean()), rel=1e-5) and math.isfinite(found)
    with pytest.raises(InputError, match="at most"):
        asyncio.run(living.surprisal(engine)(["cat " * 400], [text]))


def test_sources_are_of_attention_alone(engine, file, feature) -> None:
    from autointerp.text_windows import make_window

    top = make_window(file, file.contexts(feature)[0], "top", None)
    assert asyncio.run(living.sources(engine, file)(feature, top)) is None
