"""The tab Explanations: sentences with scores, what the judge got wrong, edits, and jobs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.jobs import starting
from app.jobs.asking import Asking
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from app.scores import asked, judged
from autointerp.pipeline.cost_estimate import CostEstimate
from feature_store import explanation_edits, permissions, score_storage
from feature_store.errors import InputError
from feature_store.explanation_edits import NewExplanation
from feature_store.job_process import hold_job
from feature_store.jobs import Jobs
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.pages import opened
from tests.scored import NAME, row
from tests.stores import make_store

Open = Callable[..., AppTest]
FEATURE = FeatureId(NAME, 4)
MARKUP = "<script>alert(1)</script> *dogs*"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = make_store(tmp_path / "store")
    monkeypatch.setenv(session.STORE, str(found.path))
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """Jobs that pages began, none of which has a process."""
    found: list[tuple[str, dict]] = []
    monkeypatch.setenv(permissions.VARIABLE, "1")

    def spawn(store: Path, job) -> None:
        found.append((job.kind, job.arguments))

    monkeypatch.setattr(starting, "spawn", spawn)
    return found


@pytest.fixture
def visit(store: Store) -> Open:
    def go(feature: str = str(FEATURE), page: str = session.FEATURE, **query: str) -> AppTest:
        given = {"feature": feature, "tab": "Explanations"} if page == session.FEATURE else {}
        return opened(page, **{**given, **query})

    return go


def data(test: AppTest, key: str) -> dict:
    found = {part.key: part.proto.json for part in test.get("bidi_component")}
    return json.loads(found[key])


def words(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title, *test.text, *test.code]
    return "\n".join(element.value for element in shown).replace("\\", "")


def said(store: Store, text: str, explainer: str = "pattern", **more) -> int:
    given = {"source": "saefari", "prompt": "p.md 1", "shown": [[0, 1]], **more}
    (number,) = explanation_edits.save_explanations(
        store.catalog, [NewExplanation(FEATURE, text, explainer, provenance=given)]
    )
    return number


def items(store: Store) -> list[dict]:
    """Four firing windows, one missed, one unanswered; two silent ones, one a false alarm."""
    file = store.harvest()
    stored = file.contexts(FEATURE)
    firing = [c for c in stored if c.split == "score"][:4]
    fires = {(c.sequence, c.start) for c in stored}
    pool = file.silent_windows(NAME)
    silent = [w for w in pool if (w.sequence, w.start) not in fires][:2]
    rows = [(c, "top", 1.0, a) for c, a in zip(firing, (1.0, 0.0, None, 1.0), strict=True)]
    rows += [(w, "random", 0.0, a) for w, a in zip(silent, (1.0, 0.0), strict=True)]
    return [
        {
            "sequence": w.sequence,
            "start": w.start,
            "document": 0,
            "kind": kind,
            "truth": truth,
            "answer": answer,
            "probability": 0.25 if answer == 0 else None,
            "failed": "" if answer is not None else "refusal",
            "weight": None,
        }
        for w, kind, truth, answer in rows
    ]


def test_an_explanation_stands_with_its_scores_and_nulls(visit: Open, store: Store) -> None:
    number = said(store, MARKUP)
    rows = [row(number, 4, "detection", 0.81), row(number, 4, "simulation", None, failed=2)]
    score_storage.save_scores(store.catalog, rows)
    test = visit()
    assert MARKUP in words(test) and "pattern · prompt p.md 1 · from 1 windows" in words(test)
    first, second = data(test, f"explanation_scores_{number}")["rows"]
    assert first["cells"][2:8] == ["0.81 [0.71, 0.91]", "0.50", "0.50", "0.55", "–", "0.60"]
    assert second["cells"][2] == "–" and second["cells"][-1] == "2"
    assert "too few judgements: 3" in second["notes"][0] and "2 items without" in second["notes"][0]


def test_what_the_judge_got_wrong_is_shown_with_heat(visit: Open, store: Store) -> None:
    number = said(store, "dogs")
    score_storage.save_scores(
        store.catalog, [row(number, 4, "detection", 0.6, judged=items(store))]
    )
    (score,) = store.catalog.snapshot().scores.of_feature(FEATURE)
    test = visit()
    test.button(key=f"judged_open_{score.score}").click().run()
    groups = data(test, f"judged_{score.score}")["groups"]
    assert [group["name"] for group in groups] == ["missed 1", "false alarms 1", "no answer 1"]
    (missed,) = groups[0]["sections"][0]["lines"]
    assert missed["split"] == "says 25%" and missed["acts"] and missed["marked"]
    assert groups[0]["sections"][0]["note"] == "1 of 4 windows of this kind"
    (alarm,) = groups[1]["sections"][0]["lines"]
    assert alarm["split"] == "says yes" and not alarm["acts"] and not alarm["marked"]
    assert groups[2]["sections"][0]["lines"][0]["split"] == "refusal"
    test.button(key=f"judged_open_{score.score}").click().run()
    assert f"judged_{score.score}" not in {p.key for p in test.get("bidi_component")}


def test_kinds_stand_from_the_strongest_to_silence() -> None:
    kinds = ["random", "decile 2", "hard", "decile 10", "top"]
    assert sorted(kinds, key=judged.order) == ["top", "decile 10", "decile 2", "hard", "random"]


def test_a_person_writes_edits_and_withdraws(visit: Open, store: Store) -> None:
    number = said(store, "dogs")
    test = visit()
    test.button(key=f"explanation_edit_{number}").click().run()
    field = test.text_input(key=f"explanations_own_{FEATURE}")
    assert field.value == "dogs"
    field.set_value("big dogs").run()
    mine, first = store.catalog.snapshot().explanations.of_feature(FEATURE)
    assert (mine.text, mine.explainer, mine.author) == ("big dogs", "person", "person")
    assert json.loads(mine.provenance)["from"] == number and first.text == "dogs"
    assert store.catalog.snapshot().values_of_feature(FEATURE)["label"] == "big dogs"
    assert "preferred" in words(test)
    test.button(key=f"explanation_withdraw_{number}").click().run()
    assert [one.text for one in store.catalog.snapshot().explanations.of_feature(FEATURE)] == [
        "big dogs"
    ]
    with pytest.raises(InputError, match="no explanation 99"):
        explanation_edits.withdraw_explanation(store.catalog, 99)
    with pytest.raises(InputError, match="cannot be empty"):
        explanation_edits.write_explanation(store.catalog, FEATURE, "  ")


def test_a_label_is_one_of_the_explanations(visit: Open, store: Store, started) -> None:
    store.catalog.annotate(FEATURE, "label", MARKUP)
    (label,) = store.catalog.snapshot().scorable.of_feature(FEATURE)
    score_storage.save_scores(store.catalog, [row(label.explanation, 4, "detection", 0.81)])
    test = visit()
    assert MARKUP in words(test) and "a person’s label · written" in words(test)
    (line,) = data(test, f"explanation_scores_{label.explanation}")["rows"]
    assert line["cells"][2] == "0.81 [0.71, 0.91]"
    test.button(key="score_now").click().run()
    assert started[0][0] == "score" and started[0][1]["explainer"] is None
    form = visit(page=session.JOBS, dictionary=NAME, start="score")
    assert form.selectbox(key="starting_whose").options == ["everybody", "person"]
    test.text_input(key=f"explanations_own_{FEATURE}").set_value(MARKUP).run()
    assert not store.catalog.snapshot().explanations.of_feature(FEATURE), "it is said already"
    test.button(key=f"explanation_withdraw_{label.explanation}").click().run()
    assert store.catalog.snapshot().values_of_feature(
        FEATURE
    ) == {} and "The store has no explanation of this" in words(test)


def test_who_withdraws_their_own_words_takes_the_label_back(visit: Open, store: Store) -> None:
    for writer in ("person", "pattern"):
        number = said(store, f"by {writer}", writer)
        store.catalog.annotate(FEATURE, "label", f"by {writer}")
        visit().button(key=f"explanation_withdraw_{number}").click().run()
    assert store.catalog.snapshot().values_of_feature(FEATURE) == {"label": "by pattern"}
    history = [one.value for one in store.catalog.snapshot().history(FEATURE)]
    assert history == ["by person", "", "by pattern"]


def test_one_feature_is_explained_and_scored_from_its_page(visit: Open, store, started) -> None:
    test = visit()
    assert "saefari explain --store" in words(test)
    assert "score_now" not in {button.key for button in test.button}
    test.button(key="explain_now").click().run()
    ((kind, given),) = started
    assert kind == "explain" and given["features"] == "4" and given["explainers"] == ["pattern"]
    assert "queued" in test.get("progress")[0].proto.text
    said(store, "dogs")
    test = visit()
    test.button(key="score_now").click().run()
    assert started[1][0] == "score" and started[1][1]["judge"] == "pattern"
    assert started[1][1]["scorers"] == ["detection", "fuzzing", "simulation"]


def test_a_language_model_is_asked_of_configured_servers_only(
    visit: Open, started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = visit()
    test.selectbox(key="explain_by").set_value("max-activating").run()
    assert "No language-model server is configured" in words(test)
    assert test.button(key="explain_now").disabled
    file = tmp_path / "servers.toml"
    file.write_text('[servers.lab]\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["m"]\n')
    monkeypatch.setenv("SAEFARI_SERVERS", str(file))
    test = visit()
    test.selectbox(key="explain_by").set_value("max-activating").run()
    test.button(key="explain_now").click().run()
    asking = started[0][1]["asking"]
    assert (asking["base_url"], asking["model"]) == ("http://127.0.0.1:9/v1", "m")
    file.write_text('[servers.lab]\nbase_url = "http://h/v1"\nkey_env = "LAB_KEY"\nmodels = ["m"]')
    test = visit()
    test.selectbox(key="explain_by").set_value("max-activating").run()
    assert "LAB_KEY is not set" in words(test)


def test_pages_that_others_reach_start_nothing(
    visit: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(permissions.VARIABLE, "0")
    said(store, "dogs")
    assert "explain_now" not in {button.key for button in visit().button}
    with pytest.raises(InputError, match="--allow-jobs"):
        asked.start(Explaining("", NAME, "4", ("pattern",)))


def test_what_did_not_come_out_is_a_sentence(visit: Open, store: Store, started) -> None:
    given = Explaining(store.harvest().record.id, NAME, "4", ("pattern",))
    job = Jobs(store.path).create("explain", given.to_json(), "x")
    with hold_job(job) as work:
        work.finish("done", result={"results": [], "skipped": {"dense": 1}})
    assert "Explaining left this feature out: too few windows" in words(visit())
    job = Jobs(store.path).create("explain", given.to_json(), "x")
    with hold_job(job) as work:
        work.finish("failed", error="The server has no model 'm'.")
    assert "Explaining failed. The server has no model 'm'." in words(visit())
    shown = words(visit(page=session.JOBS))
    assert ":yellow[failed]" in shown and "The server has no model 'm'." in shown


def test_the_form_estimates_before_it_starts(
    visit: Open, started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "servers.toml"
    file.write_text('[servers.lab]\nbase_url = "http://h/v1"\nmodels = ["m"]\n')
    monkeypatch.setenv("SAEFARI_SERVERS", str(file))
    found = CostEstimate(10.0, 120.0, 8700333.0, 300.0, 0.25, 5, False)
    monkeypatch.setattr("app.jobs.explaining.estimate", lambda store, given: found)
    test = visit(page=session.JOBS, dictionary=NAME, start="explain")
    test.multiselect(key="starting_explainers").set_value(["contrastive"]).run()
    assert test.button(key="starting_start").disabled
    test.button(key="starting_estimate").click().run()
    assert "About 120 calls and 8\u202f700\u202f000 tokens" in words(test)
    assert "$0.2500" in words(test)
    test.button(key="starting_start").click().run()
    assert started[0][1]["explainers"] == ["contrastive"]
    test.text_input(key="starting_features").set_value("list:none").run()
    assert test.button(key="starting_start").disabled, "the estimate was of something else"
    test.button(key="starting_estimate").click().run()
    assert "There is no list 'none'" in words(test)


def test_only_what_failed_is_asked_again(visit: Open, store: Store, started) -> None:
    said(store, "dogs")
    given = Scoring(
        store.harvest().record.id,
        NAME,
        "1-9",
        ("detection",),
        "openai",
        asking=Asking("http://127.0.0.1:9/v1", "m"),
    )
    job = Jobs(store.path).create("score", given.to_json(), "x")
    (job.folder / "features.jsonl").write_text('{"feature":4,"failed":3}\n{"feature":5}\n')
    rows = [{"explainer": "pattern", "scorer": "detection", "n": 2, "mean": None, "failed": 3}]
    with hold_job(job) as work:
        work.finish("done", result={"results": rows, "skipped": {}})
    test = visit(page=session.JOBS)
    test.button(key=f"retry_{job.id}").click().run()
    assert started[0][1]["features"] == "4" and started[0][1]["asking"]["again"]


def test_a_judge_is_offered_what_it_can_answer() -> None:
    assert "intruder" not in asked.scorers("pattern")
    assert "intruder" in asked.scorers("openai") and "embedding" in asked.scorers("pattern")
    assert next(iter(asked.explainers())) == "pattern"
