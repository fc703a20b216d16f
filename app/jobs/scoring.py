"""The job `score`: how well explanations do, beside labels that know nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from app.jobs import living
from app.jobs.asking import (
    Asking,
    Teller,
    asked,
    by_purpose,
    ending,
    known_of,
    names_of,
    opened,
    refuse_unusable,
    settle_or_none,
    spent,
)
from app.jobs.embedding import SAMPLED, embedder
from app.jobs.features import pinned
from app.jobs.null_dictionaries import compared
from autointerp import baseline_labels
from autointerp.contexts import FeatureSample, SampleSettings
from autointerp.llm import CallLog
from autointerp.pipeline import score_job
from autointerp.pipeline.cost_estimate import CostEstimate, DryRunAsker
from autointerp.pipeline.cost_estimate import estimate_cost as worked_out
from autointerp.pipeline.feature_selection import select_features
from autointerp.pipeline.labels_to_score import LabelsToScore
from autointerp.pipeline.pausable_asker import PausableAsker
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.score_job import OWN_LABEL, ScorePlan, call_purpose
from autointerp.pipeline.score_summary import ScoreSummary
from autointerp.scorers.scorer_interface import LLM_JUDGE, PATTERN_JUDGE, Scorer, ScorerTools
from autointerp.text_embeddings import Embedder
from feature_store import score_storage as store_scores
from feature_store.corpus_text import sample_corpus_texts
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.job_process import JobProcess
from feature_store.jobs import Job, read_json_object, write_json_file
from feature_store.null_dictionaries import describe_shuffled_refusal, is_on_shuffled_model
from feature_store.store import Store

if TYPE_CHECKING:
    from autointerp.scorers.simulation_scale import SimulationScale

NOTE = "scoring explanations"
SCALE = "simulation.json"
"""In the job's folder: how simulated numbers are read, and why."""
WIDTH = 16
"""Features worked on at once at most: each asks some dozens of questions at a time."""


@dataclass(frozen=True)
class Scoring:
    """What this kind of job is asked."""

    harvest: str
    dictionary: str
    features: str
    scorers: tuple[str, ...]
    judge: str = PATTERN_JUDGE
    explainer: str | None = None
    """Whose explanations; None: the newest of every explainer."""
    asking: Asking = field(default_factory=Asking)
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a job's arguments."""
        return {**asdict(self), "scorers": list(self.scorers)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Scoring":
        """From a job's arguments."""
        plain = {**given, "scorers": tuple(given["scorers"])}
        return cls(**{**plain, "asking": Asking(**given["asking"])})

    @property
    def what(self) -> str:
        """In words, for the list of jobs."""
        judge = self.asking.model or self.judge
        return f"{self.dictionary}, {self.features[:40]}: {', '.join(self.scorers)} by {judge}"


def table() -> dict[str, Scorer]:
    """The scorers that there are."""
    from autointerp.scorers import SCORERS

    return SCORERS


def needs(names: tuple[str, ...]) -> set[str]:
    """What they need."""
    return {need for name in names for need in table()[name].needs}


def checked(store: Store, given: Scoring) -> Scoring:
    """The same with all that goes without saying, as a job takes it. InputError for what cannot
    be."""
    file = store.harvest(given.harvest or None, given.dictionary)
    names = names_of(",".join(given.scorers), "scorer", table())
    if given.judge not in (PATTERN_JUDGE, LLM_JUDGE):
        raise InputError(
            f"There is no judge {given.judge!r}. There are: {PATTERN_JUDGE}, {LLM_JUDGE}."
        )
    for name in names:
        if (judges := table()[name].judges) and given.judge not in judges:
            raise InputError(
                f"The scorer {name!r} cannot be judged by {given.judge!r}: use "
                f"--judge {' or '.join(sorted(judges))}."
            )
    if "model" in needs(names) and is_on_shuffled_model(file.dictionary(given.dictionary)):
        raise InputError(describe_shuffled_refusal(given.dictionary))
    features = pinned(store, file, given.dictionary, given.features)
    LabelsToScore(
        file, given.dictionary, store.catalog.snapshot().scorable, explainer=given.explainer
    )
    who = f"the scorer {', '.join(names)} with the judge {given.judge}"
    asking = settle_or_none(given.asking, asks=asks(names, given.judge), who=who)
    return Scoring(
        file.record.id,
        given.dictionary,
        features,
        names,
        given.judge,
        given.explainer,
        asking,
        given.seed,
    )


def wanted(given: Scoring) -> SampleSettings:
    """What a judge is asked about, and nothing of what explanations were written from."""
    return SampleSettings(seed=given.seed, shown=False)


def asks(names: tuple[str, ...], judge: str) -> bool:
    """Whether a language model is asked."""
    return judge == LLM_JUDGE and any(table()[name].judges for name in names)


def estimate(store: Store, given: Scoring) -> CostEstimate:
    """What a job that was `checked` will ask and cost; asks nobody."""
    file = store.harvest(given.harvest)
    labels = LabelsToScore(
        file,
        given.dictionary,
        store.catalog.snapshot().scorable,
        explainer=given.explainer,
        seed=given.seed,
    )
    known = known_of(store, given.asking)

    async def ask(windows: FeatureSample, dry: DryRunAsker) -> None:
        tools = ScorerTools(given.judge, dry, seed=given.seed, thinking=given.asking.thinking)
        await score_job.ask_for_estimate(windows, labels, scorers, tools)

    scorers = {name: table()[name] for name in given.scorers if foreseen(table()[name])}
    choice = select_features(file, given.dictionary, given.features)
    return worked_out(
        file,
        given.dictionary,
        choice,
        wanted(given),
        ask,
        known.dry,
        known.rates,
        known.price,
        among=lambda feature: bool(labels.of_feature(feature)),
        pace=known.pace,
        concurrency=given.asking.server.concurrency,
    )


def foreseen(scorer: Scorer) -> bool:
    """Whether what it asks is known before anything is answered, and needs no model."""
    return bool(scorer.judges) and not scorer.needs


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Score; what was done before an end is not done again."""
    given = Scoring.from_json(work.arguments)
    summary, more = asyncio.run(run(store, work, given))
    return result(work, summary, store, given) | more


async def run(
    store: Store, work: JobProcess, given: Scoring
) -> tuple[ScoreSummary, dict[str, Any]]:
    """With a server behind the gate where one is needed, and without."""
    asking = given.asking if asks(given.scorers, given.judge) else None
    async with asked(store, work, asking) as (gate, calls):
        summary = await through(store, work, given, gate, calls)
        more = ending(gate, calls)
        refuse_unusable(summary.questions.total())
        return summary, more


async def through(
    store: Store,
    work: JobProcess,
    given: Scoring,
    gate: PausableAsker | None,
    calls: CallLog | None,
) -> ScoreSummary:
    """The pipeline itself."""
    file = await asyncio.to_thread(opened, store, given.harvest, given.dictionary)
    labels = LabelsToScore(
        file,
        given.dictionary,
        store.catalog.snapshot().scorable,
        explainer=given.explainer,
        before=work.job.created.replace(tzinfo=None),
        seed=given.seed,
    )
    teller = Teller(work, NOTE, calls, gate)
    choice = select_features(file, given.dictionary, given.features)

    def tick(summary: ScoreSummary, total: int) -> None:
        facts = {"means": summary.means(), "skipped": summary.skipped} if teller.due else None
        done = summary.done if choice.enough is None else summary.taken
        teller.tell(done, total, summary.questions, facts)

    embed = await asyncio.to_thread(embedding, work, file, given, labels)
    width = min(WIDTH, given.asking.server.concurrency) if gate else 2
    plan = ScorePlan(
        file,
        given.dictionary,
        choice,
        wanted(given),
        labels,
        {name: table()[name] for name in given.scorers},
        await asyncio.to_thread(tools, store, work, file, given, gate, embed),
        lambda scorer: judge_of(scorer, given, embed),
        work.job.id,
        partial(store_scores.save_scores, store.catalog),
        ProgressLog(work.job.folder),
        tick,
        width,
        gate,
    )
    with teller.ending():
        summary = await score_job.score_features(plan)
    teller.write(
        {"means": summary.means(), "skipped": summary.skipped}, summary.questions.total(), last=True
    )
    return summary


def embedding(
    work: JobProcess, file: HarvestFile, given: Scoring, labels: LabelsToScore
) -> Embedder | None:
    """Where one is needed; it takes seconds."""
    if "embedder" not in needs(given.scorers):
        return None
    work.log("making the embedder")
    return embedder(sample_corpus_texts(file, SAMPLED), labels.texts)


def tools(
    store: Store,
    work: JobProcess,
    file: HarvestFile,
    given: Scoring,
    gate: PausableAsker | None,
    embed: Embedder | None,
) -> ScorerTools:
    """What the scorers need, made once."""
    from autointerp.scorers.token_counts import count_corpus_tokens

    wanted = needs(given.scorers)
    found = ScorerTools(
        given.judge,
        gate,
        embed.embed if embed else None,
        seed=given.seed,
        thinking=given.asking.thinking,
    )
    if "simulation" in given.scorers and gate is not None:
        found = replace(found, scale=scale_of_run(work))
    if "predicted-logits" in given.scorers:
        found = replace(found, counts=count_corpus_tokens(file))
    if wanted & {"model", "surprisal"}:
        work.log("loading the model")
        engine = living.load(store, given.harvest)
        found = replace(
            found,
            activates=living.activates(engine),
            steers=living.steers(engine, file),
            surprisal=living.surprisal(engine),
        )
    return found


def scale_of_run(work: JobProcess) -> "SimulationScale":
    """Return how the job reads simulated numbers: as it has done so far, or not decided yet."""
    from autointerp.scorers.simulation_scale import SCALES, SimulationScale

    path = work.job.folder / SCALE

    def keep(scale: str, reason: str) -> None:
        write_json_file(path, {"scale": scale, "reason": reason})
        work.log(f"simulation reads {scale}: {reason}")

    return SimulationScale(SCALES.get(read_scale(work.job).get("scale", "")), keep)


def read_scale(job: Job) -> dict[str, Any]:
    """Return the scale of a job's simulations and why it is that one; empty while undecided."""
    try:
        return read_json_object(job.folder / SCALE)
    except (OSError, ValueError):
        return {}


def judge_of(scorer: Scorer, given: Scoring, embed: Embedder | None) -> str:
    """Who answers a scorer, as scores say it."""
    if scorer.judges:
        return given.asking.model if given.judge == LLM_JUDGE else given.judge
    return embed.name if embed and "embedder" in scorer.needs else ""


def result(work: JobProcess, summary: ScoreSummary, store: Store, given: Scoring) -> dict[str, Any]:
    """The summary with what each explainer and scorer came to."""
    purposes = by_purpose(work.job.data_path)
    rows = summary.results()
    for row in rows:
        kinds = (OWN_LABEL, *baseline_labels.BASELINE_KINDS)
        row |= spent(purposes, [call_purpose(row["explainer"], row["scorer"], k) for k in kinds])
        row["null_dictionaries"] = compared(
            store,
            given.harvest,
            given.dictionary,
            work.job.id,
            summary,
            row["explainer"],
            row["scorer"],
            table()[row["scorer"]].bounds,
        )
    return {
        "features": summary.done,
        "skipped": summary.skipped,
        "questions": summary.questions.total().to_json(),
        **({"simulation": scale} if (scale := read_scale(work.job)) else {}),
        "results": rows,
    }
