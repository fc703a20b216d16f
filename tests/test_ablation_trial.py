"""What an ablation is asked and told: requests, targets, effects, rankings, data sets."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.ablation.ablation_controls import draw_control_sets
from backend.ablation.ablation_requests import (
    AblationRequest,
    EffectRankingRequest,
    PromptCase,
    read_prompt_cases,
)
from backend.ablation.dataset_ablation import ablate_dataset
from backend.ablation.effect_ranking import rank_effects
from backend.ablation.estimate_agreement import estimate_agreement
from backend.ablation.harvest_means import refuse_without_harvest
from backend.ablation.model_parts import AblationKind, ModelPart
from backend.ablation.prompt_ablation import ablate_prompts
from backend.ablation.prompt_targets import prepare_prompts
from backend.ablation.splice import splice_losses_by_dictionary
from backend.engine import LocalEngine
from feature_store.errors import InputError
from tests.harvests import Rig

TEXTS = (
    "the old cat saw a red ball and then the cat",
    "mum gave the boy a big box and mum",
    "a small bird found bread in the park and a",
    "dad said the dog ran home but dad",
)
CASES = tuple(PromptCase(text, " took", " was", label=text[:1]) for text in TEXTS)
BARE = tuple(PromptCase(text) for text in TEXTS)


@pytest.fixture(scope="module")
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def busy(engine: LocalEngine, name: str = "top", n: int = 2) -> tuple[ModelPart, ...]:
    """Features that fire on the prompts, the most frequent first."""
    fires = engine.compute_activations(engine.read(" ".join(TEXTS[:2])), [name])[name].feature
    ids, counts = np.unique(fires, return_counts=True)
    return tuple(ModelPart("feature", name, int(i)) for i in ids[np.argsort(-counts)][:n])


def test_a_request_is_what_it_was_written_as() -> None:
    cases = (*CASES, PromptCase(tokens=(0, 5, 6), at=1), PromptCase("a\nb", pair="c\nd"))
    parts = tuple(map(ModelPart.parse, ("top/3", "head:1.2", "error:abs")))
    asked = AblationRequest(cases, parts, "mean", 7, 30, "all")
    assert AblationRequest.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    ranking = EffectRankingRequest(cases, ("top",), "integrated", 3, "node", "resample", 5)
    assert EffectRankingRequest.from_json(json.loads(json.dumps(ranking.to_json()))) == ranking


@pytest.mark.parametrize(
    "given",
    [{}, {"cases": [3], "parts": []}, {"cases": 3}, {"cases": [], "parts": [], "how": "burn"}],
)
def test_what_is_no_request_is_refused(given: dict) -> None:
    with pytest.raises(InputError):
        AblationRequest.from_json(given)


def test_effects_are_ablated_less_clean_alone_and_together(engine: LocalEngine) -> None:
    asked = AblationRequest(CASES, busy(engine))
    found = ablate_prompts(engine, asked)
    assert found["target"] == "logit_diff" and found["n"] == len(CASES)
    change = found["ablated"]["logit_diff"] - found["clean"]["logit_diff"]
    assert found["joint"] == pytest.approx(change, abs=1e-5)
    for one in found["features"]:
        alone = ablate_prompts(engine, AblationRequest(CASES, (ModelPart.parse(one["part"]),)))
        assert one["effect"] == pytest.approx(alone["joint"], abs=1e-5)
    json.dumps(found, allow_nan=False)


def test_prompts_together_are_prompts_one_by_one(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither padding nor the size of a block shows."""
    asked = AblationRequest(CASES, busy(engine))
    whole = ablate_prompts(engine, asked)["prompts"]
    monkeypatch.setattr("backend.ablation.prompt_targets.MAX_ROWS_PER_PASS", 1)
    for one, other in zip(whole, ablate_prompts(engine, asked)["prompts"], strict=True):
        for field in ("loss", "loss_ablated", "kl"):
            assert one[field] == pytest.approx(other[field], abs=1e-4)
        assert one["clean"] == pytest.approx(other["clean"], abs=1e-4)


def test_without_an_answer_the_likeliest_is_taken(engine: LocalEngine) -> None:
    found = ablate_prompts(engine, AblationRequest(BARE[:1], busy(engine)))
    text = engine.read(TEXTS[0])
    ((best, p),) = engine.predict_next_tokens(text, len(text.token_ids) - 1, 1)
    assert found["prompts"][0]["answer"] == best and found["target"] == "log_prob"
    assert found["clean"]["log_prob"] == pytest.approx(np.log(p), abs=1e-4)
    assert found["clean"]["logit_diff"] is None


def test_a_stored_sequence_is_judged_behind_its_position(engine: LocalEngine) -> None:
    tokens = tuple(engine.read(TEXTS[0]).token_ids)
    laid = prepare_prompts(engine, [PromptCase(tokens=tokens, at=3)])
    assert laid.target.answers == [[tokens[4]]] and laid.prompts.last.tolist() == [3]


def test_the_targets_own_tokens_come_first(engine: LocalEngine) -> None:
    one = ablate_prompts(engine, AblationRequest(CASES, busy(engine)))["prompts"][1]
    assert [move[0] for move in one["moved"][one["at"]][:2]] == [one["answer"], one["wrong"]]
    assert len({move[0] for move in one["moved"][one["at"]]}) == len(one["moved"][one["at"]])


def test_bos_goes_only_where_all_positions_are_asked(engine: LocalEngine) -> None:
    part = (ModelPart.parse("mlp:0"),)
    kept = ablate_prompts(engine, AblationRequest(CASES[:1], part))["kl"]
    gone = ablate_prompts(engine, AblationRequest(CASES[:1], part, positions="all"))["kl"]
    assert kept[0] == pytest.approx(0, abs=1e-6) and gone[0] > 1e-4


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (AblationRequest((), (ModelPart.parse("mlp:0"),)), "no prompt"),
        (AblationRequest((PromptCase(""),), (ModelPart.parse("mlp:0"),)), "Prompt 1 is empty"),
        (
            AblationRequest((PromptCase("the cat", "", " was"),), (ModelPart.parse("mlp:0"),)),
            "but no answer",
        ),
        (
            AblationRequest((CASES[0], BARE[1]), (ModelPart.parse("mlp:0"),)),
            "for every prompt, or for none",
        ),
        (
            AblationRequest((PromptCase("the cat", " saw a"),), (ModelPart.parse("mlp:0"),)),
            "Prompt 1: ' saw a' is 2",
        ),
        (AblationRequest(CASES[:1], (ModelPart.parse("mlp:0"),), "pair"), "no second prompt"),
        (AblationRequest(CASES[:1], (ModelPart.parse("mlp:0"),), positions="some"), "'some'"),
        (
            AblationRequest(
                (PromptCase("the cat", pair="the"),), (ModelPart.parse("mlp:0"),), "pair"
            ),
            "its partner 2",
        ),
        (AblationRequest(CASES, (ModelPart.parse("top/1"),), "mean"), "is read from a harvest"),
        (
            AblationRequest(CASES[:1], (ModelPart.parse("mlp:0"),), "resample"),
            "no other prompt is as long",
        ),
    ],
)
def test_mistakes_have_their_sentence(
    engine: LocalEngine, asked: AblationRequest, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        ablate_prompts(engine, asked, refuse_without_harvest)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_a_rankings_measured_effects_are_those_of_ablating(
    engine: LocalEngine, method: str
) -> None:
    found = rank_effects(engine, EffectRankingRequest(CASES, ("top", "relu"), method, exact=4))
    sizes = [abs(row["predicted"]) for row in found["rows"]]
    assert sizes == sorted(sizes, reverse=True)
    for row in found["rows"][:4]:
        alone = ablate_prompts(engine, AblationRequest(CASES, (ModelPart.parse(row["part"]),)))
        assert row["measured"] == pytest.approx(alone["joint"], abs=1e-4)
    assert all(row["measured"] is None for row in found["rows"][4:])
    assert found["clean"] == pytest.approx(
        ablate_prompts(engine, AblationRequest(CASES, busy(engine)))["clean"]["value"], abs=1e-4
    )
    json.dumps(found, allow_nan=False)


def test_a_features_estimate_is_the_mean_of_its_nodes(engine: LocalEngine) -> None:
    whole = rank_effects(engine, EffectRankingRequest(CASES, ("top",), exact=0))["rows"]
    nodes = rank_effects(engine, EffectRankingRequest(CASES, ("top",), exact=0, unit="node"))[
        "rows"
    ]
    for row in whole[:5]:
        mine = [n["predicted"] for n in nodes if n["part"] == row["part"]]
        assert row["predicted"] == pytest.approx(sum(mine) / len(CASES), abs=1e-5)


def test_nodes_are_measured_at_their_own_token(engine: LocalEngine) -> None:
    found = rank_effects(engine, EffectRankingRequest(CASES, ("relu",), exact=6, unit="node"))[
        "rows"
    ]
    one, laid = engine.dictionaries["relu"], prepare_prompts(engine, CASES)
    for row in (r for r in found[:6] if r["feature"] is not None):
        some = laid.rows(slice(row["prompt"], row["prompt"] + 1))
        text = engine.text(some.prompts.tokens[0, some.prompts.real[0]].tolist())
        value = engine.compute_activations(text, ["relu"])["relu"].by_position(row["feature"])[
            row["position"]
        ]

        def without(h: torch.Tensor, row: dict = row, value: float = value) -> torch.Tensor:
            new = h.clone()
            new[0, row["position"]] -= value * one.W_dec[row["feature"]]
            return new

        tokens = some.prompts.tokens
        clean = some.target(engine.lm.logits(tokens))
        gone = some.target(engine.lm.logits(tokens, {one.hook_out: without}))
        assert row["measured"] == pytest.approx(float((gone - clean).detach()), abs=1e-3)
        assert 0 < row["spread"] <= 1


def test_integrated_estimates_add_up_to_what_is_measured(engine: LocalEngine) -> None:
    (cut,) = rank_effects(engine, EffectRankingRequest(CASES, ("relu",), "integrated", exact=0))[
        "cuts"
    ]
    assert cut["estimated"] == pytest.approx(cut["moved"], rel=0.02, abs=1e-3)
    assert 0 <= cut["error_share"] <= 1


WORDS = tuple(text.split()[:9] for text in TEXTS)
SWAPPED = tuple(
    replace(case, prompt=" ".join(words), pair=" ".join(reversed(words)))
    for case, words in zip(CASES, WORDS, strict=True)
)


@pytest.mark.parametrize("how", ["mean", "resample", "pair"])
def test_baselines_are_those_of_ablating(engine: LocalEngine, how: AblationKind) -> None:
    """Measured effects are an ablation's; estimates on the road to the baseline, silent features
    and error terms among them, add up to what all together do."""
    asked = EffectRankingRequest(SWAPPED, ("relu",), "integrated", 3, how=how)
    found = rank_effects(engine, asked, None, lambda part: 0.1 + 0.002 * part.index)
    for row in found["rows"][:3]:
        request = AblationRequest(SWAPPED, (ModelPart.parse(row["part"]),), how)
        alone = ablate_prompts(engine, request, lambda part: 0.1 + 0.002 * part.index)
        assert row["measured"] == pytest.approx(alone["joint"], abs=1e-4)
    (cut,) = found["cuts"]
    assert cut["estimated"] == pytest.approx(cut["moved"], rel=0.02, abs=1e-3)


@pytest.mark.parametrize("how", ["mean", "pair"])
def test_nodes_go_to_their_baseline_at_their_own_token(
    engine: LocalEngine, how: AblationKind
) -> None:
    asked = EffectRankingRequest(SWAPPED[:1], ("relu",), exact=4, unit="node", how=how)
    one, laid = engine.dictionaries["relu"], prepare_prompts(engine, SWAPPED[:1], "pair")
    there = engine.compute_activations(engine.read(SWAPPED[0].pair), ["relu"])["relu"]
    for row in rank_effects(engine, asked, None, lambda part: 0.7)["rows"][:4]:
        if row["feature"] is None:
            continue
        goes = 0.7 if how == "mean" else there.by_position(row["feature"])[row["position"]]

        def moved(h: torch.Tensor, row: dict = row, goes: float = goes) -> torch.Tensor:
            new = h.clone()
            push = (goes - row["activation"]) * one.W_dec[row["feature"]]
            new[0, row["position"]] += push
            return new

        tokens = laid.prompts.tokens
        clean = laid.target(engine.lm.logits(tokens))
        gone = laid.target(engine.lm.logits(tokens, {one.hook_out: moved}))
        assert row["measured"] == pytest.approx(float((gone - clean).detach()), abs=1e-3)


def test_a_ranking_says_what_it_cannot_take_values_from(engine: LocalEngine) -> None:
    with pytest.raises(InputError, match="is read from a harvest"):
        rank_effects(engine, EffectRankingRequest(CASES, ("relu",), how="mean"))
    with pytest.raises(InputError, match="no other prompt is as long"):
        rank_effects(engine, EffectRankingRequest(CASES[:1], ("relu",), how="resample"))
    with pytest.raises(InputError, match="no second prompt"):
        rank_effects(engine, EffectRankingRequest(CASES[:1], ("relu",), how="pair"))


def test_a_data_set_is_its_prompts(engine: LocalEngine) -> None:
    cases, parts = CASES * 3, busy(engine)
    found = ablate_dataset(engine, AblationRequest(cases, parts, controls=30))
    single = ablate_prompts(engine, AblationRequest(CASES, parts))
    assert found["effect"]["value"] == pytest.approx(single["joint"], abs=1e-4)
    assert found["effect"]["low"] < found["effect"]["value"] < found["effect"]["high"]
    labels = {one["label"]: one["effect"]["n"] for one in found["by_label"]}
    assert labels == {"t": 3, "m": 3, "a": 3, "d": 3}
    assert found["null"]["n"] == len(found["null"]["effects"]) <= 30
    json.dumps(found, allow_nan=False)


def test_controls_are_other_active_features_of_the_same_dictionary(engine: LocalEngine) -> None:
    parts = busy(engine)
    laid = prepare_prompts(engine, CASES)
    found = draw_control_sets(engine, laid, parts, 30, seed=0)
    assert found is not None and len(found.sets) > 5
    fires = engine.compute_activations(engine.read(" ".join(TEXTS[:2])), ["top"])["top"].feature
    assert len(set(fires.tolist())) > 3
    for one in found.sets:
        assert len(set(one)) == len(parts) and not set(one) & set(parts)
        assert {part.dictionary for part in one} == {"top"}
    assert draw_control_sets(engine, laid, (ModelPart.parse("mlp:0"),), 30, seed=0) is None


def test_a_splice_says_what_the_text_costs(engine: LocalEngine) -> None:
    found = splice_losses_by_dictionary(engine, CASES, ["top", "relu"])
    assert [row["dictionary"] for row in found["rows"]] == ["top", "relu"]
    for row in found["rows"]:
        assert row["with_error"] == pytest.approx(row["clean"], abs=1e-4)


def test_agreement_by_hand() -> None:
    found = estimate_agreement([(1, 2), (2, 4), (-1, -2), (0.5, 1)])
    assert found["slope"] == pytest.approx(2) and found["signs"] == 1
    assert found["pearson"] == pytest.approx(1) and found["spearman"] == pytest.approx(1)
    assert estimate_agreement([(1, 2), (1, 3)])["pearson"] is None
    assert estimate_agreement([(1, 2), (1, 3), (1, 4)])["spearman"] is None


def test_a_file_of_prompts() -> None:
    rows = b'{"prompt": "a", "answer": " b", "wrong": " c", "label": "x"}\n\n'
    assert read_prompt_cases("f", rows) == (PromptCase("a", " b", " c", label="x"),)
    for content, says in [
        (b"{", "f line 1 is not JSON"),
        (b'{"prmpt": "a"}', "Did you mean 'prompt'"),
        (b'{"prompt": 3}', "prompt is not a text"),
        (b"[]", "not a JSON object"),
        (b"", "no prompt"),
        (b"\xff", "UTF-8"),
    ]:
        with pytest.raises(InputError, match=says):
            read_prompt_cases("f", content)
