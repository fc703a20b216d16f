"""The job `explain`: sentences about many features, kept as they come."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

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
from app.jobs.embedding import embedder, shown, words
from app.jobs.features import pinned
from autointerp.contexts import FeatureSample, SampleSettings
from autointerp.explainers.explainer_interface import Explainer, ExplainerTools
from autointerp.llm import CallLog
from autointerp.pipeline import explain_job
from autointerp.pipeline.cost_estimate import CostEstimate, DryRunAsker
from autointerp.pipeline.cost_estimate import estimate_cost as worked_out
from autointerp.pipeline.explain_job import ExplainPlan, ExplainTally
from autointerp.pipeline.feature_selection import select_features
from autointerp.pipeline.pausable_asker import PausableAsker, set_call_purpose
from autointerp.pipeline.progress_log import ProgressLog
from feature_store import explanation_edits
from feature_store.harvest_reader import HarvestFile
from feature_store.job_process import JobProcess
from feature_store.store import Store

NOTE = "explaining features"
WIDTH = 64
"""Features worked on at once at most."""


@dataclass(frozen=True)
class Explaining:
    """What this kind of job is asked."""

    harvest: str
    dictionary: str
    features: str
    explainers: tuple[str, ...]
    asking: Asking = field(default_factory=Asking)
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a job's arguments."""
        return {**asdict(self), "explainers": list(self.explainers)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Explaining":
        """From a job's arguments."""
        plain = {**given, "explainers": tuple(given["explainers"])}
        return cls(**{**plain, "asking": Asking(**given["asking"])})

    @property
    def what(self) -> str:
        """In words, for the list of jobs."""
        by = f" with {self.asking.model}" if self.asking.model else ""
        return f"{self.dictionary}, {self.features[:40]}: {', '.join(self.explainers)}{by}"


def table() -> dict[str, Explainer]:
    """The explainers that there are."""
    from autointerp.explainers import EXPLAINERS

    return EXPLAINERS


def needs(names: tuple[str, ...]) -> set[str]:
    """What they need."""
    return {need for name in names for need in table()[name].needs}


def checked(store: Store, given: Explaining) -> Explaining:
    """The same with all that goes without saying, as a job takes it. InputError for what cannot
    be."""
    file = store.harvest(given.harvest or None, given.dictionary)
    names = names_of(",".join(given.explainers), "explainer", table())
    return Explaining(
        file.record.id,
        given.dictionary,
        pinned(store, file, given.dictionary, given.features),
        names,
        settle_or_none(
            given.asking, asks="server" in needs(names), who=f"the explainer {', '.join(names)}"
        ),
        given.seed,
    )


def wanted(given: Explaining) -> SampleSettings:
    """What an explainer is shown, and nothing that it will be judged by."""
    with_silent = any(table()[name].uses_silent for name in given.explainers)
    return SampleSettings(seed=given.seed, with_silent=with_silent, scored=False)


def estimate(store: Store, given: Explaining) -> CostEstimate:
    """What a job that was `checked` will ask and cost; asks nobody."""
    file = store.harvest(given.harvest)
    known = known_of(store, given.asking)

    async def ask(windows: FeatureSample, dry: DryRunAsker) -> None:
        tools = ExplainerTools(dry, seed=given.seed, thinking=given.asking.thinking)
        for name in given.explainers:
            if "server" in table()[name].needs:
                with set_call_purpose(f"explain: {name}"):
                    await table()[name].explain(windows, tools)

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
        pace=known.pace,
        concurrency=min(WIDTH, given.asking.server.concurrency),
    )


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Explain; what was done before an end is not done again."""
    given = Explaining.from_json(work.arguments)
    tally, more = asyncio.run(run(store, work, given))
    return result(work, given, tally) | more


async def run(
    store: Store, work: JobProcess, given: Explaining
) -> tuple[ExplainTally, dict[str, Any]]:
    """With a server behind the gate where one is needed, and without."""
    asking = given.asking if "server" in needs(given.explainers) else None
    async with asked(store, work, asking) as (gate, calls):
        tally = await through(store, work, given, gate, calls)
        more = ending(gate, calls)
        refuse_unusable(tally.questions.total())
        return tally, more


async def through(
    store: Store,
    work: JobProcess,
    given: Explaining,
    gate: PausableAsker | None,
    calls: CallLog | None,
) -> ExplainTally:
    """The pipeline itself."""
    file = await asyncio.to_thread(opened, store, given.harvest, given.dictionary)
    teller = Teller(work, NOTE, calls, gate)
    choice = select_features(file, given.dictionary, given.features)

    def tick(tally: ExplainTally, total: int) -> None:
        done = tally.done if choice.enough is None else tally.taken
        more = facts(given, tally) if teller.due else None
        teller.tell(done, total, tally.questions, more)

    attended = None
    if "sources" in needs(given.explainers):
        work.log("loading the model")
        engine = await asyncio.to_thread(living.load, store, given.harvest)
        attended = living.sources(engine, file)
    width = min(WIDTH, given.asking.server.concurrency) if gate else 2
    plan = ExplainPlan(
        file,
        given.dictionary,
        choice,
        wanted(given),
        {name: table()[name] for name in given.explainers},
        await asyncio.to_thread(tools, work, file, given, gate),
        work.job.id,
        partial(explanation_edits.save_explanations, store.catalog),
        ProgressLog(work.job.folder),
        tick,
        width,
        gate,
        attended,
    )
    with teller.ending():
        tally = await explain_job.explain_features(plan)
    teller.write(facts(given, tally), tally.questions.total(), last=True)
    return tally


def tools(
    work: JobProcess, file: HarvestFile, given: Explaining, gate: PausableAsker | None
) -> ExplainerTools:
    """What the explainers need, made once."""
    wanted = needs(given.explainers)
    found = ExplainerTools(gate, seed=given.seed, thinking=given.asking.thinking)
    if "embedder" in wanted:
        work.log("making the embedder")
        corpus = shown(file)
        found = replace(found, embed=embedder(corpus).embed, words=words(corpus))
    return found


def facts(given: Explaining, tally: ExplainTally) -> dict[str, Any]:
    """What came out, for whoever watches."""
    counts = {name: tally.counts(name) for name in given.explainers}
    return {
        "explained": {name: good for name, (good, _) in counts.items()},
        "failed": sum(bad for _, bad in counts.values()),
        "skipped": tally.skipped,
        "latest": tally.latest,
    }


def result(work: JobProcess, given: Explaining, tally: ExplainTally) -> dict[str, Any]:
    """The summary; nothing is scored here, so there is no mean."""
    purposes = by_purpose(work.job.data_path)
    rows = []
    for name in given.explainers:
        good, bad = tally.counts(name)
        rows.append(
            {
                "explainer": name,
                "scorer": None,
                "n": good,
                "mean": None,
                "low": None,
                "high": None,
                "nulls": {},
                "failed": bad,
                "skipped": sum(tally.skipped.values()),
                **spent(purposes, [f"explain: {name}"]),
            }
        )
    return {
        "explained": sum(row["n"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
        "skipped": tally.skipped,
        "questions": tally.questions.total().to_json(),
        "results": rows,
    }
