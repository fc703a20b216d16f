"""The Steer page over a tiny harvest: runs, links, kept experiments, mistakes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session, steering
from app.experiments import words
from app.steer import link, run, tabs
from app.steering import Setting
from backend.engine import LocalEngine
from backend.generation.records import SamplingSettings
from backend.interventions.edit_modes import MODES
from backend.interventions.records import (
    Edit,
    EditBasis,
    EditCondition,
    EditSchedule,
    FrozenLayers,
    SteeringVector,
)
from feature_store.errors import InputError
from feature_store.experiments import Experiments
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

Open = Callable[..., AppTest]
PROMPT = "the cat ran to the park"
FEATURE = FeatureId("relu", 3)
EDIT = Edit("add", (FEATURE,), 8.0)
SHORT = SamplingSettings(max_new=6, temperature=0.8, seed=3)


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


@pytest.fixture
def store(harvested: Path, tmp_path: Path) -> Path:
    """A store of its own, as runs are kept in it."""
    shutil.copytree(harvested.parent, tmp_path / "store" / "harvests")
    return tmp_path / "store"


@pytest.fixture
def visit(store: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The page, its engine loaded already."""
    monkeypatch.setenv(session.STORE, str(store))
    monkeypatch.setattr(LocalEngine, "load", lambda *_: engine)

    def go(**query: str | list[str]) -> AppTest:
        file = next((store / "harvests").glob("*.duckdb"))
        harvest = HarvestFile(file)
        assert engine_loaded(harvest)
        return opened(session.STEER, **query)

    yield go  # type: ignore[misc]  # a generator fixture
    run.line.clear()


def press(test: AppTest, label: str) -> AppTest:
    next(button for button in test.button if button.label.startswith(label)).click().run()
    assert not test.exception
    return test


def finished(test: AppTest) -> run.SteeringRun:
    """Run it, wait for its end, and show that."""
    press(test, "run")
    one = test.session_state[link.SHOWN]
    assert isinstance(one, run.SteeringRun) and one.done.wait(60)
    test.run()
    assert not test.exception
    return one


def said(test: AppTest) -> str:
    parts = [*test.markdown, *test.caption]
    return " ".join(part.value for part in parts).replace("\\", "")


def stage(test: AppTest) -> dict:
    (part,) = [p for p in test.get("bidi_component") if "saefari_steer" in p.proto.component_name]
    return json.loads(part.proto.json)


def wanted(edit: Edit = EDIT, prompt: str = PROMPT, **more: str) -> dict[str, str]:
    drawn = link.compact({"max_new": 6, "seed": 3})
    edits = link.compact([link.slim(edit)])
    return {"edits": edits, "prompt": prompt, "sampling": drawn, **more}


def test_a_link_from_a_feature_steers_by_its_maximum(visit: Open) -> None:
    test = visit(feature=str(FEATURE), prompt=PROMPT)
    (edit,) = test.session_state[steering.SETTING].edits
    assert (edit.mode, edit.features, edit.strength) == ("add_max", (FEATURE,), 1.0)
    assert edit.basis.values[0] > 0 and "harvest" in edit.basis.source
    assert "feature" not in test.query_params


def test_a_run_is_shown_kept_and_opened_again(visit: Open, store: Path) -> None:
    test = visit(**wanted())
    one = finished(test)
    assert one.kept and not one.error
    assert test.query_params["experiment"] == one.kept and "prompt" not in test.query_params
    shown = stage(test)["message"]
    assert shown["state"]["done"] and "nats/token" in shown["rails"]["steered"]
    kept = Experiments(Store(store).catalog).open(one.kept)
    assert kept.result == one.story.data and kept.request["prompt"] == PROMPT
    again = visit(experiment=one.kept)
    assert stage(again)["message"]["story"] == json.loads(json.dumps(one.story.data))
    assert again.text_area[0].value == PROMPT
    assert finished(again).kept == one.kept, "the same run with the same result has one id"


def test_a_kept_contrast_opens_on_its_own_tab(visit: Open, store: Path) -> None:
    assert set(words.TABS.values()) == set(tabs.TABS)
    names = ("toward", "away from")
    request = Setting(prompt=PROMPT).to_json() | {
        "contrast": {"dictionary": "relu", "m": 1, **{name: [PROMPT] for name in names}}
    }
    vector = [1.0] * 16
    result = {
        "hook": "blocks.1.hook_resid_post",
        "vector": vector,
        "features": [["relu/3", 0.5]],
        "cosine": 0.5,
        "cosine_all": 0.6,
        "n": [1, 1],
        "length": 1.0,
        "norm": 2.0,
        "notes": ["a note of its own"],
    }
    (file,) = Store(store).harvests()
    hashes = {"relu": file.dictionaries["relu"].weights_hash}
    name = Experiments(Store(store).catalog).save(
        "contrast",
        harvest=file.record.id,
        model="m",
        model_hash=file.record.model_hash,
        dictionaries=hashes,
        request=request,
        result=result,
        versions={},
    )
    test = visit(experiment=name)
    assert test.query_params["more"] == "contrast direction"
    assert "a note of its own" in " ".join(one.value for one in test.markdown)
    assert test.text_area(key="direction_toward").value == PROMPT, "its fields are as they were"


def test_a_clicked_token_shows_its_table(visit: Open) -> None:
    test = visit(**wanted())
    one = finished(test)
    position = len(one.story.data["prompt"]["tokens"]) + 2
    test.session_state["steer_stage"] = {
        "at": {"run": one.name, "row": "steered", "position": position}
    }
    test.run()
    table = stage(test)["table"]
    assert len(table["rows"]) == 15
    assert table["drawn"] == one.story.data["rows"]["steered"]["tokens"][2]


EDITS = [
    EDIT,
    Edit("add_max", (FEATURE,), 2.5, basis=EditBasis((1.5,), source="harvest x, n = 3")),
    Edit("swap", (FEATURE, FeatureId("relu", 5)), when=EditSchedule("ramp", 3), read="clean"),
    Edit(
        "zero",
        (FeatureId("top", 1),),
        where=EditCondition("generated", gate=FEATURE, threshold=0.5),
    ),
    Edit("zero", (FEATURE,), where=EditCondition(positions=(2, 3), pattern="a|b", bos=True)),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.mode)
def test_a_setting_survives_its_url(edit: Edit) -> None:
    setting = Setting(
        (edit,), 'ünï "x"\n', replace(SHORT, stop=("\n",)), (FEATURE,), FrozenLayers((0, 2))
    )
    found = link.written(setting)
    plain = {n: json.loads(found[n]) for n in ("edits", "sampling", "watch", "freeze")}
    assert Setting.from_json({**plain, "prompt": found["prompt"]}) == setting


def test_what_is_too_long_for_a_url_stays_in_the_session() -> None:
    vector = SteeringVector(
        "mean difference", "blocks.1.hook_resid_post", tuple([0.123456789] * 2000)
    )
    found = link.written(Setting((Edit("add", vector=vector),), "x" * 7000))
    assert found == {}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"experiment": "nothere"}, "There is no experiment 'nothere'"),
        ({"feature": "relu/99999"}, "99999"),
        ({"feature": "nowhere/1"}, "nowhere"),
        (wanted(Edit("ad", (FEATURE,))), "No mode called 'ad'. Did you mean 'add'?"),
        ({"edits": "{"}, "The link's edits cannot be read"),
        ({"edits": '[{"mode": "add", "strength": NaN, "features": ["relu/3"]}]'}, "cannot be read"),
        ({"edits": "[]", "sampling": '{"seed": "x"}'}, "seed is 'x': write a whole number."),
        ({"edits": "[]", "sampling": '{"temperature": -1}'}, "temperature is -1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_link_that_cannot_be_is_a_sentence(visit: Open, query: dict, sentence: str) -> None:
    test = visit(**query)
    assert sentence in said(test)
    assert test.title[0].value == "Not found"


def test_mistakes_are_sentences_and_the_page_lives_on(visit: Open, rig: Rig) -> None:
    test = press(visit(**wanted(prompt="")), "run")
    assert "There is no prompt: type some text." in said(test)
    test.text_area[0].set_value("cat " * (rig.lm.n_ctx + 5)).run()
    press(test, "run")
    assert "Cut it." in said(test)
    press(test, "Cut the prompt")
    assert 0 < len(test.text_area[0].value.split()) < rig.lm.n_ctx
    assert finished(test).kept


def test_a_strength_beyond_numbers_is_said(visit: Open) -> None:
    test = visit(**wanted(replace(EDIT, strength=1e38)))
    press(test, "run")
    one = test.session_state[link.SHOWN]
    assert one.done.wait(60)
    assert "smaller" in one.error and not one.kept
    assert finished(visit(**wanted())).kept


def test_a_store_that_is_read_only_runs_and_does_not_keep(visit: Open) -> None:
    test = visit(**wanted())
    session.store().catalog.writable = False
    try:
        one = finished(test)
        assert one.story.n == 6 and not one.kept
        assert "Not kept:" in said(test) and "read-only" in said(test)
    finally:
        session.store().catalog.writable = True


def test_edits_come_and_go_and_come_back(visit: Open) -> None:
    test = visit(**wanted())
    press(test, "✕")
    assert test.session_state[steering.SETTING].edits == ()
    press(test, "undo")
    assert test.session_state[steering.SETTING].edits == (EDIT,)


def test_strength_by_slider_and_by_hand(visit: Open) -> None:
    """Whichever is moved, both show it, and a link has it; the slider reaches what is typed."""
    test = visit(**wanted())
    test.slider[0].set_value(test.slider[0].max).run()
    top = test.slider[0].max
    assert test.session_state[steering.SETTING].edits[0].strength == pytest.approx(top)
    field = next(one for one in test.number_input if one.label == "Strength, typed")
    assert field.value == pytest.approx(top)
    field.set_value(1000.0).run()
    assert test.slider[0].value == pytest.approx(1000.0)
    assert '"strength":1000.0' in test.query_params["edits"]


TEXTS = {
    "resample": {"Another prompt": "girl dog cat sun park"},
    "attenuate": {
        "Texts with the concept, one a line": "the cat\nran to the park",
        "Texts without it, one a line": "girl dog sun",
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_chosen_and_run(visit: Open, mode: str) -> None:
    test = visit(**wanted())
    chosen = next(one for one in test.selectbox if one.label == "Mode")
    chosen.set_value(mode).run()
    assert not test.exception
    for label, text in TEXTS.get(mode, {}).items():
        next(one for one in test.text_area if one.label == label).set_value(text).run()
    if mode in TEXTS:
        press(test, "measure")
        assert test.session_state[steering.SETTING].edits[0].basis.source
    if MODES[mode].pair:
        second = FeatureId("relu", 5)
        edits = test.session_state[steering.SETTING].edits
        both = replace(edits[0], features=(FEATURE, second))
        test = visit(**wanted(both))
    one = finished(test)
    assert not one.error and one.story.n == 6


def test_conditions_are_read_or_refused(visit: Open) -> None:
    test = visit(**wanted())
    by_label = {one.label: one for one in test.text_input}
    by_label["Positions"].set_value("2, 5").run()
    assert test.session_state[steering.SETTING].edits[0].where.positions == (2, 5)
    by_label["Only while this feature"].set_value("relu/99999").run()
    assert "99999" in said(test)
    assert test.session_state[steering.SETTING].edits[0].where.gate is None


def test_a_feature_is_found_and_watched(visit: Open) -> None:
    test = visit(**wanted(watch="[]"))
    boxes = [one for one in test.text_input if one.label == "Search"]
    boxes[1].set_value("top/7").run()
    press(test, "top/7")
    assert test.session_state[steering.SETTING].watch == (FeatureId("top", 7),)
    one = finished(test)
    assert set(one.story.data["rows"]["steered"]["watched"]) == {"relu/3", "top/7"}


def test_edits_of_another_harvest_are_left_out(store: Path) -> None:
    file = HarvestFile(next((store / "harvests").glob("*.duckdb")))
    assert link.foreign(EDIT, file) is None
    assert link.foreign(Edit("add", (FeatureId("other", 1),)), file) == FeatureId("other", 1)
    with pytest.raises(InputError, match="finite"):
        steering.sensible(replace(EDIT, strength=float("inf")))
