"""A steering run by its one spelling: the same again from JSON, and safe when memory ends."""

import gc
import json
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from backend.generation import generation_run, token_stream
from backend.generation.generation_run import generate_texts
from backend.generation.records import (
    GenerationRecord,
    PromptRecord,
    SamplingSettings,
    SummaryRecord,
    TokenRecord,
)
from backend.generation.steering_request import SteeringRequest
from backend.interventions.records import EditCondition, FrozenLayers
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.editing import dictionaries, edit

GATED = EditCondition(gate=FeatureId("topk", 3), positions=(2, 5))
ASKED = SteeringRequest(
    "the cat saw the dog and",
    (edit("add", "relu/3", strength=5.0), edit("add_max", "late/2", where=GATED)),
    SamplingSettings(max_new=7, top_p=0.9, stop=("zebra",), seed=3),
    watch=(FeatureId("topk", 1),),
    freeze=FrozenLayers(patterns=(0, 1)),
)


def said(lm: LanguageModel, asked: SteeringRequest) -> list[GenerationRecord]:
    """The records, without the clock."""
    records = generate_texts(lm, dictionaries(), asked)
    return [replace(one, seconds=0.0) if isinstance(one, SummaryRecord) else one for one in records]


def test_a_request_is_the_same_after_json() -> None:
    assert SteeringRequest.from_json(json.loads(json.dumps(ASKED.to_json()))) == ASKED
    chat = SteeringRequest(({"role": "user", "content": "hi"},), bos=False)
    assert SteeringRequest.from_json(json.loads(json.dumps(chat.to_json()))) == chat
    assert SteeringRequest.from_json({"prompt": "x"}) == SteeringRequest("x")
    assert ASKED.dictionaries == ["late", "relu", "topk"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "needs a prompt"),
        ({"prompt": "x", "modes": []}, "no field 'modes'"),
        ({"prompt": "x", "sampling": {"temprature": 1}}, "Did you mean 'temperature'"),
        ({"prompt": [{"role": "user"}]}, "not a steering request"),
        ({"prompt": "x", "freeze": {"norms": [1]}}, "not a steering request"),
        ({"prompt": "x", "edits": [{"mode": "add", "features": ["relu"]}]}, "not a feature"),
    ],
)
def test_what_is_no_request_is_said(data: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        SteeringRequest.from_json(data)


def test_it_measures_what_was_asked(tiny_lm: LanguageModel) -> None:
    records = list(generate_texts(tiny_lm, dictionaries(), ASKED))
    prompt, tokens = records[0], [one for one in records if isinstance(one, TokenRecord)]
    assert isinstance(prompt, PromptRecord) and set(prompt.read) == {"default", "steered"}
    assert list(map(str, prompt.read["default"][0].watched)) == ["relu/3", "late/2", "topk/1"]
    assert {len(one.top) for one in tokens} == {15}
    plain = list(generate_texts(tiny_lm, dictionaries(), replace(ASKED, edits=())))
    assert {one.row for one in plain if isinstance(one, TokenRecord)} == {"default"}


def test_the_same_request_says_the_same(tiny_lm: LanguageModel) -> None:
    again = SteeringRequest.from_json(json.loads(json.dumps(ASKED.to_json())))
    assert said(tiny_lm, ASKED) == said(tiny_lm, again)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory: 8 GB")],
)
def test_out_of_memory_is_said_and_the_next_run_works(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    calls: list[int] = []
    scenes: list[weakref.ref[token_stream.EditedForward]] = []
    forward = token_stream.EditedForward.forward

    def short(self: Any, *given: Any, **more: Any) -> Any:
        calls.append(1)
        scenes.append(weakref.ref(self))
        if len(calls) == 4:
            raise error
        return forward(self, *given, **more)

    monkeypatch.setattr(token_stream.EditedForward, "forward", short)
    with pytest.raises(InputError, match="out of memory") as raised:
        said(tiny_lm, ASKED)
    assert raised.value.__context__ is None
    error.__traceback__ = None
    gc.collect()
    assert scenes and not [one for one in scenes if one() is not None]
    assert len(said(tiny_lm, ASKED)) == 1 + 2 * 7 + 2


def test_another_error_stays_what_it_is(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(generation_run, "free_device_memory", broken)
    monkeypatch.setattr(token_stream.EditedForward, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        said(tiny_lm, ASKED)
