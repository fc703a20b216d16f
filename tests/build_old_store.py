"""Build tests/data/old_store.tar.xz: a small store that holds one of everything that is kept.

It was run once, at commit 17f6308 (schema 1 of harvest files, catalog up to migration 0011) and
stays so that a reader sees what is in the archive. Do not run it again: a store that today's code
writes proves nothing about opening an old one. tests/test_old_store.py reads the archive.

The archive has the weights of the model and of the dictionaries next to the store, since random
weights may differ between versions of torch. No path of the machine is kept: `places.json` is left
out, and the test writes its own.

    cd AN_EMPTY_FOLDER && OMP_NUM_THREADS=1 python -m tests.build_old_store ARCHIVE
"""

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from app import ablating
from app.behaviours import keeping as cluster_keeping
from app.circuits import keeping as circuit_keeping
from app.circuits import running
from app.circuits.asked import CircuitRequest
from app.cli import main
from app.experiments import keeping
from app.experiments.again import ANSWERS
from app.jobs import ablating as dataset_job
from app.panels.removal_effect import select_strongest_contexts
from app.steer_more import sweeping
from app.steer_more.sweeping import Sweep
from backend.ablation.ablation_requests import AblationRequest, EffectRankingRequest, PromptCase
from backend.ablation.model_parts import ModelPart
from backend.engine import LocalEngine
from backend.generation.records import SamplingSettings
from backend.generation.steering_request import SteeringRequest
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.interventions.records import Edit
from backend.model.device import choose_placement
from backend.prediction_clusters.cluster_analysis import find_clusters
from backend.prediction_clusters.cluster_plan import ClusterPlan
from backend.probing import probe_ranking, shift_evaluation
from backend.probing.shift_request import ShiftRequest
from feature_store import explanation_edits, feature_list_edits, removal_effects
from feature_store.experiments import Experiments
from feature_store.harvest_reader import HarvestFile
from feature_store.harvest_writer import SCHEMA_VERSION
from feature_store.records import FeatureId
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store
from tests.dictionaries import CPU, HOOK, saved
from tests.harvests import texts
from tests.jobs import carry
from tests.models import save
from tests.openai_server import serve
from tests.planted import trapped

PROMPT = "the old cat saw a red ball and then the cat"
OTHER = "the big dog ran to the park and then the dog"
PLAIN = {**SteeringRequest("the cat", (), SamplingSettings(max_new=3)).to_json(), "edits": []}
TRANSCODER = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
KEPT = ("harvests", "catalog.duckdb", "jobs", "maps")
"""Of the store: what goes into the archive."""


def harvest(store: Path) -> HarvestFile:
    """Make a model, a TopK SAE, a signed SAE, a transcoder and a corpus, and harvest them."""
    save(Path("model"))
    saved(Path("top"), "topk", d_in=16, d_sae=48)
    saved(Path("abs"), "abstopk", d_in=16, d_sae=16)
    saved(Path("mlp"), "transcoder", d_in=16, d_out=16, d_sae=24, metadata=TRANSCODER)
    lines = [json.dumps({"text": text}) + "\n" for text in texts(110)]
    Path("text.jsonl").write_text("".join(lines))
    plan = HarvestPlan(
        tokens=100_000, context_size=32, top=20, ranged=40, silent=160, window=4, forward_batch=200
    )
    request = HarvestRequest(
        model="model",
        dictionaries=["top=top", "abs=abs", "mlp=mlp"],
        corpora=["text.jsonl"],
        store=store,
        placement=CPU,
        plan=plan,
    )
    assert list(HarvestRun(request).run())
    return Store(store).harvest()


def keep_texts(store: Path) -> None:
    """Keep two steering runs, made by the command line."""
    common = [
        "steer",
        "--model",
        "model",
        "--dictionary",
        "top",
        "--store",
        str(store),
        "--feature",
        "top/14",
        "--max-new",
        "9",
    ]
    for more in (
        ["--strength", "9", "--prompt", "the cat saw", "--seed", "2"],
        [
            "--mode",
            "add_max",
            "--strength",
            "2",
            "--prompt",
            PROMPT,
            "--seed",
            "5",
            "--where",
            "generated",
        ],
    ):
        assert main([*common, *more]) == 0


def keep_searches(store: Store, file: HarvestFile, engine: LocalEngine) -> None:
    """Keep a sweep, a search for features from examples and a contrast direction."""
    asked = SteeringRequest(
        "the cat", (Edit("add", (FeatureId("top", 14),), 2.0),), SamplingSettings(max_new=3)
    )
    sweep = Sweep((0.0, 2.0), seeds=2, concept="top/14", controls=("features",), n_controls=3)
    requests: dict[Any, dict[str, Any]] = {
        "sweep": sweeping.request(asked, sweep),
        "examples": {
            **PLAIN,
            "examples": {
                "texts": ["dog sat", "dog ran"],
                "dictionaries": ["top"],
                "m": 2,
                "penalty": 0.1,
            },
        },
        "contrast": {
            **PLAIN,
            "contrast": {"dictionary": "top", "m": 2, "toward": ["dog"], "away from": ["the cat"]},
        },
    }
    for kind, request in requests.items():
        found = ANSWERS[kind](engine, file, request)
        assert found is not None
        keeping.keep(
            store,
            kind,
            engine,
            harvest=file.record.id,
            dictionaries={"top"},
            request=request,
            result=found,
        )


def keep_ablations(store: Store, file: HarvestFile, engine: LocalEngine) -> None:
    """Keep an ablation, one over a data set (a job), a ranking of effects and a splice."""
    cases = (PromptCase(PROMPT, " took", " was"), PromptCase(OTHER, " ran", " sat"))
    parts = tuple(map(ModelPart.parse, ("top/14", "abs/3", "mlp:1")))
    names = ("top", "abs")
    requests: dict[Any, dict[str, Any]] = {
        "ablate": AblationRequest(cases, parts).check().to_json(),
        "effects": EffectRankingRequest(cases, names, exact=3).to_json(),
        "splice": EffectRankingRequest(cases, names, exact=0).to_json(),
    }
    for kind, request in requests.items():
        found = ablating.run(engine, file, kind, request, lambda done, total: None)
        keeping.keep(
            store,
            kind,
            engine,
            harvest=file.record.id,
            dictionaries=set(names),
            request=request,
            result=found,
        )
    given = AblationRequest((cases[0],) * 6, (parts[0],), controls=30)
    arguments = dataset_job.arguments(file.record.id, given.to_json())
    carry(store, "ablate", arguments, dataset_job.do)


def keep_circuits(store: Store, file: HarvestFile, engine: LocalEngine) -> None:
    """Keep a circuit by every method; mark nodes of the first."""
    one = {"cases": (PromptCase(PROMPT),), "targets": (" took",), "against": (" was",)}
    pair = (PromptCase("the cat saw a dog and", " the", " a", pair="the dog saw a cat and"),)
    six = tuple(
        PromptCase(f"the {a} saw the {b} and the", pair=f"the {a} saw the ball and the")
        for a, b in [("cat", "dog"), ("boy", "girl"), ("mum", "dad")] * 2
    )
    requests = [
        CircuitRequest(
            "sparse-features", ("top", "mlp"), pair, baseline="pair", nodes=12, edges=20
        ),
        CircuitRequest("attribution-graph", ("mlp",), **one, nodes=10, edges=30),
        CircuitRequest("weights", ("mlp",), **one, nodes=8, edges=20),
        CircuitRequest("trace", ("top",), (PromptCase(PROMPT),), start="top/14", nodes=8, edges=20),
        CircuitRequest("head-codes", ("top",), six),
    ]
    for request in requests:
        circuit = running.find(engine, request, lambda done, total, note: None)
        kept = circuit_keeping.keep(store, file.record.id, engine, request, circuit)
        if request is requests[0]:
            mark(store, kept, [node.id for node in circuit.nodes])


def mark(store: Store, circuit: str, ids: list[str]) -> None:
    """Pin, hide and group nodes of a circuit, and write a note on it."""
    circuits = SavedCircuits(store.catalog)
    circuits.write_mark(circuit, "pins", ids[:1])
    circuits.write_mark(circuit, "hidden", ids[3:4])
    circuits.write_mark(circuit, "groups", {"two of them": ids[1:3]})
    Experiments(store.catalog).annotate(circuit, "a note on a circuit")


def keep_probe_and_clusters(store: Store, file: HarvestFile, engine: LocalEngine) -> None:
    """Keep a SHIFT run with one feature removed, and prediction clusters."""
    given = ShiftRequest(
        trapped(24, together=True), trapped(24, together=False), HOOK, ("top",), exact=3, draws=3
    )
    ranked = probe_ranking.rank_probe_features(engine, given)
    first = FeatureId.parse(ranked["rows"][0]["feature"])
    given = given.with_features((first,), given.draws)
    result = {"ranking": ranked, "judged": shift_evaluation.evaluate_shift(engine, given)}
    keeping.keep(
        store,
        "shift",
        engine,
        harvest=file.record.id,
        dictionaries={"top"},
        request=given.to_json(),
        result=result,
    )
    plan = ClusterPlan(("top",), tokens=40, loss=6.0, clusters=3)
    cluster_keeping.keep(store, file.record.id, engine, plan, find_clusters(engine, file, plan))


def explain_and_score(store: Path) -> None:
    """Explain with and without a language model, score either with both judges, draw a map."""

    def reply(body: dict[str, Any]) -> str:
        asked = json.dumps(body.get("response_format", ""))
        if "answers" in asked:
            return json.dumps({"answers": [1, 0, 1, 0, 1]})
        return json.dumps({"explanation": "words after “the cat”"})

    command = ["--store", str(store), "--dictionary", "top", "--features", "top:3"]
    with serve(reply) as server:
        asking = ["--model", "m", "--base-url", server.base_url]
        assert main(["explain", *command, "--explainer", "pattern"]) == 0
        assert main(["explain", *command, "--explainer", "max-activating", *asking]) == 0
        assert main(["score", *command]) == 0
        assert main(["score", *command, "--judge", "openai", *asking]) == 0
    assert main(["map", "--store", str(store), "--dictionary", "top"]) == 0


def annotate(store: Store, file: HarvestFile, engine: LocalEngine) -> None:
    """Write labels, notes, stars, lists, a person's explanations and a feature's removal."""
    catalog, a, b, c = store.catalog, *(FeatureId("top", i) for i in (7, 14, 34))
    catalog.annotate(a, "label", "cats")
    catalog.annotate(a, "label", "big cats")
    catalog.annotate(b, "label", "naïve <b>café</b> 日本")
    catalog.annotate(b, "note", "first line\nsecond line")
    catalog.annotate(b, "star", "1")
    catalog.annotate(FeatureId("abs", 3), "label", "signed")
    explanation_edits.write_explanation(catalog, c, "written by a person")
    explanation_edits.write_explanation(catalog, c, "withdrawn by a person")
    written = {one.text: one for one in catalog.snapshot().scorable.of_feature(c)}
    explanation_edits.withdraw_explanation(catalog, written["withdrawn by a person"].explanation)
    animals = feature_list_edits.create_list(catalog, "animals", "features of animals")
    feature_list_edits.add_features(catalog, animals, [a, b, c, FeatureId("abs", 3)])
    feature_list_edits.write_note(catalog, animals, b, "the clearest one")
    feature_list_edits.move_feature(catalog, animals, c, -1)
    feature_list_edits.remove_features(catalog, animals, [a])
    gone = feature_list_edits.create_list(catalog, "gone")
    feature_list_edits.delete_list(catalog, gone)
    kept = Experiments(catalog)
    kept.delete(next(one.id for one in kept.list_summaries() if one.kind == "splice"))
    found = [
        engine.measure_removal(b, window, file.sequences.tokens(window.sequence))
        for window in select_strongest_contexts(file.contexts(b))[:2]
    ]
    removal_effects.save_removal_effects(catalog, file.record.id, b, found)


def pack(archive: Path) -> None:
    """Write the archive: the same names, times and owners wherever it is made."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.endswith((".lock", "/lock", ".wal")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz") as file:
        for name in ("model", "top", "abs", "mlp", *(f"store/{name}" for name in KEPT)):
            file.add(name, filter=plain)


def build(archive: Path) -> None:
    """Make everything in the current folder."""
    assert SCHEMA_VERSION == 1, "an old store is one of schema 1; see the module's docstring"
    store_path = Path("store")
    file = harvest(store_path)
    store = Store(store_path)
    keep_texts(store_path)
    engine = LocalEngine.load(file, store.places.read_all(), choose_placement("cpu"))
    keep_searches(store, file, engine)
    keep_ablations(store, file, engine)
    keep_circuits(store, file, engine)
    keep_probe_and_clusters(store, file, engine)
    explain_and_score(store_path)
    annotate(store, file, engine)
    pack(archive)


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute())
