"""From texts to a few features: the loss falls, and the page's edits do the same."""

import random
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import SamplingSettings
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.steering import features_from_examples
from backend.steering.features_from_examples import (
    ExamplesRequest,
    FeaturesFromExamples,
    find_features_from_examples,
)
from backend.steering.strength_for_kl import generate_unedited
from feature_store.errors import InputError
from tests.editing import dictionaries
from tests.models import VOCAB, shared

NAMES = ("relu", "early", "mlp")


def chosen() -> dict:
    return {name: dictionaries()[name] for name in NAMES}


def texts(n: int) -> tuple[tuple[int, ...], ...]:
    """Random texts of three words only: what they share can be learnt from half of them."""
    dice = random.Random(0)
    words = [VOCAB.index(word) for word in ("cat", "ball", "lake")]
    return tuple(tuple(dice.choices(words, k=12)) for _ in range(n))


def asked(n: int = 8, **fields) -> ExamplesRequest:
    return ExamplesRequest(
        tokenize_text(shared(), "the cat", bos=True), texts(n), **{"m": 3, **fields}
    )


@pytest.fixture(scope="module")
def found() -> FeaturesFromExamples:
    result = find_features_from_examples(shared(), chosen(), asked())
    assert result is not None
    return result


def test_the_loss_falls_with_few_features_on_texts_that_were_kept_back_too(found):
    assert 1 <= len(found.pushes) <= 3
    assert found.fitted.after < found.fitted.before - 0.05
    assert found.kept_back is not None
    assert (found.fitted.texts, found.kept_back.texts) == (4, 4)
    assert found.kept_back.after < found.kept_back.before
    assert all(0 < push.length <= 1 for push in found.pushes)
    assert min(push.alone for push in found.pushes) < 0
    assert all(push.without > -1e-4 for push in found.pushes)


def test_the_edits_it_gives_have_the_loss_it_says(found):
    ask = asked()
    plan = compile_edits(shared(), dictionaries(), [found.edits()])
    losses = []
    for text in ask.texts[::2]:
        whole = [*ask.start.tokens, *text]
        logits = compute_edited_logits(plan, [whole]).logits[0, len(ask.start.tokens) - 1 : -1]
        losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(text))))
    assert sum(losses) / len(losses) == pytest.approx(found.fitted.after, abs=1e-4)


def test_a_larger_penalty_lets_fewer_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features_from_examples, "SELECTION_STEPS", 12)
    monkeypatch.setattr(features_from_examples, "REFIT_STEPS", 6)
    few, many = (
        find_features_from_examples(shared(), chosen(), asked(penalty=p)) for p in (0.9, 0.05)
    )
    assert few is not None
    assert many is not None
    assert few.entered < many.entered
    assert few.fitted.after < few.fitted.before


def test_features_that_may_not_be_chosen_are_not(found, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features_from_examples, "REFIT_STEPS", 2)
    first = found.pushes[0].feature
    alive = {n: np.ones(d.d_sae, dtype=bool) for n, d in chosen().items()}
    alive[first.dictionary][first.index] = False
    again = find_features_from_examples(shared(), chosen(), asked(), alive=alive)
    assert again is not None
    assert first not in [push.feature for push in again.pushes]


def test_it_can_be_stopped_and_says_how_far_it_is():
    stop, told = threading.Event(), []

    def tell(done: int, total: int, what: str) -> None:
        told.append(done)
        if done == 3:
            stop.set()

    assert find_features_from_examples(shared(), chosen(), asked(), report=tell, stop=stop) is None
    assert told[:4] == [0, 1, 2, 3]


def test_fewer_than_four_texts_keep_none_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features_from_examples, "SELECTION_STEPS", 4)
    monkeypatch.setattr(features_from_examples, "REFIT_STEPS", 2)
    found = find_features_from_examples(shared(), chosen(), asked(2))
    assert found is not None
    assert found.kept_back is None


def test_bad_requests_are_refused_in_a_sentence():
    for ask, said in (
        (replace(asked(), texts=()), "at least one text"),
        (replace(asked(), texts=((5,),) * 40), "at most 32"),
        (asked(m=0), "1 to 32"),
        (asked(penalty=1.0), "below 1"),
        (replace(asked(), texts=((5,) * 40,)), "Shorten it"),
    ):
        with pytest.raises(InputError, match=said):
            find_features_from_examples(shared(), chosen(), ask)
    with pytest.raises(InputError, match="normed"):
        find_features_from_examples(shared(), {"normed": dictionaries()["normed"]}, asked())
    assert generate_unedited(shared(), {}, asked().start, [0], SamplingSettings(max_new=2))
