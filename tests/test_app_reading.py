"""Reading a feature: contexts, documents, features compared; with and without a model at hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import session, wanted
from backend.engine import LocalEngine
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

Open = Callable[..., AppTest]


@pytest.fixture
def visit(harvested: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A page over the tiny harvest, whose engine is the rig's; `asked` for it or not."""
    monkeypatch.setenv(session.STORE, str(harvested.parents[1]))
    here = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: here)

    def go(page: str, *, asked: bool = False, **query: str | list[str]) -> AppTest:
        file = HarvestFile(harvested)
        assert engine_loaded(file)
        return opened(page, {wanted.ASKED: asked}, **query)

    yield go  # type: ignore[misc]  # a generator fixture


def parts(test: AppTest) -> dict[str, dict]:
    """The data of the page's components, by key."""
    return {part.key: json.loads(part.proto.json) for part in test.get("bidi_component")}


def words(test: AppTest) -> str:
    return "\n".join(e.value for e in [*test.markdown, *test.caption, *test.title]).replace(
        "\\", ""
    )


def busiest(file: HarvestFile, dictionary: str) -> int:
    counts = file.feature_table(dictionary).column("n_active").to_numpy()
    return int(np.argsort(-counts)[2])


def test_contexts_know_their_document_and_their_likes(visit: Open, harvested: Path) -> None:
    feature = busiest(HarvestFile(harvested), "top")
    data = parts(visit(session.FEATURE, feature=f"top/{feature}"))["feature_contexts"]
    groups = {group["name"]: group["sections"] for group in data["groups"]}
    assert "silent" in groups
    for sections in groups.values():
        for section in sections:
            for i, line in enumerate(section["lines"]):
                assert line["alike"] <= i
                sequence, position = line["target"].split("-")
                assert f"sequence={sequence}&position={position}" in line["href"]
    assert "of activation mass" in groups["top"][0]["note"]
    assert {line["value"] for s in groups["silent"] for line in s["lines"]} == {0.0}


def test_a_document_is_whole_and_its_heat_is_the_encoders(visit: Open, harvested: Path) -> None:
    file = HarvestFile(harvested)
    feature = f"relu/{busiest(file, 'relu')}"
    test = visit(session.DOCUMENT, feature=feature, sequence="5", position="3")
    (segment,) = [
        s for s in parts(test)["document_text"]["segments"] if s["title"].startswith("sequence 5 ")
    ]
    assert segment["ids"] == file.sequences.tokens(5).tolist() and segment["here"] == 3
    assert segment["known"] == [[0, len(segment["ids"])]]
    stored = {
        p: v
        for c in file.contexts(FeatureId.parse(feature))
        if c.sequence == 5
        for p, v in zip(c.positions, c.activations, strict=True)
    }
    assert {p: v for p, v in segment["acts"] if p in stored} == pytest.approx(stored, abs=1e-4)


def test_a_document_without_a_feature_has_text_and_no_heat(visit: Open) -> None:
    data = parts(visit(session.DOCUMENT, document="4"))["document_text"]
    assert data["segments"] and not any(s["acts"] for s in data["segments"])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({}, "No document is named."),
        ({"document": "x"}, "document='x' is not a number."),
        ({"document": "99999"}, "There is no document 99999"),
        ({"sequence": "99999"}, "There is no sequence 99999"),
        ({"sequence": "0", "position": "9999"}, "Sequence 0 has positions 0 to"),
    ],
)
def test_a_place_that_is_not_there_is_a_sentence(visit: Open, query: dict, sentence: str) -> None:
    assert sentence in words(visit(session.DOCUMENT, **query))


def test_compare_shows_facts_pairs_and_shared_contexts(visit: Open, harvested: Path) -> None:
    file = HarvestFile(harvested)
    chosen = [f"top/{busiest(file, 'top')}", f"relu/{busiest(file, 'relu')}"]
    found = parts(visit(session.COMPARE, feature=chosen))
    assert [row["target"] for row in found["compare_facts"]["rows"]] == chosen
    (pair,) = found["compare_pairs"]["rows"]
    assert pair["cells"][:3] == [" · ".join(chosen), "–", "–"]
    (group,) = found["compare_contexts"]["groups"]
    for section in group["sections"]:
        assert [line["name"] for line in section["lines"]] == chosen
        assert all(line["acts"] for line in section["lines"])
        assert len({line["peak"] for line in section["lines"]}) == 1


def test_with_a_model_compare_has_cosines_and_reads_contexts_again(
    visit: Open, harvested: Path
) -> None:
    feature = busiest(HarvestFile(harvested), "top")
    found = parts(visit(session.COMPARE, asked=True, feature=[f"top/{feature}", "relu/3"]))
    assert found["compare_pairs"]["rows"][0]["cells"][1][0] in "+−"
    (again,) = [g for g in found["compare_contexts"]["groups"] if g["name"] == "strongest of each"]
    strongest = again["sections"][0]["lines"][0]
    stored = parts(visit(session.FEATURE, feature=f"top/{feature}"))["feature_contexts"]
    assert strongest["value"] == pytest.approx(
        stored["groups"][0]["sections"][0]["lines"][0]["value"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (["top/1", "gone/3"], "gone"),
        (["top/1", "top/100000"], "There is no feature top/100000"),
        (["top/x"], "'top/x' is not a feature."),
        ([f"top/{i}" for i in range(7)], "Compare takes 2 to 6 features, not 7"),
    ],
)
def test_features_that_cannot_be_compared_are_a_sentence(
    visit: Open, features: list[str], sentence: str
) -> None:
    assert sentence in words(visit(session.COMPARE, feature=features))


def test_one_feature_asks_for_another_and_a_typed_one_is_added(visit: Open) -> None:
    test = visit(session.COMPARE, feature=["top/1"])
    assert "Name 2 to 6 features" in words(test)
    test.text_input(key="compare_typed").set_value("relu/9999").run()
    assert "There is no feature relu/9999" in words(test)
    test.text_input(key="compare_typed").set_value("relu/3").run()
    assert test.query_params["feature"] == ["top/1", "relu/3"]


def test_decoders_are_matched_and_the_vocabulary_shown_when_asked_for(
    visit: Open, harvested: Path
) -> None:
    feature = f"top/{busiest(HarvestFile(harvested), 'top')}"
    test = visit(session.FEATURE, feature=feature)
    assert "feature_decoder_matches" not in parts(test)
    assert test.button(key="wanted_matches").label == "Match decoders too"
    found = parts(visit(session.FEATURE, asked=True, feature=feature))
    rows = found["feature_decoder_matches"]["rows"]
    assert {row["target"].split("/")[0] for row in rows} == {"abs", "relu", "seq"}
    cosines = [float(row["cells"][1].replace("−", "-")) for row in rows]
    assert cosines == sorted(cosines, reverse=True)
