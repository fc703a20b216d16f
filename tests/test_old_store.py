"""A store made at schema 1 (tests/build_old_store.py) opens, reopens on its pages, and reruns.

What is pinned here was written by the code of commit 17f6308. Where the form of a request or of a
record changes, a converter has to bring these values along: do not build the archive again.
"""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.ablate.snippet import form_of
from app.circuits import running
from app.circuits.asked import CircuitRequest
from app.experiments import again
from app.experiments.files import read, take_in, written
from app.experiments.pair import measured_again
from app.experiments.words import PAGES, TABS
from app.steer import run
from backend.ablation.ablation_requests import AblationRequest
from backend.ablation.dataset_ablation import ablate_dataset
from backend.ablation.harvest_means import read_harvest_means
from backend.engine import LocalEngine
from backend.model.device import choose_placement
from backend.prediction_clusters.cluster_analysis import find_clusters
from backend.prediction_clusters.cluster_plan import ClusterPlan
from backend.probing import probe_ranking, shift_evaluation
from backend.probing.shift_request import ShiftRequest
from feature_store import feature_list_edits, removal_effects
from feature_store.catalog import Catalog
from feature_store.experiments import Experiment, Experiments
from feature_store.feature_maps import FeatureMaps
from feature_store.jobs import Jobs
from feature_store.records import FeatureId
from feature_store.saved_circuits import SavedCircuits
from feature_store.score_storage import read_score_details
from feature_store.store import Store
from tests.pages import engine_loaded, opened

ARCHIVE = Path(__file__).parent / "data" / "old_store.tar.xz"
HARVEST = "model-ab63e36841"
WEIGHTS = {
    "model": "2acb81c320eeeffe744c6efa102443931abed8dd21746b8d06e05fc9615cc8b7",
    "top": "eb72c3ab51f6b65426a336df6a028133f492748e3659620656cfc4bf1184394b",
    "abs": "1cb0bbeba7fb4726fa285ac28bc7dc8139a5261a86968965f2a7aee9890b8c8d",
    "mlp": "940333c6e657b4c446699e71b98eddd9cae8e5d2a91ad4b2cceab38eab102280",
}
"""Folder in the archive → hash of its weights."""
ROWS = {
    "annotation": 6,
    "circuit_edge": 72,
    "circuit_node": 74,
    "circuit_word": 3,
    "experiment": 16,
    "experiment_word": 2,
    "explanation": 9,
    "feature_list": 3,
    "list_entry": 8,
    "removal": 2,
    "score": 12,
}
"""Table of the catalog → its rows."""
KINDS = {
    "74c888fe28": "steer",
    "54643b20bb": "steer",
    "b96ea0662c": "sweep",
    "bbbaba1c06": "examples",
    "b9bc4985b2": "contrast",
    "405f440862": "ablate",
    "22d1dee156": "ablate",
    "93b5d02aca": "effects",
    "b4537fa358": "splice",
    "2653ff7554": "circuit",
    "10d267a1c2": "circuit",
    "97ec9e467b": "circuit",
    "4cc9afbf30": "circuit",
    "b0d6b52336": "circuit",
    "4095bf556d": "shift",
    "02b696a548": "clusters",
}
"""Experiment → its kind. An id is a hash of the kind, the weights, the request and the result."""
DELETED = "b4537fa358"
GRAPHS = {
    "2653ff7554": (13, 20),
    "10d267a1c2": (23, 30),
    "97ec9e467b": (17, 14),
    "4cc9afbf30": (9, 8),
    "b0d6b52336": (12, 0),
}
"""Circuit → its numbers of nodes and edges."""
SHOWN = {
    "74c888fe28": ("oldbooktreeredbutdayoneonate", "activation units"),
    "54643b20bb": ("laketooknightofisandwasboy<unk>", "1.60"),
    "b96ea0662c": ("top/14", "the cat", "2 continuations"),
    "bbbaba1c06": ("top/31", "−0.226", "top/25", "+0.209", "4.21 → 3.86"),
    "b9bc4985b2": ("top/2", "+1.26", "top/22", "+0.925", "0.048"),
    "405f440862": ("+0.184", "−0.535", "−0.228", "−0.222", "4.12", "554 %"),
    "22d1dee156": ("−0.0784", "−0.0776", "+0.000773", "−0.0249"),
    "93b5d02aca": ("−0.878", "+0.711", "0.0400"),
    "b4537fa358": ("4.12", "4.10", "−0.018", "4.15", "151"),
    "2653ff7554": ("mlp/21@6", "−1.22", "+1.15", "Spearman 0.97", "two of them"),
    "10d267a1c2": ("mlp/0@11", "+0.109", "0.67", "0.88", "−0.68"),
    "97ec9e467b": ("mlp/0@11", "+7.81", "−0.457", "0.39"),
    "4cc9afbf30": ("top/14@10", "+1.04", "+0.117"),
    "b0d6b52336": ("head/0.0@*", "+0.284", "+0.0393"),
    "4095bf556d": ("58.3 (38.8–75.5)", "75.0 (55.1–88.0)", "−8.3"),
    "02b696a548": ("−0.12 (−0.36 to +0.16)", "top/5, top/22, top/7", "1 063"),
}
"""Experiment → what its page shows when it is opened by its link."""


def unpacked(folder: Path) -> Store:
    """The store of the archive in a folder, with the weights known to lie next to it."""
    with tarfile.open(ARCHIVE) as file:
        file.extractall(folder, filter="data")
    store = Store(folder / "store")
    store.places.remember({weights: str(folder / name) for name, weights in WEIGHTS.items()})
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read only: what writes takes `copied`."""
    return unpacked(tmp_path_factory.mktemp("old"))


@pytest.fixture
def copied(store: Store, tmp_path: Path) -> Store:
    return Store(shutil.copytree(store.path, tmp_path / "store"))


@pytest.fixture(scope="module")
def engine(store: Store) -> Iterator[LocalEngine]:
    yield LocalEngine.load(store.harvest(), store.places.read_all(), choose_placement("cpu"))


def experiment(store: Store, name: str) -> Experiment:
    return Experiments(store.catalog).open(name)


def test_its_harvest_is_read(store: Store) -> None:
    assert store.problems() == [] and [one.record.id for one in store.harvests()] == [HARVEST]
    file = store.harvest()
    record = file.record
    assert (record.model, record.model_hash, record.corpus) == (
        "model",
        WEIGHTS["model"],
        "text.jsonl",
    )
    assert (record.tokens, record.sequences, record.windows) == (2967, 152, 838)
    found = {
        name: (one.architecture, one.signed, one.hook_name, one.hook_out, one.d_sae)
        for name, one in file.dictionaries.items()
    }
    resid = "blocks.1.hook_resid_post"
    assert found == {
        "top": ("topk", False, resid, resid, 48),
        "abs": ("abstopk", True, resid, resid, 16),
        "mlp": ("transcoder", False, "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out", 24),
    }
    assert {name: one.weights_hash for name, one in file.dictionaries.items()} == {
        name: weights for name, weights in WEIGHTS.items() if name != "model"
    }
    assert file.dictionaries["top"].n_dead == 28


def test_its_features_are_read(store: Store) -> None:
    file = store.harvest()
    feature = file.facts(FeatureId("abs", 3))
    assert (feature.n_active, feature.top_token, feature.top_token_n) == (1257, 57, 1257)
    assert feature.max_act == pytest.approx(1.2776503562927246)
    assert feature.promoted_tokens[:3] == [30, 50, 20] and feature.nearest[:3] == [14, 12, 15]
    first = file.contexts(FeatureId("top", 14))[0]
    assert (first.stratum, first.sequence, first.start, first.peak) == ("top", 143, 4, 6)
    assert first.positions == [4, 5, 6, 7] and first.value == pytest.approx(1.6041537523269653)
    assert len(file.silent_windows("top")) == 160
    assert file.vocabulary.text(6) == "cat" and len(file.documents) == 110


def test_every_table_of_its_catalog_has_rows(store: Store) -> None:
    with store.catalog.read_transaction() as db:
        found = {name: db.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in ROWS}
    assert found == ROWS


def test_labels_notes_and_stars_are_read(store: Store) -> None:
    said, one = store.catalog.snapshot(), FeatureId("top", 14)
    assert said.values_of_feature(one) == {
        "label": "naïve <b>café</b> 日本",
        "note": "first line\nsecond line",
        "star": "1",
    }
    assert said.values_of_feature(FeatureId("top", 7)) == {"label": "big cats"}
    assert said.values_of_feature(FeatureId("abs", 3)) == {"label": "signed"}
    assert [row.value for row in said.history(FeatureId("top", 7))] == ["cats", "big cats"]


def test_lists_are_read(store: Store) -> None:
    lists = store.catalog.snapshot().lists
    (animals,), (gone,) = lists.current, lists.deleted
    assert (animals.name, animals.description, gone.name) == (
        "animals",
        "features of animals",
        "gone",
    )
    entries = [(str(entry.feature), entry.note) for entry in animals.entries]
    assert entries == [("top/34", ""), ("top/14", "the clearest one"), ("abs/3", "")]


def test_explanations_are_read(store: Store) -> None:
    sentences = store.catalog.snapshot().scorable
    found = sentences.of_feature(FeatureId("top", 34))
    assert [(one.text, one.explainer, one.model, one.author) for one in found] == [
        ("written by a person", "person", "", "person"),
        ("words after “the cat”", "max-activating", "m", "model"),
        (
            "usually fires on “liked”; often on “red”, “mum”, “box”; sometimes on “blue”, “two”; "
            "makes “found”, “two”, “sad” likelier",
            "pattern",
            "",
            "model",
        ),
    ]
    assert sentences.explainers("top") == {"person", "max-activating", "pattern"}


def test_scores_are_read(store: Store) -> None:
    scores = store.catalog.snapshot().scores.of_feature(FeatureId("top", 34))
    pattern = {(one.judge, one.explanation): one for one in scores}
    assert len(scores) == 4 and {one.scorer for one in scores} == {"detection"}
    one = pattern["pattern", 3]
    figures = [one.value, one.low, one.high, one.hard, one.borrowed, one.constant, one.token]
    assert figures == pytest.approx(
        [
            0.6260248434879793,
            0.4978963755097381,
            0.7424782472133605,
            0.5244863819495177,
            0.32486542444290567,
            0.5,
            0.5112215322076039,
        ]
    )
    assert (one.measure, one.n, one.n_documents, one.failed) == ("balanced accuracy", 29, 21, 0)
    assert pattern["m", 3].failed == 4 and pattern["m", 3].harvest == HARVEST
    full = read_score_details(store.catalog, one.score)
    assert full.nulls["borrowed"]["value"] == pytest.approx(one.borrowed) and len(full.judged) > 40


def test_jobs_and_their_calls_are_read(store: Store) -> None:
    jobs = Jobs(store.path)
    assert jobs.problems() == [] and {job.state for job in jobs.list_jobs()} == {"done"}
    found = {job.id: (job.kind, job.description, job.done) for job in jobs.list_jobs()}
    assert list(found.values()) == [
        ("score", "top, top:3: detection by m", 3),
        ("score", "top, top:3: detection by pattern", 3),
        ("explain", "top, top:3: max-activating with m", 3),
        ("explain", "top, top:3: pattern", 3),
        ("ablate", "a test", 42),
    ]
    score, _, explain, _, ablate = jobs.list_jobs()
    assert explain.arguments["explainers"] == ["max-activating"]
    assert explain.result["explained"] == 3 and explain.result["results"][0]["tokens"] == 330
    assert score.result["questions"]["answered"] == 215
    assert score.result["questions"]["failures"]["unreadable"]["questions"] == 15
    assert ablate.result == {"experiment": "22d1dee156", "prompts": 6}
    for job, calls in ((score, 230), (explain, 3)):
        with duckdb.connect(str(job.data_path), read_only=True) as db:
            tables = ("attempt", "outcome")
            counts = [db.sql(f"SELECT count(*) FROM {name}").fetchall() for name in tables]
        assert counts == [[(calls,)]] * 2


def test_the_map_and_the_removals_are_read(store: Store) -> None:
    made = FeatureMaps(store.path).find(HARVEST, "top")
    assert made and made.feature.tolist()[:4] == [2, 4, 5, 7] and made.about.left_out == 28
    assert made.xy[0].tolist() == pytest.approx([1.2615341, 0.97875583])
    found = removal_effects.read_removal_effects(store.catalog, HARVEST, FeatureId("top", 14))
    assert set(found) == {(143, 4, 6), (71, 0, 2)}
    assert found[143, 4, 6].next_loss == pytest.approx(0.3254256248474121)
    assert found[143, 4, 6].tokens[:3] == [51, 0, 40]


def test_circuits_have_their_graphs_and_marks(store: Store) -> None:
    circuits = SavedCircuits(store.catalog)
    graphs = {name: circuits.read_graph(circuits.open(name).graph) for name in GRAPHS}
    assert {
        name: (len(one.list_nodes()), len(one.list_edges())) for name, one in graphs.items()
    } == GRAPHS
    kept = circuits.open("2653ff7554")
    assert kept.marks.pins == ("mlp/21@6",) and kept.marks.hidden == ("mlp/12@6",)
    assert kept.marks.groups == {"two of them": ("mlp/error@6", "mlp/17@6")}
    assert kept.experiment.note == "a note on a circuit"


def test_experiments_are_listed(store: Store) -> None:
    kept = Experiments(store.catalog)
    here, gone = kept.list_summaries(), kept.list_summaries(deleted=True)
    assert {entry.id: entry.kind for entry in [*here, *gone]} == KINDS
    assert [entry.id for entry in gone] == [DELETED]


def test_a_file_of_its_experiments_is_taken_in_elsewhere(store: Store, tmp_path: Path) -> None:
    """With the same ids: these are hashes of all that was kept."""
    runs = [experiment(store, name) for name in KINDS]
    other = Experiments(Catalog(tmp_path / "catalog.duckdb"))
    assert take_in(other, read(written(runs), "runs.json")).ids == tuple(KINDS)


def shown(test: AppTest) -> str:
    """All that a page says, and what its components were given."""
    said = [str(part.value) for part in [*test.title, *test.markdown, *test.caption]]
    given = [
        json.dumps(json.loads(part.proto.json), ensure_ascii=False)
        for part in test.get("bidi_component")
        if part.proto.json
    ]
    return " ".join([*said, *given]).replace("\\", "").replace("\u202f", " ")


@pytest.fixture
def visit(store: Store, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(session.STORE, str(store.path))
    monkeypatch.setattr(LocalEngine, "load", lambda *_: engine)
    assert engine_loaded(store.harvest())
    yield opened
    run.line.clear()


@pytest.mark.parametrize("name", KINDS)
def test_its_page_opens_an_experiment(name: str, visit: Any) -> None:
    kind = KINDS[name]
    tab = {"more": TABS[kind]} if kind in TABS else {}
    said = shown(visit(PAGES[kind], harvest=HARVEST, experiment=name, **tab))
    missing = [words for words in SHOWN[name] if words not in said]
    assert missing == [], said
    assert "no experiment" not in said and "no request" not in said


@pytest.mark.parametrize("name", KINDS)
def test_the_experiments_page_opens_an_experiment(name: str, visit: Any) -> None:
    said = shown(visit(session.EXPERIMENTS, experiment=name))
    assert KINDS[name] in said and name in said and HARVEST in said


def repeat(kept: Experiment, engine: LocalEngine, store: Store) -> Any:
    """The result of a kept request, computed again, for kinds that only their own page runs."""
    file = store.harvest(kept.harvest)
    if kept.kind == "ablate":
        return ablate_dataset(
            engine, AblationRequest.from_json(kept.request), read_harvest_means(file)
        )
    if kept.kind == "clusters":
        return find_clusters(engine, file, ClusterPlan.from_json(kept.request))
    assert kept.kind == "shift"
    asked = ShiftRequest.from_json(kept.request)
    return {
        "ranking": probe_ranking.rank_probe_features(engine, asked),
        "judged": shift_evaluation.evaluate_shift(engine, asked),
    }


@pytest.mark.parametrize("name", [name for name in KINDS if name not in GRAPHS])
def test_an_experiment_comes_out_the_same_again(
    name: str, store: Store, engine: LocalEngine
) -> None:
    kept = experiment(store, name)
    assert again.hindrance(store, kept) == ""
    own_page = kept.kind in ("shift", "clusters")
    if own_page or (kept.kind == "ablate" and form_of(kept.kind, kept.request) == "dataset"):
        repeated = repeat(kept, engine, store)
        same, said = measured_again(without_limits(kept.result), without_limits(repeated))
    else:
        under_way = again.begin(kept, engine, store.harvest(kept.harvest))
        while not under_way.over():
            assert under_way.said()
        same, said = under_way.verdict()
    assert same, said


def without_limits(result: Any) -> Any:
    """Return a result without the limits of its intervals.

    The store was made with BCa intervals; today's are bootstrap-t (docs/decisions/008).
    """
    if isinstance(result, list):
        return [without_limits(one) for one in result]
    if not isinstance(result, dict):
        return result
    limits = ("low", "high") if {"value", "low", "high", "n"} <= result.keys() else ()
    return {key: without_limits(one) for key, one in result.items() if key not in limits}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_circuit_comes_out_the_same_again(
    name: str, store: Store, engine: LocalEngine, copied: Store
) -> None:
    kept = SavedCircuits(store.catalog).open(name)
    asked = CircuitRequest.from_json(kept.experiment.request)
    assert asked.to_json() == kept.experiment.request
    circuit = running.find(engine, asked, lambda done, total, note: None).to_json()
    if asked.method == "head-codes":  # its target is a sentence
        circuit["target"] = kept.experiment.result["circuit"]["target"]
    fresh = SavedCircuits(copied.catalog)
    graphs = [
        kept_rows(store, kept.graph),
        kept_rows(copied, fresh.save_graph(circuit.pop("nodes"), circuit.pop("edges"))),
    ]
    for then, now in ((kept.experiment.result["circuit"], circuit), tuple(graphs)):
        same, said = measured_again(then, now)
        assert same, said


def kept_rows(store: Store, graph: str) -> dict[str, list[tuple]]:
    """The nodes and edges of a graph as the catalog has them; of labels those that are tokens."""
    token = "* EXCLUDE graph REPLACE (CASE WHEN kind IN ('token', 'logit') THEN label END AS label)"
    columns = {"circuit_node": token, "circuit_edge": "* EXCLUDE graph"}
    with store.catalog.read_transaction() as db:
        return {
            table: db.execute(
                f"SELECT {chosen} FROM {table} WHERE graph = ? ORDER BY ALL", [graph]
            ).fetchall()
            for table, chosen in columns.items()
        }


def test_a_copy_takes_new_labels_lists_and_experiments(copied: Store) -> None:
    catalog, one = copied.catalog, FeatureId("top", 7)
    catalog.annotate(one, "label", "small cats")
    name = feature_list_edits.create_list(catalog, "a new list")
    feature_list_edits.add_features(catalog, name, [one])
    said = catalog.snapshot()
    assert said.values_of_feature(one) == {"label": "small cats"}
    assert [found.name for found in said.lists.current] == ["a new list", "animals"]
    assert said.lists.get(name).features == [one]
    kept = Experiments(catalog)
    kept.delete(DELETED, restore=True)
    assert kept.list_summaries(deleted=True) == []
    then = experiment(copied, "74c888fe28")
    new = kept.save(
        then.kind,
        harvest=then.harvest,
        model=then.model,
        model_hash=then.model_hash,
        dictionaries=then.dictionaries,
        request=then.request,
        versions=then.versions,
        result={**then.result, "another": 1},
    )
    assert kept.list_summaries()[0].id == new and new not in KINDS
