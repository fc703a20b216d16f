"""`saefari explain` and `saefari score`: from the command to the summary, or to a sentence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.jobs import explaining, scoring
from app.jobs.asking import Asking
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from autointerp.contexts import FeatureSample, SampleSettings
from autointerp.pipeline.cost_estimate import estimate_reply_tokens, estimate_tokens
from autointerp.pipeline.feature_selection import (
    FeatureSelection,
    features_with_enough_windows,
    most_active_features,
    sample_selected_features,
)
from feature_store.feature_list_edits import add_features, create_list
from feature_store.jobs import Jobs
from feature_store.records import FeatureId
from feature_store.store import Store
from tests import openai_server as server
from tests.commands import answer, data, refusal
from tests.jobs import MANY, NAME
from tests.openai_server import Said, always, asked, serve, then

KEYS = {
    "explainer",
    "scorer",
    "n",
    "mean",
    "low",
    "high",
    "nulls",
    "failed",
    "skipped",
    "calls",
    "tokens",
    "cost",
}


@pytest.fixture
def store(base: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = Store.create(tmp_path / "store")
    (path,) = (base.path / "harvests").glob("*.duckdb")
    (found.path / "harvests" / path.name).hardlink_to(path)
    return found


def words(command: str, store: Store, *more: str, **options: object) -> list[str]:
    given = {"store": store.path, "dictionary": NAME, "features": "all"} | options
    pairs = [w for k, v in given.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    return [command, *pairs, *more]


@pytest.fixture
def running() -> Iterator[server.Server]:
    """Counts three bytes a token, as no rule of ours does."""

    def rule(body) -> Said:
        text = asked(body)
        said = "answers" in json.dumps(body.get("response_format", ""))
        reply = {"answers": [1] * 5} if said else {"explanation": f"about {hash(text)}"}
        return Said(json.dumps(reply), tokens_in=len(text.encode()) // 3, tokens_out=17)

    with serve(rule) as found:
        yield found


def test_without_a_language_model(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    explained = data(words("explain", store), capsys)
    (row,) = explained["results"]
    assert set(row) >= KEYS and (row["explainer"], row["n"], row["calls"]) == ("pattern", 18, 0)
    assert set(explained["skipped"]) == {"dead", "few", "dense"} and explained["state"] == "done"
    scored = data(words("score", store), capsys)
    (row,) = scored["results"]
    assert set(row) >= KEYS and (row["explainer"], row["scorer"]) == ("pattern", "detection")
    assert set(row["nulls"]) == {"borrowed", "constant", "token"} and row["cost"] == 0
    assert all("difference" in null for null in row["nulls"].values())
    shown = answer(words("score", store, features="top:3"), capsys)
    assert (
        "pattern · detection" in shown
        and "borrowed" in shown
        and "Left out: " in shown
        and "feature" in shown
    )


def test_a_server_is_asked_within_its_budget(
    store: Store, running: server.Server, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "saefari").mkdir()
    (tmp_path / "saefari" / "prices.toml").write_text('["m"]\ninput = 100.0\noutput = 100.0\n')
    given = {"model": "m", "base_url": running.base_url, "explainer": "max-activating"}
    found = data(words("explain", store, **given, budget=0.5, concurrency=1), capsys)
    (row,) = found["results"]
    assert "budget" in found["stopped"] and 0 < row["n"] < 18 and row["cost"] <= 0.5
    again = data(words("explain", store, **given), capsys)
    assert again["results"][0]["n"] == 18 and running.calls == 18


def test_the_estimate_is_near(store: Store, running: server.Server, capsys) -> None:
    """Within 15 % of what it comes to, once the model's counting is known."""
    given = {"model": "m", "base_url": running.base_url, "explainer": "max-activating"}
    data(words("explain", store, **given), capsys)
    harvest, asking = store.harvest().record.id, Asking(running.base_url, "m")
    wanted = Explaining(harvest, MANY, "top:20", ("max-activating",), asking)
    found = explaining.estimate(store, wanted)
    row = data(words("explain", store, **given, dictionary=MANY, features="top:20"), capsys)[
        "results"
    ][0]
    assert found.learned and found.features == pytest.approx(20)
    near(found, row)
    given |= {"judge": "openai"}
    data(words("score", store, **given, features="top:2"), capsys)
    found = scoring.estimate(
        store, Scoring(harvest, NAME, "top:4", ("detection",), "openai", None, asking)
    )
    # other contexts, so that the first job's replies are of no use
    near(
        found, data(words("score", store, **given, features="top:4", seed=1), capsys)["results"][0]
    )


def test_only_features_with_an_explanation_are_counted(store: Store, running, capsys) -> None:
    """Most of the most active have none here, and a job asks about none of these."""
    few = ",".join(map(str, range(0, 60, 4)))
    given = {"dictionary": MANY, "model": "m", "base_url": running.base_url, "judge": "openai"}
    n = data(words("explain", store, dictionary=MANY, features=few), capsys)["results"][0]["n"]
    data(words("score", store, **given, features="top:12", seed=3), capsys)
    wanted = Scoring(
        store.harvest().record.id,
        MANY,
        "top:30",
        ("detection",),
        "openai",
        asking=Asking(running.base_url, "m"),
    )
    found = scoring.estimate(store, wanted)
    row = data(words("score", store, **given, features="top:30"), capsys)["results"][0]
    scored = {s["feature"] for s in store.catalog.snapshot().scores.of_dictionary(MANY).to_pylist()}
    assert found.features == pytest.approx(len(scored), rel=0.15) and len(scored) <= n < 20
    near(found, row)


@pytest.mark.parametrize("name", [NAME, MANY])
def test_what_a_job_will_take_is_foreseen(store: Store, name: str) -> None:
    """But for features with barely enough windows, some of which overlap, as many do here."""
    file = store.harvest()
    choice = FeatureSelection(most_active_features(file, name))
    found = dict(sample_selected_features(file, name, choice, SampleSettings()))
    taken = [f.index for f, windows in found.items() if isinstance(windows, FeatureSample)]
    told = features_with_enough_windows(file, name, choice).tolist()
    more = set(told) - set(taken)
    assert [i for i in told if i not in more] == taken and len(more) <= 0.15 * len(taken)
    assert (
        features_with_enough_windows(file, name, FeatureSelection(choice.order, 5)).tolist()
        == told[:5]
    )


def near(found, row: dict) -> None:
    assert found.calls == pytest.approx(row["calls"], rel=0.15)
    assert found.tokens_in + found.tokens_out == pytest.approx(row["tokens"], rel=0.15)


def test_rules_of_thumb() -> None:
    assert estimate_tokens("The old cat's 25 hats, unbelievably!") == 13
    schema = {
        "type": "object",
        "properties": {"answers": {"type": "array", "minItems": 5, "items": {"type": "integer"}}},
    }
    assert estimate_reply_tokens(schema) == 27 and estimate_reply_tokens(None) == 30


def test_the_same_command_goes_on_where_it_failed(store: Store, capsys) -> None:
    rule = then([server.UNAUTHORIZED], always('{"explanation": "a word"}'))
    with serve(rule) as running:
        given = words(
            "explain",
            store,
            explainer="max-activating",
            model="m",
            base_url=running.base_url,
            concurrency=1,
        )
        assert "the same command resumes the job" in refusal(given, capsys)
        assert data(given, capsys)["results"][0]["n"] == 18
    (job,) = Jobs(store.path).list_jobs()
    assert job.state == "done"


def test_lists_and_numbers(store: Store, capsys) -> None:
    some = data(words("explain", store), capsys)["job"]
    good = sorted(store.catalog.snapshot().explanations.texts_by_feature(NAME))[:2]
    name = create_list(store.catalog, "mine", "")
    add_features(store.catalog, name, [FeatureId(NAME, i) for i in good])
    found = data(words("score", store, features="list:mine"), capsys)
    assert found["features"] == 2 and some != found["job"]
    numbers = ",".join(map(str, good))
    assert data(words("score", store, features=numbers), capsys)["features"] == 2


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        ("explain", {"features": "top:0"}, "write top:500"),
        ("explain", {"features": "topp"}, "names no features. Write top:N, all, list:NAME"),
        ("explain", {"features": "list:nobody"}, "There is no list 'nobody'"),
        ("explain", {"features": "3,900"}, "features 0 to 119"),
        ("explain", {"explainer": "patern"}, "Did you mean 'pattern'"),
        ("explain", {"explainer": "strata"}, "Say which server to ask"),
        ("explain", {"explainer": "strata", "base_url": "nowhere"}, "is no base URL"),
        ("explain", {"explainer": "strata", "base_url": "http://127.0.0.1:1/v1"}, "which model"),
        ("score", {}, "no explanation to score"),
        ("score", {"scorer": "detectoin"}, "Did you mean 'detection'"),
        ("score", {"scorer": "intruder"}, "use --judge openai"),
    ],
)
def test_mistakes_are_sentences(
    store: Store, command: str, options: dict, sentence: str, capsys
) -> None:
    assert sentence in refusal(words(command, store, **options), capsys)
    assert not Jobs(store.path).list_jobs()
