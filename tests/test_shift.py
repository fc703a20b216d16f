"""SHIFT: a planted trap is found, ranked first, taken away; probes are told what they rely on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.engine import LocalEngine
from backend.probing import shift_example
from backend.probing.logistic_probe import fit_logistic_probe
from backend.probing.probe_forward import (
    activation_at_hook,
    batch_texts,
    feature_ablation_edits,
    pool_tokens,
    pooled_activations,
)
from backend.probing.probe_ranking import rank_probe_features, sum_probe_effects
from backend.probing.probe_texts import (
    LabelledText,
    build_text_sets,
    format_labelled_texts,
    parse_labelled_texts,
)
from backend.probing.shift_evaluation import draw_matched_features, evaluate_shift
from backend.probing.shift_request import ShiftRequest
from feature_store.errors import InputError
from feature_store.records import FeatureId
from tests.dictionaries import loaded
from tests.planted import EMBEDDED, engine, trapped

HAPPY, SAD = FeatureId("words", 2), FeatureId("words", 3)


@pytest.fixture(scope="module")
def live(tiny_lm, tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    later = loaded(tmp_path_factory.mktemp("d"), "topk", d_in=16)
    return engine(tiny_lm, replace(later, name="later"))


@pytest.fixture(scope="module")
def asked() -> ShiftRequest:
    return ShiftRequest(
        trapped(200, together=True), trapped(200, together=False), EMBEDDED, ("words",), exact=6
    )


@pytest.fixture(scope="module")
def judged(live: LocalEngine, asked: ShiftRequest) -> dict:
    return evaluate_shift(live, asked.with_features((HAPPY, SAD), 4))


def test_the_planted_trap_is_ranked_first(live: LocalEngine, asked: ShiftRequest) -> None:
    rows = rank_probe_features(live, asked)["rows"]
    assert {row["feature"] for row in rows[:2]} == {str(HAPPY), str(SAD)}
    assert all(row["effect"] < 0 for row in rows[:2])
    by = {row["feature"]: row for row in rows}
    assert by[str(HAPPY)]["texts"][0] == 0 == by[str(SAD)]["texts"][1]


def test_at_the_probes_own_hook_the_estimate_is_the_removal(
    live: LocalEngine, asked: ShiftRequest
) -> None:
    found = rank_probe_features(live, asked)
    for row in found["rows"]:
        assert row["measured"] == pytest.approx(row["effect"], abs=1e-4)
    assert found["agreement"]["slope"] == pytest.approx(1, abs=1e-3)


def test_without_the_trap_the_worst_group_is_right(judged: dict) -> None:
    told = judged["conditions"]
    assert told["before"]["worst"]["value"] < 0.5
    assert told["removed"]["worst"]["value"] > told["before"]["worst"]["high"]
    assert told["retrained"]["worst"]["value"] > 0.95
    assert told["skyline"]["accuracy"]["value"] > 0.95
    assert judged["majority"]["accuracy"]["value"] == pytest.approx(0.5, abs=0.03)
    assert judged["worst_changes"]["retrained"]["low"] > 0
    json.dumps(judged, allow_nan=False)


def test_random_features_do_not_help(live: LocalEngine, asked: ShiftRequest) -> None:
    """They are other ones of the same dictionary, and as many."""
    given = asked.with_features((HAPPY, SAD), 5)
    laid, signs = batch_texts(live, [e.text for e in given.train]), np.array([1, -1] * 100)
    probe = fit_logistic_probe(pooled_activations(live, laid, EMBEDDED, "mean"), signs)
    sums, _ = sum_probe_effects(live, given, laid, probe, signs)
    draws, factor = draw_matched_features(sums, given, 200)
    assert len(draws) == 5 and factor is not None
    for drawn in draws:
        assert len(set(drawn)) == 2 and not {HAPPY, SAD} & set(drawn)


def test_one_text_at_a_time_is_all_at_once(
    live: LocalEngine, asked: ShiftRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(asked, exact=0, hook="blocks.2.hook_resid_post", dictionaries=("words", "later"))
    few = replace(few, train=trapped(40, together=True))
    whole = rank_probe_features(live, few)
    monkeypatch.setattr("backend.contrast.document_encoding.TOKENS_PER_PASS", 1)
    for one, other in zip(whole["rows"], rank_probe_features(live, few)["rows"], strict=True):
        assert one["effect"] == pytest.approx(other["effect"], abs=1e-4)


def test_downstream_a_removal_is_what_the_stream_lacks(live: LocalEngine) -> None:
    """The two words of a pair become one and the same, and no other token is touched."""
    (laid,) = batch_texts(live, ["girl happy ball", "boy sad tree"])
    edits = feature_ablation_edits(live.lm, live.dictionaries, [HAPPY, SAD], laid.counted)
    x = activation_at_hook(live.lm, laid.tokens, EMBEDDED, {})
    gone = activation_at_hook(live.lm, laid.tokens, EMBEDDED, edits)
    middle = x[:, 2].mean(0)
    assert torch.allclose(gone[:, 2], middle.expand(2, -1), atol=1e-5)
    assert torch.equal(gone[:, [0, 1, 3]], x[:, [0, 1, 3]])


def test_a_dictionary_behind_the_probe_is_named(live: LocalEngine, asked: ShiftRequest) -> None:
    both = replace(asked, dictionaries=("words", "later"), exact=0)
    assert rank_probe_features(live, both)["beyond"] == ["later"]
    with pytest.raises(InputError, match="choose a later hook point"):
        rank_probe_features(live, replace(both, dictionaries=("later",)))


def test_the_last_token_and_the_mean(live: LocalEngine) -> None:
    h = torch.arange(12.0).view(1, 4, 3)
    counted = torch.tensor([[False, True, True, False]])
    assert torch.equal(pool_tokens(h, counted, "last"), h[:, 2])
    assert torch.equal(pool_tokens(h, counted, "mean"), h[:, 1:3].mean(1))


def test_a_request_is_what_it_was_written_as(asked: ShiftRequest) -> None:
    full = replace(asked, features=(HAPPY,), pool="last", seed=3)
    assert ShiftRequest.from_json(json.loads(json.dumps(full.to_json()))) == full
    with pytest.raises(InputError, match="not a SHIFT request"):
        ShiftRequest.from_json({"train": 3})


def test_a_stop_ends_the_work(live: LocalEngine, asked: ShiftRequest) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank_probe_features(live, asked, stop)


def test_nothing_marked_is_refused(live: LocalEngine, asked: ShiftRequest) -> None:
    with pytest.raises(InputError, match="mark those that"):
        evaluate_shift(live, asked)


def test_texts_are_read_as_they_were_written() -> None:
    texts = (LabelledText("a cat", "x", "g"), LabelledText("the dog", "y"))
    assert parse_labelled_texts(format_labelled_texts(texts), "t") == texts
    assert parse_labelled_texts("x\tg\ta cat\n\ny\tthe dog\r\n", "t") == texts


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no tab", "t, line 1 has no text or no label"),
        ('{"text": 3}', "t, line 1 must look like"),
        ("{", "t, line 1 is not JSON"),
        ('{"text": "a"}', "no text or no label"),
    ],
)
def test_lines_that_will_not_do(line: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_labelled_texts(line, "t")


def test_sets_that_will_not_do() -> None:
    good = trapped(40, together=True)
    with pytest.raises(InputError, match="exactly two labels"):
        build_text_sets([e for e in good if e.label == "he"], good)
    with pytest.raises(InputError, match="at least 10 are needed"):
        build_text_sets(good[:6], good)
    with pytest.raises(InputError, match="not among the training"):
        build_text_sets(good, good)  # none is left to judge on
    with pytest.raises(InputError, match="both labels"):
        build_text_sets([*good, replace(good[0], label="he")], good)


def test_a_text_to_learn_from_is_not_judged() -> None:
    train, test = trapped(40, together=True), trapped(40, together=False)
    found = build_text_sets(train, [*test, train[0], test[0]])
    assert train[0] not in found.test and found.repeats == 2 + 80 - len({*train, *test})


def test_the_example_is_trapped_in_training_alone() -> None:
    train, test = shift_example.draw_training_texts(), shift_example.draw_held_out_texts()
    assert {e.cell for e in train} == {"girl · good", "boy · bad"}
    assert {e.cell: 100 for e in test} == {
        c: sum(e.cell == c for e in test) for c in {e.cell for e in test}
    }
    assert build_text_sets(train, test).labels == ("boy", "girl")
