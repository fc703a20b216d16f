"""Jobs that explain and score: what is kept, what failed, and what labels without sense get."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from app.jobs import explaining, scoring
from app.jobs.asking import Asking, so_far
from app.jobs.embedding import shown
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from autointerp.explainers import EXPLAINERS
from autointerp.llm import CallLog, RequestFailure
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.scorers import SCORERS
from feature_store.corpus_text import SPECIAL_TOKEN
from feature_store.errors import InputError
from feature_store.job_process import JobCancelled, JobProcess, run_job
from feature_store.jobs import Jobs
from feature_store.records import FeatureId
from feature_store.score_storage import read_score_details
from feature_store.store import Store
from tests import jobs as rules
from tests import openai_server as server
from tests.asking import QUICK
from tests.harvests import Rig
from tests.jobs import MANY, NAME, again, carry, explainable
from tests.openai_server import Said, always, asked, serve, then


@pytest.fixture(scope="module")
def base(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return explainable(rig, tmp_path_factory.mktemp("explainable"))


@pytest.fixture
def store(base: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of its own with the shared harvest."""
    monkeypatch.setattr(explaining, "table", lambda: rules.EXPLAINERS)
    monkeypatch.setattr(scoring, "table", lambda: rules.SCORERS)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    found = Store.create(tmp_path / "store")
    (path,) = (base.path / "harvests").glob("*.duckdb")
    (found.path / "harvests" / path.name).hardlink_to(path)
    return found


def explain(
    store: Store, features: str = "all", *names: str, dictionary: str = NAME, **asking
) -> tuple:
    given = Explaining("", dictionary, features, names or ("word",), Asking(**asking))
    return carry(store, "explain", explaining.checked(store, given).to_json(), explaining.do)


def score(
    store: Store,
    features: str = "all",
    *names: str,
    judge: str = "pattern",
    dictionary: str = NAME,
    **more,
):
    asking = Asking(**{n: more.pop(n) for n in ("base_url", "model", "budget") if n in more})
    given = Scoring("", dictionary, features, names or ("by-hand",), judge, asking=asking, **more)
    return carry(store, "score", scoring.checked(store, given).to_json(), scoring.do)


def texts(store: Store) -> dict[int, list[str]]:
    return store.catalog.snapshot().explanations.texts_by_feature(NAME)


def test_every_feature_is_explained_or_skipped_with_a_reason(store: Store) -> None:
    job, result = explain(store)
    d_sae = store.harvest().dictionary(NAME).d_sae
    (row,) = result["results"]
    assert row["n"] == len(texts(store)) > 8 and row["failed"] == 0
    assert row["n"] + sum(result["skipped"].values()) == d_sae
    assert set(result["skipped"]) == {"dead", "few", "dense"}
    (one,) = store.catalog.snapshot().explanations.of_feature(
        FeatureId(NAME, next(iter(texts(store))))
    )
    said = json.loads(one.provenance)
    assert (one.author, said["source"], said["job"]) == ("model", "saefari", job.id)
    assert said["harvest"] == store.harvest().record.id and len(said["shown"]) >= 5


def test_a_harvest_takes_so_much_memory_and_no_more(store: Store) -> None:
    explain(store, "top:1")
    query = "SELECT current_setting('memory_limit') AS most"
    (most,) = store.harvest().rows(query).column("most").to_pylist()
    assert most == "45.7 MiB"  # 48 MB


def test_the_most_active_with_enough_contexts_are_taken(store: Store) -> None:
    file = store.harvest()
    active = {i: file.facts(FeatureId(NAME, i)).n_active for i in range(120)}
    _, result = explain(store, "top:5")
    few = texts(store)
    explain(store)
    best = sorted(texts(store), key=lambda i: (-active[i], i))[:5]
    assert sorted(few) == sorted(best) and result["explained"] == 5
    assert "dead" not in result["skipped"]


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """End the job when `n` features are written, one batch each."""
    monkeypatch.setattr("autointerp.pipeline.worker_pool.FLUSH_S", 0.001)
    monkeypatch.setattr("autointerp.pipeline.worker_pool.LOOK_S", 0.001)
    plain = JobProcess.progress

    def progress(self: JobProcess, done: int, total: int, note: str, *more: float | None) -> None:
        plain(self, done, total, note, *more)
        if done >= n:
            raise JobCancelled

    monkeypatch.setattr(JobProcess, "progress", progress)


def test_what_was_done_is_not_done_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    explained: list[int] = []

    async def noted(windows, tools):
        explained.append(windows.feature.index)
        await asyncio.sleep(0.2)
        return await rules.by_word(windows, tools)

    table = {"word": replace(rules.EXPLAINERS["word"], explain=noted)}
    monkeypatch.setattr(explaining, "table", lambda: table)
    given = explaining.checked(store, Explaining("", NAME, "top:99", ("word",)))
    job = Jobs(store.path).create("explain", given.to_json(), "a test")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(JobCancelled):
            again(store, job, explaining.do)
    kept, first = set(texts(store)), len(explained)
    assert 0 < len(kept) < 18 and kept <= set(explained)
    result = again(store, job, explaining.do)
    assert sorted(set(explained)) == sorted(texts(store))
    assert result["explained"] == len(set(explained)) == 18
    assert len(explained) <= 18 + 2 and not kept & set(explained[first:])
    assert again(store, job, explaining.do) == result
    with duckdb.connect(str(store.catalog.path), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM explanation").fetchall() == [(18,)]


@pytest.fixture
def running() -> Iterator[server.Server]:
    with serve(lambda body: f"about {asked(body)}") as found:
        yield found


def test_a_server_explains_and_the_same_again_costs_nothing(store: Store, running) -> None:
    job, first = explain(store, "all", "asking", base_url=running.base_url, model="m")
    n = first["results"][0]["n"]
    assert running.calls == n == first["results"][0]["calls"] and first["lost"] == 0
    assert first["results"][0]["tokens"] == 110 * n and first["results"][0]["cost"] == 0.0
    assert so_far(job)["calls"] == n and so_far(job)["explained"] == {"asking": n}
    _, second = explain(store, "all", "asking", base_url=running.base_url, model="m")
    assert running.calls == n and second["results"][0]["calls"] == 0
    assert second["results"][0]["n"] == n


def test_tokens_that_a_server_does_not_count_are_not_known_to_be_none(store: Store) -> None:
    """One reply without a count is enough: a sum over the others would be too low."""
    with serve(then([Said("a word", tokens_in=None)], always("a word"))) as running:
        job, result = explain(store, "top:3", "asking", base_url=running.base_url, model="m")
    assert result["results"][0]["calls"] == 3 and so_far(job)["calls"] == 3
    assert result["results"][0]["tokens"] is None and so_far(job)["tokens"] is None
    with CallLog(job.data_path) as calls:  # and from the file as while it was asked
        assert (calls.totals().calls, calls.totals().uncounted) == (3, 1)


def test_failures_are_counted_and_only_they_are_retried(store: Store) -> None:
    with serve(then([server.REFUSAL, server.EMPTY], always("a word"))) as running:
        given = {"base_url": running.base_url, "model": "m"}
        job, result = explain(store, "all", "asking", **given)
        (row,) = result["results"]
        n = row["n"]
        assert row["failed"] == 2 and len(texts(store)) == n
        calls = running.calls
        _, second = explain(store, f"failed:{job.id}", "asking", **given, again=True)
        assert running.calls == calls + 2 and second["results"][0]["n"] == 2
        assert len(texts(store)) == n + 2
        with pytest.raises(InputError, match="Nothing failed"):
            explain(store, f"failed:{Jobs(store.path).list_jobs()[0].id}", "asking", **given)


def test_a_job_begun_again_does_what_had_failed_and_no_more(store: Store, monkeypatch) -> None:
    asked: list[int] = []

    async def moody(windows, tools):
        asked.append(windows.feature.index)
        if len(asked) <= 2:
            return RequestFailure("timeout", "It took too long.")
        return await rules.by_word(windows, tools)

    table = {"word": replace(rules.EXPLAINERS["word"], explain=moody)}
    monkeypatch.setattr(explaining, "table", lambda: table)
    job, result = explain(store, "top:6")
    assert result["failed"] == 2 and result["explained"] == 4
    second = again(store, job, explaining.do)
    assert (second["failed"], second["explained"]) == (0, 6) and sorted(asked[6:]) == sorted(
        asked[:2]
    )


def test_a_budget_ends_it_and_keeps_everything(
    store: Store, running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEFARI_PRICES", str(tmp_path / "prices.toml"))
    (tmp_path / "prices.toml").write_text('["m"]\ninput = 1000.0\noutput = 1000.0\n')
    given = {"base_url": running.base_url, "model": "m", "concurrency": 1}
    _, result = explain(store, "all", "asking", **given, budget=1.5)
    assert "budget of $1.50" in result["stopped"]
    (row,) = result["results"]
    assert 0 < row["n"] == len(texts(store)) < 12 and row["failed"] == 0
    assert row["cost"] == pytest.approx(0.11 * row["n"]) and row["cost"] <= 1.5


def test_a_server_that_wants_a_long_rest_ends_it_with_a_sentence(store: Store) -> None:
    """Nothing is counted as failed for it, and the server is left alone."""
    rest = server.Fault(429, retry_after="3600")
    with serve(then(["a word"] * 3, always(rest))) as running:
        given = Explaining("", NAME, "all", ("asking",), Asking(running.base_url, "m"))
        job = Jobs(store.path).create(
            "explain", explaining.checked(store, given).to_json(), "a test"
        )
        with pytest.raises(InputError, match=r"wait 3,600 s: resume the job then"):
            again(store, job, explaining.do)
    assert running.calls <= 3 + 16 and len(texts(store)) == 3
    assert not ProgressLog(job.folder).failed()


def test_a_cancelled_job_keeps_what_was_paid_for(store: Store) -> None:
    """Calls under way are answered and kept; whoever goes on asks for none of them again."""
    explain(store, "top:2", "word")
    seen: list[str] = []

    def rule(body: server.Body) -> Said:
        seen.append(asked(body))
        if len(seen) == 30:  # in the midst of a feature
            (job.folder / "cancel").touch()
        return Said("1", delay_s=0.03)

    with serve(rule) as running:
        asking = Asking(running.base_url, "m", concurrency=8)
        given = Scoring("", NAME, "top:1", ("by-reply",), "openai", asking=asking)
        job = Jobs(store.path).create("score", scoring.checked(store, given).to_json(), "a test")
        with pytest.raises(JobCancelled):
            again(store, job, scoring.do)
        first = len(seen)
        (job.folder / "cancel").unlink()
        (row,) = again(store, job, scoring.do)["results"]
    assert 30 <= first < len(seen) and len(seen) == len(set(seen))
    assert (row["calls"], row["tokens"], row["failed"]) == (len(seen), 110 * len(seen), 0)


def test_a_model_that_thinks_has_room_for_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much as the file of servers says, beyond what the same questions have otherwise."""
    monkeypatch.setattr(explaining, "table", lambda: EXPLAINERS)
    monkeypatch.setattr(scoring, "table", lambda: SCORERS)
    monkeypatch.setenv("SAEFARI_SERVERS", str(tmp_path / "servers.toml"))
    rooms = []
    for thinking in (0, 500):
        with serve(always('{"explanation": "a word"}')) as running:
            text = f'[servers.a]\nbase_url = "{running.base_url}"\nthinking = {thinking}\n'
            (tmp_path / "servers.toml").write_text(text)
            given = {"base_url": running.base_url, "model": "m"}
            explain(store, "top:1", "max-activating", **given)
            with pytest.raises(InputError, match="No question got a usable answer"):
                score(store, "top:1", "detection", judge="openai", **given)
        rooms.append([body["max_tokens"] for body in running.bodies])
    assert len(rooms[0]) > 2 and rooms[1] == [n + 500 for n in rooms[0]]


def test_words_are_named_from_texts_of_the_explain_split_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "table", lambda: EXPLAINERS)
    file = store.harvest()
    query = "SELECT sequence FROM sequence WHERE split = 'explain' ORDER BY sequence"
    numbers = file.rows(query).column("sequence").to_pylist()
    texts = ["".join(file.vocabulary.display(file.sequences.tokens(i))) for i in numbers]
    assert 0 < len(texts) < len(file.sequences)
    assert shown(file) == [SPECIAL_TOKEN.sub(" ", text) for text in texts]
    seen: list[list[str]] = []
    monkeypatch.setattr(explaining, "words", lambda corpus: seen.append(corpus) or ["park", "sea"])
    explain(store, "top:2", "nearest-text")
    assert seen == [shown(file)]


def test_a_wrong_model_ends_it_with_a_sentence(store: Store) -> None:
    with serve(always(server.NO_MODEL)) as running, pytest.raises(InputError, match="model"):
        explain(store, "all", "asking", base_url=running.base_url, model="m")
    assert running.calls <= 16 and not texts(store)


def test_a_server_that_cannot_be_reached_fails_the_job_and_loses_nothing(
    store: Store, running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered before is used; once the URL is right, the rest is asked there."""
    monkeypatch.setattr("autointerp.llm.server_asker.RetryPolicy", lambda: QUICK)
    explain(store, "top:3", "asking", base_url=running.base_url, model="m")
    with serve(always("")) as gone:
        pass
    given = Explaining("", NAME, "top:9", ("asking",), Asking(gone.base_url, "m"))
    arguments = explaining.checked(store, given).to_json()
    job = Jobs(store.path).create("explain", arguments, "a test")
    assert run_job(job, lambda work: explaining.do(store, work)) == "failed"
    failed = Jobs(store.path).get(job.id)
    assert failed.state == "failed"
    assert gone.base_url in failed.error and "Check that the server is running" in failed.error
    assert failed.error in failed.read_log() and len(texts(store)) == 3
    _, result = explain(store, "top:9", "asking", base_url=running.base_url, model="m")
    assert len(texts(store)) == result["results"][0]["n"] == 9 and running.calls == 9


def test_a_full_disk_is_a_sentence_and_what_was_kept_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain(store, "top:3")

    def full(self: ProgressLog, entries: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr(ProgressLog, "add", full)
        explain(store)
    assert len(texts(store)) >= 3
    _, result = explain(store)
    assert result["explained"] == len(texts(store)) == 18


def test_scores_stand_beside_labels_that_know_nothing(store: Store) -> None:
    explain(store)
    job, result = score(store)
    (row,) = result["results"]
    assert (row["explainer"], row["scorer"]) == ("word", "by-hand")
    explained = texts(store)
    scores = [
        s for i in explained for s in store.catalog.snapshot().scores.of_feature(FeatureId(NAME, i))
    ]
    assert len(scores) == len(explained) and all(s.judge == "pattern" for s in scores)
    for s in scores:
        kept = read_score_details(store.catalog, s.score)
        assert s.constant == 0.5 and s.token == s.value  # the sentence is the token's label
        lender = kept.nulls["borrowed"]["lender"]
        assert lender != s.feature and kept.nulls["borrowed"]["label"] == explained[lender][0]
        assert kept.parts["hard"]["value"] == s.value and s.job == job.id
        assert {item["truth"] for item in kept.judged} == {0.0, 1.0}


def test_the_summary_is_of_the_features_scores(store: Store) -> None:
    explain(store, dictionary=MANY)
    job, result = score(store, dictionary=MANY)
    (row,) = result["results"]
    (told,) = so_far(job)["means"].values()  # to whoever watches: n and interval, too
    assert (told["n"], told["mean"]) == (row["n"], row["mean"])
    assert [told[end] for end in ("low", "high")] == pytest.approx(
        [row["low"], row["high"]], abs=0.02
    )
    scores = store.catalog.snapshot().scores.of_dictionary(MANY).to_pylist()
    assert row["n"] == len(scores) > 20
    assert row["mean"] == pytest.approx(sum(s["value"] for s in scores) / len(scores))
    apart = [s["value"] - s["borrowed"] for s in scores]
    null = row["nulls"]["borrowed"]["difference"]
    assert null["mean"] == pytest.approx(sum(apart) / len(apart)) and null["low"] < null["high"]
    assert row["nulls"]["constant"]["mean"] == 0.5
    assert row["verdict"]["finding"] and row["pairs"] >= 40 * len(scores)
    assert row["parts"]["hard"]["mean"] == row["mean"]
    assert row["calls"] == row["tokens"] == row["failed"] == 0 and row["cost"] == 0.0


def test_what_nobody_explained_is_skipped(store: Store) -> None:
    with pytest.raises(InputError, match="has no explanation to score"):
        score(store)
    explain(store, "top:3")
    _, result = score(store)
    assert result["skipped"]["unexplained"] > 0 and len(store.catalog.snapshot().scores.table) == 3
    with pytest.raises(InputError, match="no explanation by 'wrod'. Did you mean 'word'"):
        score(store, explainer="wrod")


def test_windows_without_an_answer_are_failed_and_in_no_number(store: Store) -> None:
    explain(store, "top:2")
    with serve(then([server.REFUSAL] * 7, always("1"))) as running:
        _, result = score(
            store, "top:2", "by-reply", judge="openai", base_url=running.base_url, model="m"
        )
    scores = store.catalog.snapshot().scores.table.to_pylist()
    lost = sum(
        null["failed"]
        for s in scores
        for null in read_score_details(store.catalog, s["score"]).nulls.values()
    )
    assert sum(s["failed"] for s in scores) + lost >= 7
    assert all(s["value"] in (0.5, None) and s["judge"] == "m" for s in scores)
    assert result["results"][0]["calls"] == running.calls
