"""What jobs of explanations say of themselves: reasons of failures, progress, time, the end."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli import main
from app.jobs import explaining, scoring, starting
from app.jobs.asking import Asking, keep_estimate, read_estimate, so_far, take_trial, wish_trial
from app.jobs.estimate_words import describe_estimate
from app.jobs.explaining import Explaining
from app.scores import asked as pages_asked
from app.scores import telling
from autointerp.llm.failure_kinds import FAILURE_KINDS
from autointerp.llm.requests_and_replies import ChatMessage, ChatRequest, Reply, RequestFailure
from autointerp.llm.shorter_retry import retry_shorter_if_too_long
from autointerp.pipeline.cost_estimate import CostEstimate
from autointerp.pipeline.explain_job import ExplainTally
from autointerp.pipeline.pausable_asker import PausableAsker
from autointerp.pipeline.question_tally import (
    FailureCount,
    QuestionCounts,
    QuestionTally,
    describe_failures,
)
from autointerp.pipeline.score_summary import ScoreSummary
from autointerp.pipeline.time_estimate import MeasuredReply, QuestionLoad, ReplyPace, measure_pace
from feature_store.job_process import JobStopped, run_job
from feature_store.jobs import Jobs
from feature_store.store import Store
from tests.commands import answer, data, refusal
from tests.jobs import NAME
from tests.openai_server import CUT_OFF, Fault, Said, always, asked, serve, then

GOOD = '{"explanation": "a word"}'
REJECTED = Fault(400, message="This server takes no such questions.")
TOO_LONG = Fault(400, message="The request exceeds the available context size (512 tokens).")


@pytest.fixture
def store(base: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = Store.create(tmp_path / "store")
    (path,) = (base.path / "harvests").glob("*.duckdb")
    (found.path / "harvests" / path.name).hardlink_to(path)
    return found


def words(store: Store, base_url: str, *more: str, features: str = "top:6") -> list[str]:
    return [
        "explain",
        "--store",
        str(store.path),
        "--dictionary",
        NAME,
        "--features",
        features,
        "--explainer",
        "max-activating",
        "--model",
        "m",
        "--base-url",
        base_url,
        "--concurrency",
        "1",
        *more,
    ]


failures = st.dictionaries(
    st.sampled_from([*FAILURE_KINDS, "a kind of a later version"]), st.integers(1, 50), max_size=4
)


@given(st.lists(st.tuples(st.integers(0, 9), failures), max_size=6))
def test_counts_of_features_add_up_and_survive_the_ledger(
    tallies: list[tuple[int, dict[str, int]]],
) -> None:
    """Written as JSON and read again, in any order; a feature done twice counts once."""
    counts, expected = QuestionCounts(), QuestionTally()
    for feature, (answered, kinds) in enumerate(tallies):
        tally = QuestionTally(answered)
        for kind, n in kinds.items():
            for _ in range(n):
                tally.count(RequestFailure(kind, f"{kind} it was."))  # type: ignore[arg-type]
        expected.merge(tally)
        entry = {"feature": feature, "questions": json.loads(json.dumps(tally.to_json()))}
        former = QuestionTally(99, {"timeout": FailureCount(5, "It was former.")})
        counts.add({"feature": feature, "questions": former.to_json()})
        counts.add(entry)
    assert counts.total().to_json() == expected.to_json()
    sentences = describe_failures(counts.total())
    assert len(sentences) == len(expected.failures)
    for kind, one in expected.failures.items():
        (sentence,) = [s for s in sentences if f"For example: {kind} it was." in s]
        assert sentence.startswith(f"{one.questions} of {expected.asked} questions ")
        assert kind not in FAILURE_KINDS or FAILURE_KINDS[kind].help in sentence


def test_each_kind_of_failure_is_named_where_one_looks(store: Store, capsys) -> None:
    """Command, log and Jobs page: count, an example in the server's words, what would help."""
    prompts: dict[str, None] = {}

    def rule(body) -> str | Said | Fault:
        prompts.setdefault(asked(body))
        return {0: REJECTED, 1: CUT_OFF, 2: REJECTED}.get(list(prompts).index(asked(body)), GOOD)

    with serve(rule) as running:
        said = answer(words(store, running.base_url, "--yes"), capsys)
    (job,) = Jobs(store.path).list_jobs()
    found = QuestionTally.from_json(job.result["questions"])
    assert found.asked == 6 and found.failed == 3 and job.state == "done"
    page = " ".join(telling.reasons(job))
    for text in (said, job.read_log(), page):
        assert f"of {found.asked} questions" in text and "no such questions" in text
        for kind in found.failures:
            assert FAILURE_KINDS[kind].title in text and FAILURE_KINDS[kind].help in text
    assert json.loads((job.folder / "so_far.json").read_text())["questions"]["answered"] == 3


@pytest.mark.parametrize(
    ("command", "fault"), [("explain", TOO_LONG), ("explain", Said("{}")), ("score", CUT_OFF)]
)
def test_a_job_without_one_usable_answer_fails(store: Store, command: str, fault, capsys) -> None:
    if command == "score":
        data(["explain", "--store", str(store.path), "--dictionary", NAME], capsys)
    with serve(always(fault)) as running:
        given_ = words(store, running.base_url, features="top:2")
        if command == "score":
            given_[0] = "score"
            given_ = [w.replace("max-activating", "pattern") for w in given_]
            given_ += ["--judge", "openai"]
        sentence = refusal(given_, capsys)
    assert "No question got a usable answer" in sentence and "questions" in sentence
    assert ("--retry" in sentence) == (fault is not TOO_LONG)
    assert ("the same command resumes the job" in sentence) == (fault is TOO_LONG)
    newest = Jobs(store.path).list_jobs()[0]
    assert newest.state == "failed" and newest.error in sentence
    assert not store.catalog.snapshot().scores.of_dictionary(NAME).num_rows or command == "score"


def test_attempts_without_a_reply_are_counted_by_kind_and_apart_from_calls(
    store: Store, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("autointerp.llm.server_asker.RetryPolicy.wait", lambda *_: 0.0)
    busy = Fault(503, message="Loading model")
    with serve(then([busy, busy], always(GOOD))) as running:
        data(words(store, running.base_url), capsys)
    (job,) = Jobs(store.path).list_jobs()
    facts = so_far(job)
    assert facts["calls"] == 6 and facts["attempts"] == job.result["attempts"] == 8
    assert job.result["no_reply"] == facts["no_reply"]
    assert sum(facts["no_reply"].values()) == 2
    assert "2 more attempts failed: 2 " in telling.asked(facts)


def test_progress_counts_what_top_counts_and_replies(store: Store, capsys) -> None:
    """Features without enough contexts do not fill the bar; questions have an estimated total."""
    seen: list[tuple[int, int]] = []
    with serve(always(GOOD)) as running:
        given_ = explaining.checked(
            store,
            Explaining(
                "", NAME, "top:6", ("max-activating",), Asking(running.base_url, "m", concurrency=1)
            ),
        )
        job = Jobs(store.path).create("explain", given_.to_json(), "a test")
        keep_estimate(job, CostEstimate(6, 8, 1, 1, 0.0, 6, learned=False))

        def do(work):
            plain = work.progress

            def progress(done, total, *more) -> None:
                seen.append((done, total))
                plain(done, total, *more)

            work.progress = progress
            return explaining.do(store, work)

        assert run_job(job, do) == "done"
    done = Jobs(store.path).get(job.id)
    assert done.result["skipped"] and seen[-1] == (6, 6)
    assert all(n <= running.calls for n, _ in seen)  # never more than were answered
    assert telling.answered(done, so_far(done)) == "6 of about 8 questions answered"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExplainTally(4000, ["e"]),
        lambda: ScoreSummary(4000, ["e"], {}),
    ],
)
def test_progress_is_never_below_nothing_while_features_are_counted(make) -> None:
    """A thread counts features that are left out while another one asks how far the job is."""
    tally, over, seen = make(), threading.Event(), []

    def count() -> None:
        for feature in range(4000):
            tally.add({"feature": feature, "skipped": "dense"})
        over.set()

    threading.Thread(target=count).start()
    while not over.is_set():
        seen.append(tally.taken)
    assert set(seen) <= {0} and tally.taken == 0 and tally.done == 4000


def test_ctrl_c_stops_a_job_and_it_can_be_resumed(store: Store) -> None:
    job = Jobs(store.path).create("explain", {}, "a test")

    def interrupted(work):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, interrupted)
    job = Jobs(store.path).get(job.id)
    assert job.state == "stopped" and not job.is_active
    assert Jobs(store.path).requeue(job).state == "queued"


class Instant:
    """Answers at once, and counts."""

    model, logprobs, asked = "m", False, 0

    async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
        self.asked += 1
        await asyncio.sleep(0)
        return Reply("yes")


@pytest.mark.parametrize("again", [True, False])
def test_a_question_that_is_put_again_in_a_shorter_form_is_one_question(again: bool) -> None:
    """The first refusal is none of its own; a trial does not wait for it either."""

    class Short(Instant):
        async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
            answer = await super().ask(request)
            long = "long" in request.messages[0].content
            return RequestFailure("context size", "Too long.") if long else answer

    async def run(trial: int | None) -> QuestionTally:
        gate = PausableAsker(Short(), 1, trial)
        with retry_shorter_if_too_long() if again else nullcontext():
            await gate.ask(ChatRequest((ChatMessage("user", "long"),)))
        if trial:
            with pytest.raises(JobStopped):
                await asyncio.wait_for(gate.ask(ChatRequest((ChatMessage("user", "short"),))), 5)
        else:
            await gate.ask(ChatRequest((ChatMessage("user", "short"),)))
        return gate.questions

    found = asyncio.run(run(None))
    assert (found.answered, found.failed) == (1, 0 if again else 1)
    asyncio.run(run(1))


@pytest.mark.parametrize("most", [1, 2, 16])
def test_a_trial_asks_so_many_questions_and_no_more(most: int) -> None:
    async def run() -> int:
        server = Instant()
        gate = PausableAsker(server, most, trial=3)
        requests = [ChatRequest((ChatMessage("user", str(i)),)) for i in range(9)]
        found = await asyncio.gather(*map(gate.ask, requests), return_exceptions=True)
        assert sum(isinstance(one, JobStopped) for one in found) == 6
        return server.asked

    assert asyncio.run(run()) == 3


def test_the_command_measures_the_time_on_the_jobs_own_questions(store: Store, capsys) -> None:
    """Three questions of a free server, kept and not asked again; the second job needs no trial."""
    slow = Said(GOOD, delay_s=0.05)
    with serve(always(slow)) as running:
        data(words(store, running.base_url), capsys)
        assert running.calls == 6 and len(running.answered) == 6  # each of them once
        (job,) = Jobs(store.path).list_jobs()
        assert job.state == "done" and read_estimate(job)["seconds"] >= 6 * 0.05
        assert main(words(store, running.base_url, features="top:8")) == 0
        shown = capsys.readouterr().err
    assert "to measure the time" not in shown and "at the pace of" in shown


def test_what_a_server_costs_money_for_is_not_asked_unasked(
    store: Store, tmp_path: Path, capsys
) -> None:
    (tmp_path / "saefari").mkdir()
    (tmp_path / "saefari" / "prices.toml").write_text('["m"]\ninput = 1.0\noutput = 1.0\n')
    with serve(always(GOOD)) as running:
        assert main(words(store, running.base_url)) == 0
        assert "to measure" not in capsys.readouterr().err and running.calls == 6


def test_a_page_measures_too_and_starts_the_same_job(
    store: Store, running: str, monkeypatch
) -> None:
    """The trial stops, says how long the rest takes, and Start goes on with it."""
    monkeypatch.setattr("app.session.store", lambda: store)
    monkeypatch.setattr(starting, "require_costly_work_allowed", lambda: None)
    monkeypatch.setattr(pages_asked, "require_costly_work_allowed", lambda: None)

    def spawn(path: Path, job) -> None:
        run_job(job, lambda work: explaining.do(store, work))

    monkeypatch.setattr(starting, "spawn", spawn)
    asking = Asking(running, "m", concurrency=1)
    given_ = Explaining(store.harvest().record.id, NAME, "top:6", ("max-activating",), asking)
    found = pages_asked.estimate(given_)
    assert found.seconds is None and "time not known" in describe_estimate(found)
    trial = pages_asked.start(given_, found, trial=True)
    trial = Jobs(store.path).get(trial.id)
    assert trial.state == "stopped" and so_far(trial)["questions"]["answered"] == 3
    assert take_trial(trial) is None  # the wish was for one time
    found = pages_asked.estimate(given_)
    assert found.seconds is not None and found.measured == 3
    assert "at the pace of 3 measured replies" in describe_estimate(found)
    whole = pages_asked.start(given_, found)
    assert whole.id == trial.id and Jobs(store.path).get(whole.id).state == "done"


@pytest.fixture
def running() -> Iterator[str]:
    with serve(lambda body: Said(json.dumps({"explanation": f"w{hash(asked(body))}"}))) as found:
        yield found.base_url


def test_time_comes_from_measured_latency_of_the_kind_of_question() -> None:
    """184 simulation calls a feature at 10 s each, one at a time, are half an hour a feature."""
    replies = tuple(MeasuredReply("simulation", 400, 100, 10.0, 10.0 * i) for i in range(1, 9))
    asked_ = {"simulation": QuestionLoad(3 * 184, 3 * 184 * 400, 3 * 184 * 100)}
    assert ReplyPace(replies).seconds(asked_, 16) == pytest.approx(3 * 1840)
    assert ReplyPace(replies, parallel=2.0).seconds(asked_, 16) == pytest.approx(3 * 920)
    assert ReplyPace(replies, parallel=4.0).seconds(asked_, 1) == pytest.approx(3 * 1840)
    other = {"detection": QuestionLoad(10, 10 * 400, 10 * 100)}  # never measured: by its tokens
    assert ReplyPace(replies).seconds(other, 1) == pytest.approx(100)
    assert ReplyPace().seconds(asked_, 1) is None


def test_a_pace_is_of_one_server_and_files_that_are_none_are_left_out(
    store: Store, running: str, capsys, tmp_path: Path
) -> None:
    data(words(store, running), capsys)
    (job,) = Jobs(store.path).list_jobs()
    (tmp_path / "broken.duckdb").write_text("no database")
    files = [tmp_path / "broken.duckdb", tmp_path / "absent.duckdb", job.data_path]
    found = measure_pace(files, "m", running)
    assert len(found.replies) == 6 and found.parallel == pytest.approx(1.0, abs=0.05)
    assert {one.kind for one in found.replies} == {"explain: max-activating"}
    assert not measure_pace(files, "m", "http://127.0.0.1:1/v1").replies


@pytest.mark.parametrize("wish", ["", "[]", '{"questions": "many"}', '{"other": 3}'])
def test_a_spoiled_wish_for_a_trial_is_none(store: Store, wish: str) -> None:
    job = Jobs(store.path).create("explain", {}, "a test")
    wish_trial(job)
    (job.folder / "trial.json").write_text(wish)
    assert take_trial(job) is None


def test_estimates_in_words() -> None:
    known = CostEstimate(3, 552, 150_000, 60_000, 0.0, 3, learned=True, seconds=5520, measured=24)
    said = describe_estimate(known).replace("\u202f", " ")
    assert "About 552 calls and 210 000 tokens for 3 features: free; about 1.5 h at" in said
    assert scoring.NOTE and "24 measured replies" in said


def test_what_is_live_is_told_of_a_living_job_alone(store: Store) -> None:
    job = Jobs(store.path).create("explain", {}, "a test")
    now = {"in_flight": 2, "latency_s": 9.8, "tokens_per_s": 12.0}
    (job.folder / "so_far.json").write_text(json.dumps({"live": now, "questions": {}}))
    told = telling.line(job).replace("\u202f", " ")
    assert "2 calls in flight · 9.8 s a call · 12 tokens/s" in told
    run_job(job, lambda work: (_ for _ in ()).throw(JobStopped))
    job = Jobs(store.path).get(job.id)
    assert job.state == "stopped" and "in flight" not in telling.line(job)
