"""Run of a harvest, from the request to the published harvest file: load model and dictionaries,
plan the sequences, check the dictionaries, stream all shards, merge, publish.

The plan, the measurements and each shard's checkpoint are kept in the store's work folder, so the
same request resumes an interrupted harvest.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend import dictionaries as loaders
from backend.corpus import (
    SequencePlan,
    chat_renderer,
    open_corpora,
    plan_sequences,
    token_decoder,
)
from backend.dictionaries.base import Dictionary, Precision
from backend.dictionaries.dictionary_sources import split_ignored
from backend.evaluation.reconstruction_check import check_dictionary_fits, choose_bos_token
from backend.harvest import harvest_nulls
from backend.harvest.checkpoint import Shard
from backend.harvest.dictionary_measurements import (
    DictionaryMeasurement,
    bos_activations,
    measure_dictionaries,
)
from backend.harvest.disk_space import explain_full_disk
from backend.harvest.forward_batches import BatchFeed, TokenSampling
from backend.harvest.harvest_models import HarvestModels
from backend.harvest.harvest_plan import HarvestPlan, harvest_id, plan_config
from backend.harvest.harvest_tables import DictionaryResults, HarvestDetails, publish_harvest
from backend.harvest.shard_merge import merge_shards
from backend.harvest.shard_processes import start_other_shards, wait_for_processes
from backend.harvest.shard_run import HarvestProgress, ShardInputs, ShardRun
from backend.harvest.stage_timings import StageTimings
from backend.harvest.weight_facts import compute_weight_facts, drop_lens_arrays
from backend.harvest.window_grid import draw_silent_windows, lay_window_grid
from backend.harvest.work_folder import (
    WorkLock,
    all_shards_complete,
    find_existing_shards,
    find_unused_id,
    read_start_time,
    remove_abandoned_drafts,
)
from backend.model.device import Placement, limit_cpu_threads
from backend.model.language_model import LanguageModel
from backend.model.model_speed import measure_and_store_speed
from backend.model.weight_processing import WeightProcessing, require_same_processing
from feature_store.atomic_file import write_file
from feature_store.catalog import utc_now
from feature_store.errors import InputError
from feature_store.store import Store
from feature_store.strict_json import dump_json, parse_json

PUBLISH_PATIENCE_S = 3600.0
"""Seconds that the last shards to end wait for the process that publishes the harvest."""


@dataclass(frozen=True)
class HarvestRequest:
    """Request for a harvest: model, dictionaries, corpora, store and plan."""

    model: str
    dictionaries: list[str]
    """Specifications of the dictionaries, each `[NAME=]SPEC`."""
    corpora: list[str]
    store: Path
    plan: HarvestPlan
    placement: Placement
    precision: Precision = "exact"
    text_column: str = "text"
    processes: int = 1
    """Processes on this machine that share the work, each with one thread."""
    shard: Shard | None = None
    """Shard to harvest alone; the process that completes the last shard publishes the harvest. None
    harvests everything."""
    publishes: bool = True
    """False for the child processes of a process that will publish the harvest itself."""
    nulls: tuple[str, ...] = ()
    """Kinds of null dictionaries to harvest next to every trained dictionary."""
    again: bool = False
    """Whether to harvest again under a new id although a finished harvest of this configuration
    exists."""
    trust_remote_code: bool = False


class HarvestRun:
    """One run of a harvest request.

    Iterate `run` to its end; then `id`, `outcome` and `stages` tell what was done. `outcome` is
    `published`, `already` (a finished harvest existed) or `part` (other shards are still missing).
    """

    def __init__(self, request: HarvestRequest) -> None:
        self.request = request
        self.stages = StageTimings()
        self.id = ""
        self.outcome = ""
        self.probes: dict[str, DictionaryMeasurement] = {}
        self.warnings: list[str] = []
        self.state_bytes = 0
        self.n_tokens = 0
        self.n_nonzero = 0

    def run(self) -> Iterator[HarvestProgress]:
        """Run the harvest, yielding its progress. Raises InputError for problems that the user can
        fix."""
        with explain_full_disk(self.request.store):
            yield from self._run()

    def _run(self) -> Iterator[HarvestProgress]:
        """Run the stages of the harvest in order, without explaining a full disk."""
        store = Store.create(self.request.store)
        yield HarvestProgress("load model", 0, 1, "")
        with self.stages("model"):
            lm, dictionaries = self._load()
            measure_and_store_speed(store.speeds, lm)
        yield HarvestProgress("read corpus", 0, 1, "")
        with self.stages("plan"):
            work, sequences = self._plan(store, lm, dictionaries)
        target = store.path / "harvests" / f"{self.id}.duckdb"
        if target.exists():
            self.outcome = "already"
            shutil.rmtree(work, ignore_errors=True)
            return
        yield from self._harvest(lm, dictionaries, sequences, work, target)

    def _load(self) -> tuple[LanguageModel, list[Dictionary]]:
        """Load the model and the requested dictionaries, and check that they fit together."""
        request = self.request
        lm = LanguageModel.load(
            request.model, request.placement, trust_remote_code=request.trust_remote_code
        )
        limit_cpu_threads(request.placement, lm.d_model)
        dictionaries: list[Dictionary] = []
        for text in request.dictionaries:
            name, spec = loaders.parse_spec(text)
            dictionary = loaders.load(spec, name=name, placement=request.placement, width=lm.width)
            if any(dictionary.name == other.name for other in dictionaries):
                raise InputError(
                    f"Two dictionaries are named {dictionary.name!r}. Give one another name: "
                    f"--dictionary NAME={spec}"
                )
            check_dictionary_fits(lm, dictionary)
            dictionaries.append(dictionary)
        return lm, dictionaries

    def _plan(
        self, store: Store, lm: LanguageModel, dictionaries: list[Dictionary]
    ) -> tuple[Path, SequencePlan]:
        """Tokenise the corpus into a sequence plan. Its content, with the configuration, determines
        the harvest's id and so its work folder."""
        request, plan = self.request, self.request.plan
        context_size = min(plan.context_size, lm.n_ctx)
        render = chat_renderer(lm.tokenizer) if lm.tokenizer.chat_template else None
        corpus = open_corpora(
            request.corpora,
            text_column=request.text_column,
            render=render,
            decode=token_decoder(lm.tokenizer),
        )
        remove_abandoned_drafts(store.path / "work")
        draft = store.path / "work" / f"planning-{os.getpid()}"
        try:
            sequences = plan_sequences(
                corpus,
                lm.tokenizer,
                draft,
                context_size=context_size,
                tokens=plan.tokens,
                bos=choose_bos_token(lm, dictionaries),
                special_ids=lm.special_ids,
                pack=plan.pack,
                seed=plan.seed,
                d_vocab=lm.d_vocab,
            )
            config = self._config(lm, dictionaries, sequences)
            self.id = harvest_id(lm.name, config)
            if request.again:
                self.id = find_unused_id(store.path, self.id)
            work = store.path / "work" / self.id
            if not SequencePlan.complete(work / "plan"):
                (work / "plan").parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(work / "plan", ignore_errors=True)
                draft.rename(work / "plan")
            text = dump_json({**config, "started": utc_now().isoformat()}, indent=1)
            if not (work / "config.json").exists():
                write_file(work / "config.json", text)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        sequences = SequencePlan.load(work / "plan")
        self.warnings = describe_readings(dictionaries) + list(sequences.warnings)
        self.n_tokens = sequences.n_tokens
        return work, sequences

    def _config(
        self, lm: LanguageModel, dictionaries: list[Dictionary], sequences: SequencePlan
    ) -> dict[str, Any]:
        """Return the configuration whose hash identifies the harvest."""
        return {
            "schema": 1,  # not 2, which changed no figure: so the ids of harvests stay the same
            "model": lm.model_hash,
            "dictionaries": [
                [d.name, d.weights_hash, "+".join(d.read_hooks), "+".join(d.write_hooks)]
                for d in dictionaries
            ],
            "corpus": sequences.digest,
            "plan": plan_config(self.request.plan),
            "precision": self.request.precision,
            "dtype": str(lm.placement.dtype),
            "device": lm.placement.device.type,
            **({"nulls": list(self.request.nulls)} if self.request.nulls else {}),
        }

    def _harvest(
        self,
        lm: LanguageModel,
        dictionaries: list[Dictionary],
        sequences: SequencePlan,
        work: Path,
        target: Path,
    ) -> Iterator[HarvestProgress]:
        """Stream the corpus through the model and dictionaries for this process's shards, wait for
        the other shards, and publish the harvest."""
        request = self.request
        processing = require_same_processing({d.name: d.processing for d in dictionaries})
        windows = lay_window_grid(sequences, request.plan.window)
        silent = draw_silent_windows(windows, request.plan.silent, request.plan.seed)
        feed = BatchFeed(
            sequences, windows, TokenSampling(request.plan.seed, silent), lm.placement.device
        )
        if request.nulls:
            yield HarvestProgress("null dictionaries", 0, len(dictionaries), "dictionaries")
        dictionaries, models, weight_places = self._with_nulls(
            lm, dictionaries, feed, processing, work
        )
        shard = request.shard or find_existing_shards(work) or Shard(0, request.processes)
        in_this_process = request.shard is None and request.processes == 1
        shards = [Shard(i, shard.count) for i in range(shard.count)] if in_this_process else [shard]
        with ExitStack() as locks:
            for part in shards:
                locks.enter_context(WorkLock(part.folder(work), f"The harvest {self.id}"))
            yield from self._probe(models, dictionaries, feed, processing, work)
            shapes = [self.probes[d.name].shape(d, len(dictionaries)) for d in dictionaries]
            inputs = ShardInputs(
                models,
                dictionaries,
                shapes,
                processing,
                request.plan,
                request.precision,
                feed,
                work,
            )
            others = locks.enter_context(start_other_shards(request, shard))
            runs = [
                locks.enter_context(closing(ShardRun(inputs, part, self.stages))) for part in shards
            ]
            for shard_run in runs:
                yield from shard_run.run()
            yield from wait_for_processes(others)
        yield from self._publish_once_complete(
            lm, inputs, runs, silent, shard.count, weight_places, target
        )

    def _publish_once_complete(
        self,
        lm: LanguageModel,
        inputs: ShardInputs,
        runs: list[ShardRun],
        silent: np.ndarray,
        n_shards: int,
        weight_places: dict[str, str],
        target: Path,
    ) -> Iterator[HarvestProgress]:
        """Publish the harvest file where all shards are complete; otherwise leave that to the
        process that completes the last one."""
        request, work, feed = self.request, inputs.work, inputs.feed
        if not (request.publishes and all_shards_complete(work, n_shards, feed, request.plan)):
            self.outcome = "part"
            return
        with WorkLock(work / "publishing", f"The harvest {self.id}", PUBLISH_PATIENCE_S):
            if not target.exists():
                details = HarvestDetails(
                    self.id,
                    lm,
                    request.plan,
                    feed.plan,
                    feed.windows,
                    silent,
                    request.precision,
                    read_start_time(work),
                    hub_revision(lm),
                    describe_readings(inputs.dictionaries),
                )
                Store(request.store).places.remember(weight_places)
                yield from self._publish(details, inputs, runs, n_shards, target)
        self.outcome = "published"
        shutil.rmtree(work, ignore_errors=True)

    def _with_nulls(
        self,
        lm: LanguageModel,
        dictionaries: list[Dictionary],
        feed: BatchFeed,
        processing: WeightProcessing,
        work: Path,
    ) -> tuple[list[Dictionary], HarvestModels, dict[str, str]]:
        """Return all dictionaries, null dictionaries after the others; the models that they read;
        and where the weights are stored on this machine."""
        request = self.request
        weight_places = locate_weights(request, lm, dictionaries)
        if not request.nulls:
            return dictionaries, HarvestModels(lm), weight_places
        inputs = harvest_nulls.NullInputs(lm, feed, processing, request.plan.seed)
        folder = request.store / "nulls" / self.id
        with self.stages("null dictionaries"):
            null_dictionaries = harvest_nulls.load_or_make_nulls(
                inputs, dictionaries, request.nulls, folder, work
            )
            models = HarvestModels.create(lm, request.nulls, request.plan.seed)
        weight_places |= {
            null_dictionary.weights_hash: make_spec_absolute(str(path))
            for path, null_dictionary in null_dictionaries
            if path
        }
        return (
            [*dictionaries, *(null_dictionary for _, null_dictionary in null_dictionaries)],
            models,
            weight_places,
        )

    def _probe(
        self,
        models: HarvestModels,
        dictionaries: list[Dictionary],
        feed: BatchFeed,
        processing: WeightProcessing,
        work: Path,
    ) -> Iterator[HarvestProgress]:
        """Measure the dictionaries (self-check, activation scale, sampling rates) before the corpus
        is streamed, or read the measurements that an earlier process of this harvest saved."""
        path = work / "probes.json"
        if path.exists():
            saved = parse_json(path.read_text())
            self.probes = {name: DictionaryMeasurement(**fields) for name, fields in saved.items()}
            return
        checked = [
            d for d in dictionaries if d.architecture not in harvest_nulls.UNCHECKED_ARCHITECTURES
        ]
        yield from self._check(models.lm, checked, feed.plan)
        batch = self.request.plan.forward_batch
        for number, dictionary in enumerate(d for d in dictionaries if d not in checked):
            yield HarvestProgress(
                "scales of null dictionaries", number, len(dictionaries), "dictionaries"
            )
            with self.stages("self-check"):
                self.probes[dictionary.name] = harvest_nulls.measure_null_scales(
                    models.model_for(dictionary), dictionary, feed, processing, batch
                )
        saved_fields = {name: one.plain() for name, one in self.probes.items()}
        write_file(path, dump_json(saved_fields, indent=1))

    def _check(
        self, lm: LanguageModel, dictionaries: list[Dictionary], plan: SequencePlan
    ) -> Iterator[HarvestProgress]:
        """Run the self-check of all trained dictionaries together, which also measures their
        activation scales."""
        yield HarvestProgress("self-check", 0, 1, "passes")
        steps = measure_dictionaries(lm, dictionaries, plan)
        while True:
            with self.stages("self-check"):
                try:
                    step = next(steps)
                except StopIteration as end:
                    self.probes |= end.value
                    return
            yield HarvestProgress("self-check", step.done, step.total, "passes")

    def _publish(
        self,
        details: HarvestDetails,
        inputs: ShardInputs,
        runs: list[ShardRun],
        count: int,
        target: Path,
    ) -> Iterator[HarvestProgress]:
        """Merge the shards of every dictionary, compute its weight facts, and write the harvest
        file."""
        gathered: list[DictionaryResults] = []
        bos = details.sequences.bos
        for number, dictionary in enumerate(inputs.dictionaries):
            with self.stages("merge"):
                accumulator, records = merge_shards(inputs, runs, number, count)
            self.state_bytes += accumulator.nbytes
            self.n_nonzero += int(accumulator.statistics.n_active.sum())
            weights = None
            cache = self.request.store / "cache"
            for done, arrays in compute_weight_facts(details.lm, dictionary, cache, self.stages):
                yield HarvestProgress(
                    f"logits of {dictionary.name}", done, dictionary.d_sae, "features"
                )
                weights = arrays
            assert weights is not None, "weight_facts ends with the arrays"
            lm = inputs.models.model_for(dictionary)
            if lm is not details.lm:
                weights = drop_lens_arrays(weights)
            with self.stages("self-check"):
                bos_act = bos_activations(lm, dictionary, inputs.processing, bos)
            measurement = self.probes[dictionary.name]
            gathered.append(
                DictionaryResults(dictionary, measurement, accumulator, records, weights, bos_act)
            )
        written = publish_harvest(details, gathered, inputs.work, target)
        done = 0
        while done is not None:
            yield HarvestProgress("write", done, len(gathered), "dictionaries")
            with self.stages("write"):
                done = next(written, None)


def locate_weights(
    request: HarvestRequest, lm: LanguageModel, dictionaries: list[Dictionary]
) -> dict[str, str]:
    """Return where the weights of the model and the dictionaries are stored on this machine, by
    hash, for the live pages."""
    specs = [loaders.parse_spec(text)[1] for text in request.dictionaries]
    places = {
        d.weights_hash: make_spec_absolute(spec)
        for d, spec in zip(dictionaries, specs, strict=True)
    }
    return {lm.model_hash: make_spec_absolute(request.model), **places}


def make_spec_absolute(spec: str) -> str:
    """Return a dictionary or model specification with its local path made absolute; a following
    `@HOOK` or `?ignore=` is kept, and other specifications are returned unchanged."""
    bare, _ = split_ignored(spec)
    path, separator, hooks = bare, "", ""
    if not Path(bare).exists() and "@" in bare:
        path, separator, hooks = bare.rpartition("@")
    suffix = f"{separator}{hooks}{spec.removeprefix(bare)}"
    return f"{Path(path).resolve()}{suffix}" if Path(path).exists() else spec


def describe_readings(dictionaries: list[Dictionary]) -> list[str]:
    """Return notes for the harvest on choices made when the dictionaries' files were loaded, such
    as an inferred hook point, each after the dictionary's name."""
    return [
        f"{dictionary.name}: {note}" for dictionary in dictionaries for note in dictionary.notes
    ]


def hub_revision(lm: LanguageModel) -> str:
    """Return the Hugging Face commit of the harvest's model, or `unknown` where the model is
    local."""
    return getattr(lm.bare.config, "_commit_hash", None) or "unknown"
