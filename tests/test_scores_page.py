"""The Scores page: series, means beside nulls, ends, agreement, and the ways out of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import likeness, session, theme
from app.scores import alike, charts, means, null_charts, nulls, picks, read, tables, telling
from app.scores.alike import Decoded
from app.scores.charts import ScatterAxis
from autointerp.text_embeddings import nearest_rows
from feature_store import explanation_edits, permissions, score_storage
from feature_store.explanation_edits import NewExplanation
from feature_store.jobs import Jobs, write_json_file
from feature_store.records import FeatureId
from feature_store.statistics import independent_difference
from feature_store.store import Store
from tests.pages import opened
from tests.scored import FEATURES, NAME, explained, row, scored_store, value_of
from tests.stores import make_store

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return scored_store(tmp_path_factory.mktemp("scored") / "store")


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv(permissions.VARIABLE, "1")

    def go(store: Store, page: str = session.SCORES, **query: str) -> AppTest:
        monkeypatch.setenv(session.STORE, str(store.path))
        return opened(page, **query)

    return go


def data(test: AppTest, key: str) -> dict:
    found = {part.key: part.proto.json for part in test.get("bidi_component")}
    return json.loads(found[key])


def cells(test: AppTest, key: str) -> list[list[str]]:
    return [one["cells"] for one in data(test, key)["rows"]]


def words(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title, *test.code, *test.text, *test.subheader]
    return "\n".join(element.value for element in shown).replace("\\", "")


def series_of(store: Store) -> list[read.Series]:
    return read.series(store.harvest(), NAME, store.catalog.snapshot())


def traces(figure: Any) -> list[dict]:
    return [trace.to_plotly_json() for trace in figure.data]


def test_a_series_is_one_explainer_scorer_and_judge(whole: Store) -> None:
    found = series_of(whole)
    assert [(s.by, s.scorer) for s in found] == [
        ("other", "detection"),
        ("other", "simulation"),
        ("pattern", "detection"),
        ("pattern", "simulation"),
    ]
    one = found[2]
    assert one.feature.tolist() == FEATURES and one.text[0] == "fires on 0"
    known = dict(zip(one.feature.tolist(), one.value.tolist(), strict=True))
    assert known[20] == value_of(20) and np.isnan(known[3]) and "too few" in one.note[3]
    facts = whole.harvest().rows(
        "SELECT feature, density FROM feature WHERE dictionary = 'resid' AND feature < 30 "
        "AND n_active > 0 ORDER BY feature"
    )
    assert one.numbers["density"].tolist() == facts.column("density").to_pylist()


def test_only_the_newest_sentence_that_was_scored_counts(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    old, new = explained(store, text="old {}"), explained(store, text="new {}")
    for numbers, value in ((new, 0.9), (old, 0.2)):
        rows = [row(n, f, "detection", value) for n, f in zip(numbers, FEATURES, strict=True)]
        score_storage.save_scores(store.catalog, rows)
    (found,) = series_of(store)
    assert found.text[0] == "new 0" and set(found.value.tolist()) == {0.9}


def test_means_stand_beside_their_nulls(whole: Store) -> None:
    line = means.line(series_of(whole)[2])
    kept = [value_of(f) for f in FEATURES if f != 3]
    assert line.mean.value == pytest.approx(np.mean(kept)) and line.mean.n == len(kept)
    assert line.above["borrowed"].value == pytest.approx(np.mean(kept) - 0.5)
    low, high = line.above["token"].low, line.above["token"].high
    assert low is not None and high is not None
    assert low < np.mean(kept) - 0.55 < high
    assert line.nulls["constant"].value is None and line.without == 1
    assert "too few" in line.above["constant"].note


def test_agreement_is_of_features_that_both_have(whole: Store) -> None:
    ((one, other, found),) = means.agreement(series_of(whole)[2:])
    assert (one.scorer, other.scorer, found.n) == ("detection", "simulation", len(FEATURES) - 1)
    assert found.low is not None and found.low <= (found.value or 0)
    ((*_, few),) = means.agreement([one, read.one(_table(whole).slice(0, 1))])
    assert few.value is None and few.note


def _table(store: Store):
    said = store.catalog.snapshot()
    tables_ = {"scored": said.scores.of_dictionary(NAME), "explained": said.explanations.table}
    return store.harvest().rows(read.QUERY, [NAME], tables_)


def test_the_ends_are_the_least_and_the_greatest(whole: Store) -> None:
    one = series_of(whole)[2]
    low, high = means.extremes(one, 2)
    assert one.feature[low].tolist() == [0, 1] and one.feature[high].tolist() == [29, 28]


def test_figures_hold_every_feature_and_no_markup(whole: Store) -> None:
    one = series_of(whole)[2]
    own, *nulls = traces(charts.distributions([one], theme.LIGHT))
    assert own["y"].sum() == len(FEATURES) - 1
    assert [trace["name"] for trace in nulls] == ["borrowed label", "token label"]
    texts = ["<script>alert(1)</script>"] * 2
    shown = charts.scatter(
        np.array([1, 2]),
        texts,
        ScatterAxis("x", np.array([0.1, 0.2]), 0.5),
        ScatterAxis("density", np.array([0.01, 0.1]), log=True),
        theme.DARK,
    )
    assert (
        "<script" not in traces(shown)[0]["hovertext"][0]
        and "50" in shown.to_plotly_json()["layout"]["yaxis"]["ticktext"][-1]
    )


def test_the_page_shows_all_of_it(visit: Open, whole: Store) -> None:
    test = visit(whole, dictionary=NAME)
    rows = cells(test, "scores_means")
    assert [one[:2] for one in rows][2] == ["pattern", "Detection"] and rows[2][2] == "28"
    assert rows[2][3].startswith("0.65 [") and rows[2][5].startswith("+0.15 [")
    assert cells(test, "scores_worst")[0][0] == "0" and cells(test, "scores_best")[0][0] == "29"
    assert "Distributions, pattern" in words(test)  # the better of the two
    assert "No score of what features make the model say yet." in words(test)
    test = visit(whole, dictionary=NAME, by="other", scorer="simulation")
    assert "Distributions, other" in words(test)
    assert cells(test, "scores_best")[0][1].startswith("0.50 [")


def test_a_range_of_scores_leads_to_the_table(visit: Open, whole: Store) -> None:
    test = visit(whole, dictionary=NAME)
    test.slider(key="scores_between_pattern_detection").set_range(0.7, 0.8).run()
    (link,) = [x for x in test.get("page_link") if "in the table" in x.proto.label]
    inside = [f for f in FEATURES if 0.7 <= value_of(f) <= 0.8]
    assert f"only={inside[0]}-{inside[-1]}" in link.proto.query_string
    assert f"{len(inside)} features" in link.proto.label


def test_without_scores_the_way_to_some_is_said(visit: Open, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    test = visit(store, dictionary=NAME)
    assert "has no explanations yet" in words(test) and "saefari explain --store" in words(test)
    explained(store)
    test = visit(store, dictionary=NAME)
    assert "has no scores yet" in words(test) and "saefari explain" not in words(test)


def test_without_scores_those_of_other_dictionaries_are_a_click_away(
    visit: Open, whole: Store
) -> None:
    other = next(name for name in whole.harvest().dictionaries if name != NAME)
    test = visit(whole, dictionary=other)
    assert "Scores are there of" in words(test)
    (link,) = [one for one in test.get("page_link") if one.proto.label == NAME]
    assert f"dictionary={NAME}" in link.proto.query_string


def test_what_a_job_cost_is_said_per_feature(whole: Store) -> None:
    result = {
        "skipped": {"dense": 10},
        "results": [
            {
                "explainer": "e",
                "scorer": "detection",
                "n": 50,
                "mean": 0.7,
                "low": 0.66,
                "high": 0.74,
                "failed": 2,
                "calls": 600,
                "tokens": 90_000,
                "cost": 0.05,
            }
        ],
    }
    job = Jobs(whole.path).create("score", {}, "x")
    done = type(job)(**{**vars(job), "state": "done", "result": result})
    ((line),) = tables.job(done)
    assert (
        line["cells"][-2:] == ["$0.0500", "$0.00100"] and "10 features (too few" in line["cells"][4]
    )
    result["results"][0]["tokens"] = None
    assert tables.job(done)[0]["cells"][-3] == tables.ABSENT
    assert telling.ending(done) == (
        "e: detection 0.70 [0.66, 0.74] of 50 features, 2 items failed · left out: "
        "10 features (too few windows in which it is silent)"
    )
    means = {"e: detection": {"n": 7, "mean": None, "low": None, "high": None}}
    so_far = {"means": means, "calls": 12, "cost": None, "no_reply": {"timeout": 1, "lost": 2}}
    write_json_file(job.folder / "so_far.json", so_far)
    said = telling.line(job)
    assert said == (
        "12 calls, cost not known · 3 more attempts failed: 1 timed out, "
        "2 under way when the process ended · e: detection too few for a mean (7 features)"
    )


def test_choices_of_the_url_that_are_not_there_are_the_usual(whole: Store) -> None:
    found = series_of(whole)
    assert picks.title(found[0], found[:2]) == "detection"
    assert picks.title(found[0], [found[0], found[0]]) == "detection by pattern"


def test_the_most_alike_row_is_found() -> None:
    one = np.eye(3, dtype=np.float32)[[0, 2, 1]]
    one[2] = 0
    best, cosine = nearest_rows(one, np.eye(3, dtype=np.float32)[[2, 0]])
    assert best.tolist() == [1, 0, -1] and cosine[:2].tolist() == [1, 1] and np.isnan(cosine[2])
    assert nearest_rows(one, np.zeros((0, 3), np.float32))[0].tolist() == [-1, -1, -1]


def test_only_one_source_s_words_are_compared(whole: Store) -> None:
    said = whole.catalog.snapshot()
    assert likeness.sources(said, [NAME, "abs"]) == []
    assert likeness.sources(said, [NAME]) == ["other", "pattern"]
    assert likeness.words_of(said, [NAME], "pattern")[NAME, 4] == "fires on 4"


def test_words_are_held_against_decoders_and_chance() -> None:
    """Every pair but the first is the nearest decoder; mixed up, cosines are 0."""
    pairs = [(i, 100 + i) for i in range(40)]
    known = [Decoded(0.5 + i / 100, 100 + i if i else 7, 0.9) for i in range(40)]
    mixed = [Decoded(0.0, 7, 0.9)] * 40
    told = alike.told(np.linspace(0.2, 0.9, 40), pairs, known, mixed)
    assert "nearest decoder for 0.97 [" in told and "cosine 0.70, 0.00 for" in told
    assert "ρ of the two cosines 1.00 [" in told
    few = alike.told(np.array([0.2, 0.3]), pairs[:2], known[:2], mixed[:2])
    assert "too few judgements: 2" in few and alike.of_decoders(Decoded(None, -1, 0.0)) == [
        "different spaces",
        "–",
    ]


def test_features_said_to_be_the_same_stand_side_by_side(visit: Open, tmp_path: Path) -> None:
    store = scored_store(tmp_path / "store")
    for name in (NAME, "abs"):
        for index, word in ((1, "the dog ran"), (2, "the cat sat")):
            store.catalog.annotate(FeatureId(name, index), "label", word)
    test = visit(store, dictionary=NAME)
    assert test.selectbox(key="alike_by_abs").options == ["labels"]
    test.button(key="alike_match").click().run()
    assert [(one[0], one[2]) for one in cells(test, "alike_rows")] == [
        ("1", "abs/1"),
        ("2", "abs/2"),
    ]
    assert "the 2 most alike of 2 features with words" in words(test)


def test_a_dictionary_stands_beside_one_that_nobody_trained(
    visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scored_store(tmp_path / "store")
    assert "No null dictionary in this harvest" in words(visit(store, dictionary=NAME))
    monkeypatch.setattr(nulls, "find_null_dictionaries", lambda file, name: {"random": "abs"})
    of = [FeatureId("abs", i) for i in FEATURES]
    numbers = explanation_edits.save_explanations(
        store.catalog, [NewExplanation(f, "x", "pattern") for f in of]
    )
    rows = [
        replace(row(number, 0, "detection", 0.5 + (f.index % 2) / 50), feature=f)
        for number, f in zip(numbers, of, strict=True)
    ]
    score_storage.save_scores(store.catalog, rows)
    test = visit(store, dictionary=NAME)
    found = cells(test, "scores_nulls")
    by = {(one[1], one[2]): one[3:] for one in found}
    assert by["pattern", "Detection"][0] == "29"
    assert by["pattern", "Detection"][1].startswith("0.51 [")
    assert by["pattern", "Detection"][2].startswith("+0.14 [")
    assert by["other", "Detection"][1] == "not scored yet"
    assert "Beside null dictionaries" in words(test)
    given = f"--store {store.path} --harvest tiny-0001 --dictionary abs --features all"
    more = "--explainer pattern --scorer simulation"
    assert f"saefari score {given} {more}" in words(test)
    assert "saefari explain" not in words(test)
    test = visit(store, dictionary=NAME, by="other")
    assert f"saefari explain {given} --explainer other\nsaefari score" in words(test)
    assert "--scorer detection,simulation" in words(test)


def beside(line: means.SeriesMeans, other: read.Series | None = None, **changes) -> nulls.Beside:
    mean = means.line(other).mean if other else None
    above = independent_difference(line.mean, mean) if mean else None
    return replace(nulls.Beside("resid~pca", line, other, mean, above, True), **changes)


def test_the_figure_of_null_dictionaries_has_shares_means_and_numbers(whole: Store) -> None:
    own, other = (means.line(one) for one in (series_of(whole)[2], series_of(whole)[0]))
    (panel,) = nulls.panels(NAME, [beside(own, other.series), beside(own)])
    assert [row.name for row in panel.rows] == [NAME, "resid~pca"]
    figure = null_charts.rows([panel], [NAME, "resid~pca"], theme.LIGHT)
    assert figure.layout.yaxis.ticktext == (NAME, "~pca")  # type: ignore[attr-defined]
    found = traces(figure)
    dots = [one for one in found if one["mode"] == "markers"]
    assert [dot["x"][0] for dot in dots] == pytest.approx([own.mean.value, other.mean.value])
    assert dots[0]["error_x"]["array"][0] == pytest.approx(own.mean.high - own.mean.value)
    steps = [one["y"] - min(one["y"]) for one in found if one.get("fill")]
    assert [len(y) > 9 and 0 < max(y) <= null_charts.TALL for y in steps] == [True, True]
    assert [one["text"][0] for one in found if one["mode"] == "text"] == ["n 28", "n 28"]


def test_what_is_missing_of_null_dictionaries_is_a_command(whole: Store) -> None:
    line = means.line(series_of(whole)[2])
    by_model = replace(line.series, by="strata · m7", explainer="strata", judge="m7")
    asked = beside(replace(line, series=by_model), explained=False)
    assert nulls.commands([asked], ["--store", "s"]) == [
        "saefari explain --store s --dictionary 'resid~pca' --features all --explainer strata "
        "--model m7",
        "saefari score --store s --dictionary 'resid~pca' --features all --explainer strata "
        "--scorer detection --judge openai --model m7",
    ]
    person = replace(line.series, by="person", explainer="person")
    assert nulls.commands([beside(replace(line, series=person))], []) == []
    assert nulls.commands([beside(line, line.series)], []) == []


@pytest.mark.parametrize(("name", "what"), [("by", "explainer"), ("scorer", "score")])
def test_a_link_to_what_is_not_there_says_so(
    visit: Open, whole: Store, name: str, what: str
) -> None:
    test = visit(whole, dictionary=NAME, **{name: "*nobody*"})
    sentence = f"asks for the {what} '*nobody*', which has no scores here. There are: "
    assert sentence in words(test) and "Shown is" in words(test)
    assert "which has no scores here" not in words(visit(whole, dictionary=NAME))
