"""Every page over stores made by hand: empty, bad input, happy path. No browser, no model."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import frame, session
from app.panels import feature_heading
from app.panels.panel_context import PanelContext
from app.serve import listen
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.pages import opened
from tests.stores import D_SAE, DEAD, make_store

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("app") / "store").path


@pytest.fixture
def visit(stored: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page at a URL; it may not raise."""

    def go(page: str = session.LIBRARY, /, store: Path = stored, **query: str) -> AppTest:
        monkeypatch.setenv(session.STORE, str(store))
        return opened(page, **query)

    return go


def parts(test: AppTest) -> dict[str, dict]:
    """The data of the page's components, by key."""
    found = {}
    for part in test.get("bidi_component"):
        found[part.key] = json.loads(part.proto.json)
    return found


def words(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title, *test.subheader, *test.code]
    return "\n".join(element.value for element in shown).replace("\\", "")


def test_an_empty_store_says_which_command_fills_it(visit: Open, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "empty")
    assert "saefari harvest --model MODEL" in words(visit(store=store.path))
    assert "holds no finished harvest" in words(visit(session.FEATURES, store=store.path))


def test_the_library_lists_harvests_and_what_is_wrong(visit: Open, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    (store.path / "harvests" / "bad.duckdb").write_bytes(b"nothing")
    (store.path / "work" / "begun").mkdir()
    (store.path / "work" / "begun" / "config.json").write_text("{}")
    test = visit(store=store.path)
    table = parts(test)["library_tiny-0001"]
    assert [row["target"] for row in table["rows"]] == ["resid", "abs"]
    assert table["rows"][0]["href"] == "features?harvest=tiny-0001&dictionary=resid"
    assert "self-check on 900 tokens of 50 documents" in words(test)
    assert "bad.duckdb is not a harvest file" in words(test)
    assert "begun is unfinished" in words(test)


def test_the_table_hides_dead_features_until_asked(visit: Open) -> None:
    test = visit(session.FEATURES, dictionary="resid")
    rows = parts(test)["features_table"]["rows"]
    assert len(rows) == D_SAE - 1 and rows[0]["cells"][4] == "dog  cat  ran"
    test.button_group(key="filtering_show").set_value("dead").run()
    assert [row["target"] for row in parts(test)["features_table"]["rows"]] == [str(DEAD)]


def test_filters_that_nothing_passes_say_so(visit: Open) -> None:
    test = visit(session.FEATURES, dictionary="resid")
    test.selectbox(key="filtering_column").set_value("max_act")
    test.number_input(key="filtering_low").set_value(1e6)
    test.button(key="filtering_add").click().run()
    assert test.query_params["filter"] == "max_act:1000000.."
    assert "No feature passes these filters" in words(test)


def test_a_click_on_steer_in_the_table_steers(visit: Open) -> None:
    test = visit(session.FEATURES, dictionary="abs")
    assert parts(test)["features_table"]["rows"][0]["steer"].startswith("steer?harvest=")
    test.session_state["features_table"] = {"steer": "30"}
    test.run()
    assert "Steer" in {one.value for one in test.title}


def test_a_click_in_the_table_opens_the_feature(visit: Open) -> None:
    """The table's order goes along: before and after it stands what stood there in the table."""
    test = visit(session.FEATURES, dictionary="abs", sort="-n_active", filter="n_active:60..")
    test.session_state["features_table"] = {"go": "30"}
    test.run()
    heading = parts(test)["feature_heading"]
    assert heading["index"] == 30 and heading["place"]["text"] == "10 of 20"
    assert [step["target"] for step in heading["steps"][:2]] == ["abs/31", "abs/29"]
    assert test.query_params["sort"] == "-n_active"


def test_a_feature_shows_what_the_store_holds(visit: Open, stored: Path) -> None:
    data = parts(visit(session.FEATURE, feature="resid/3"))
    held = Store(stored).harvest().contexts(FeatureId("resid", 3))
    top = data["feature_contexts"]["groups"][0]
    assert [group["name"] for group in data["feature_contexts"]["groups"]] == [
        "top",
        "deciles",
        "near zero",
    ]
    lines = top["sections"][0]["lines"]
    assert [shown["value"] for shown in lines] == [c.value for c in held if c.stratum == "top"]
    assert [step["target"] for step in data["feature_heading"]["steps"][:2]] == [
        "resid/2",
        "resid/4",
    ]
    assert data["feature_nearest"]["rows"][0]["target"] == "resid/4"
    assert data["feature_logits"]["rows"][0]["cells"] == [" dog", "+0.60", "↵", "−0.50"]


def test_deciles_share_out_all_activation_mass(visit: Open) -> None:
    data = parts(visit(session.FEATURE, feature="resid/3"))["feature_contexts"]
    (deciles,) = [group for group in data["groups"] if group["name"] == "deciles"]
    notes = [section["note"] for section in deciles["sections"]]
    assert sum(float(note.split("\u202f")[0]) for note in notes) == pytest.approx(100, abs=2)


def test_a_signed_feature_has_both_sides(visit: Open) -> None:
    data = parts(visit(session.FEATURE, feature="abs/3"))
    groups = {group["name"]: group for group in data["feature_contexts"]["groups"]}
    bottom = groups["bottom"]["sections"][0]["lines"]
    assert len(bottom) == 20 and all(line["value"] < 0 for line in bottom)
    assert dict(data["feature_heading"]["facts"])["max"].startswith("+")


def test_a_dead_feature_is_a_calm_sentence(visit: Open) -> None:
    test = visit(session.FEATURE, feature=f"resid/{DEAD}")
    assert "This feature never fired in 1\u202f410 tokens" in words(test)
    assert "below 0.21\u202f%" in words(test)
    assert "feature_contexts" not in parts(test)


def test_a_feature_to_beware_of_says_why(stored: Path) -> None:
    file = Store(stored).harvest()
    here = session.Place(file, file.dictionary("resid"))
    good = PanelContext.read(here, FeatureId("resid", 3))
    assert feature_heading.list_warnings(good) == []
    dense = replace(good, facts=replace(good.facts, density=0.25))
    assert feature_heading.list_warnings(dense)[0].startswith(
        "Dense: active on 25\u202f% of tokens"
    )
    fixed = replace(good, contexts=[replace(c, peak=5) for c in good.contexts])
    assert (
        "in all 40 sampled windows it peaks at position 5"
        in feature_heading.list_warnings(fixed)[0]
    )


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"feature": "resid/99"}, "There is no feature resid/99: resid has features 0 to 39."),
        ({"feature": "rezid/1"}, "Did you mean 'resid'?"),
        ({"feature": "17"}, "'17' is not a feature. Write DICTIONARY/INDEX"),
        ({"feature": "resid/1", "harvest": "gone"}, "No harvest called 'gone'."),
        ({"dictionary": "resid", "filter": "max_act:big.."}, "needs numbers, and 'big' is none."),
        ({"dictionary": "resid", "sort": "-densty"}, "Did you mean 'density'?"),
        ({"dictionary": "resid", "page": "0"}, "page=0 is not the number of a page."),
        ({"dictionary": "resid", "show": "live"}, "Did you mean 'alive'?"),
        ({"dictionary": "<b>x</b>"}, "called '<b>x</b>'. There are: abs, resid."),
    ],
)
def test_a_bad_address_is_a_sentence_with_a_way_out(visit: Open, query, sentence: str) -> None:
    test = visit(session.FEATURE if "feature" in query else session.FEATURES, **query)
    assert sentence in words(test)
    links = [link.proto.label for link in test.get("page_link")]
    assert "Go to the library" in links and links.count("Library") == 1


def test_going_to_a_feature_by_its_number(visit: Open) -> None:
    test = visit(session.FEATURES, dictionary="resid")
    test.session_state["frame_search"] = {"ask": "99"}
    test.run()
    assert "resid has features 0 to 39" in words(test)
    test.session_state["frame_search"] = {"ask": "abs/12"}
    test.run()
    assert parts(test)["feature_heading"]["index"] == 12


def test_what_names_no_feature_is_searched_for(stored: Path) -> None:
    file = Store(stored).harvest()
    here = session.Place(file, file.dictionary("resid"))
    assert frame.numbered(here, "7") == FeatureId("resid", 7)
    assert frame.numbered(here, "abs/99") == FeatureId("abs", 99)
    for words in ("and/or", "1/2", "dog", '"7"', "resid", "9" * 400, "²"):
        assert frame.numbered(here, words) is None


def test_a_taken_port_is_named() -> None:
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with taken, pytest.raises(InputError, match=rf"Port {port} on 127.0.0.1 cannot be used"):
        listen("127.0.0.1", port)
    with pytest.raises(InputError, match="Port 70000 on 127.0.0.1 cannot be used"):
        listen("127.0.0.1", 70000)


@pytest.mark.process
def test_pages_never_load_torch(stored: Path) -> None:
    """A feature page, drawn whole, leaves torch and what needs it unloaded."""
    code = (
        "import sys; from streamlit.testing.v1 import AppTest; from app.serve import MAIN\n"
        "test = AppTest.from_file(str(MAIN), default_timeout=60); test.run()\n"
        "test.query_params['feature'] = 'resid/3'\n"
        "test.switch_page('views/feature.py').run(); assert not test.exception\n"
        "heavy = ('torch', 'transformers', 'transformer_lens', 'sae_lens', 'datasets')\n"
        "sys.exit(any(m.split('.')[0] in heavy for m in sys.modules))"
    )
    env = {"SAEFARI_STORE": str(stored), "PATH": "", "HOME": str(stored)}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 0
