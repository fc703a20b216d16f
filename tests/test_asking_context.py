"""Questions that are too long for a server: its context is asked for, learnt, and kept to."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autointerp.explainers import EXPLAINERS
from autointerp.explainers.explainer_interface import ExplainerTools, WrittenExplanation
from autointerp.explainers.prompt_windows import MIN_WINDOWS_SHOWN, shrink_windows
from autointerp.llm import CallLog, LlmServer, Reply, RequestFailure, open_asker
from autointerp.llm.context_size_refusal import parse_context_refusal
from autointerp.llm.server_facts import ServerFacts, read_server_facts
from autointerp.text_windows import cut_window
from tests import openai_server as server
from tests.asking import QUICK, one, question
from tests.openai_server import Body, Fault, always, serve
from tests.scoring import holds_cat, play, window, windows

REFUSALS = {  # as the servers write it → context, prompt
    "request (3031 tokens) exceeds the available context size (2048 tokens), try increasing it": (
        2048,
        3031,
    ),
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 "
    "tokens. Please reduce the length of the messages.": (8192, 9000),
    "This model's maximum context length is 2048 tokens. However, you requested 3031 tokens (2903 "
    "in the messages, 128 in the completion).": (2048, 3031),
    "The decoder prompt (length 3031) is longer than the maximum model length of 2048.": (
        2048,
        None,
    ),
    "Bad roles.": None,
    "Unsupported value: 'temperature' does not support 0.0 with this model.": None,
}


@pytest.mark.parametrize("said", REFUSALS)
def test_a_refusal_tells_the_sizes(said: str) -> None:
    found = parse_context_refusal(said)
    assert (found and (found.context_tokens, found.prompt_tokens)) == REFUSALS[said]


LISTINGS: dict[str, tuple[Any, ServerFacts]] = {
    "vLLM": (
        {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]},
        ServerFacts(True, ("m",), "vllm", 4096),
    ),
    "OpenRouter": (
        {
            "data": [
                {"id": "m", "context_length": 131072, "top_provider": {"context_length": 65536}},
                {"id": "n", "context_length": 10},
            ]
        },
        ServerFacts(True, ("m", "n"), "", 65536),
    ),
    "OpenAI": (
        {"object": "list", "data": [{"id": "m", "owned_by": "system"}]},
        ServerFacts(True, ("m",), "system"),
    ),
    "odd sizes": (
        {"data": [{"id": "m", "max_model_len": "4096", "n_ctx": -1, "meta": {"n_ctx": 1e9}}]},
        ServerFacts(True, ("m",)),
    ),
    "no list": ({"data": 3}, ServerFacts()),
    "no listing": (None, ServerFacts()),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_what_servers_say_of_themselves(name: str) -> None:
    listing, facts = LISTINGS[name]

    async def get(url: str, with_key: bool) -> Any:
        return listing if url == "http://a/v1/models" and with_key else None

    assert asyncio.run(read_server_facts(get, "http://a/v1", "m")) == facts


def counting(limit: int) -> server.Rule:
    """A server that counts a token for every four characters and refuses more than `limit`."""

    def rule(body: Body) -> server.Said | Fault:
        tokens = len(server.asked(body)) // 4
        if tokens + body["max_tokens"] > limit:
            return Fault(
                400,
                message=f"request ({tokens} tokens) exceeds the available context "
                f"size ({limit} tokens), try increasing it",
            )
        return server.Said('{"explanation": "cats"}', tokens_in=tokens)

    return rule


def explained(
    limit: int, name: str, tmp_path: Path
) -> tuple[list[WrittenExplanation | RequestFailure], int]:
    """A feature explained three times by windows of 40 tokens; and how many calls were refused."""
    long = [
        replace(
            window(i, "top", 5.0),
            tokens=tuple(f" word{k}" for k in range(40)),
            activations=tuple(5.0 * (k == 30) for k in range(40)),
            peak=30,
            token_ids=tuple(range(40)),
        )
        for i in range(20)
    ]
    shown = replace(windows(), explain=tuple(long))

    async def run(base_url: str) -> list[WrittenExplanation | RequestFailure]:
        with CallLog(tmp_path / "a.duckdb") as calls:
            async with open_asker(
                LlmServer("test", base_url), "m", calls, retry_policy=QUICK
            ) as ask:
                return [
                    await EXPLAINERS[name].explain(shown, ExplainerTools(ask, seed=i))
                    for i in range(1)
                ]

    with serve(counting(limit)) as running:
        found = asyncio.run(run(running.base_url))
    return found, running.calls - running.answered.total()


@pytest.mark.parametrize("name", ["max-activating", "strata", "with-logits", "token-activation"])
@pytest.mark.parametrize("limit", [900, 1400, 100_000])
def test_windows_are_cut_to_fit(name: str, limit: int, tmp_path: Path) -> None:
    (found,), refused = explained(limit, name, tmp_path)
    assert isinstance(found, WrittenExplanation)
    cut = found.detail.get("cut to the context")
    assert (cut is None) == (limit == 100_000) or name == "token-activation"
    assert refused <= 1  # the first refusal tells the sizes, and what else is too long
    assert len(found.shown) >= MIN_WINDOWS_SHOWN and len(set(found.shown)) == len(found.shown)


def test_a_question_that_cannot_be_cut_further_is_a_failure_of_its_own(tmp_path: Path) -> None:
    (found,), _ = explained(300, "max-activating", tmp_path)
    assert (
        isinstance(found, RequestFailure) and found.kind == "context size" and not found.stops_job
    )
    assert "300 tokens" in found.sentence


def test_a_judge_is_asked_about_fewer_pieces_at_once() -> None:
    """Batches of five do not fit: all are judged nevertheless, in halves."""

    def rule(body: Body) -> str | Fault:
        n = len(holds_cat(body))
        refusal = "request (3031 tokens) exceeds the available context size (2048 tokens)"
        return Fault(400, message=refusal) if n > 2 else server.digits(holds_cat(body))

    found = play("detection", rule, windows())
    assert found.failed == 0 and found.value.value == 1.0


def test_versions_of_windows_shrink_and_keep_their_peaks() -> None:
    shown = [window(i, "top", 5.0) for i in range(20)]
    sizes = [(len(v.windows), v.width) for v in shrink_windows(shown)]
    assert sizes == [(20, None), (15, None), (10, None), (5, None)]  # of six tokens each
    for width in (1, 2, 3, 5, 6, 9):
        for example in shown:
            part = cut_window(example, width)
            assert len(part.tokens) == len(part.activations) == min(width, 6)
            assert part.tokens[part.peak] == example.tokens[example.peak]
            assert part.activations[part.peak] == 5.0 and part.start + part.peak == example.peak


def test_a_server_is_asked_about_itself_once_and_its_slots_are_kept_to(tmp_path: Path) -> None:
    props = {"total_slots": 2, "default_generation_settings": {"n_ctx": 2048}}
    listing = {"data": [{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx": 2048}}]}
    notes: list[str] = []
    with serve(always('{"answers": [1, 0]}'), listing=listing, props=props) as running:
        reply = one(running.base_url, tmp_path / "a.duckdb", question(), notes=notes)
    assert isinstance(reply, Reply)
    assert any("2,048 tokens, 2 at once" in note for note in notes)
    assert running.looked == ["/v1/models", "/props"]
