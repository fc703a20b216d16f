"""A sweep's texts before a language model: ratings, and the strength that it likes best."""

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import session
from app.costly import draw_costly_button
from app.steer import kept
from app.steer_more import sweeping, task
from app.steer_more.task import Plain, Task
from app.steering import SteeringTabContext
from app.wording import count, measure, plural
from autointerp import steering_judge
from autointerp.llm import CallLog, LlmServer, RequestFailure, load_servers, open_asker
from autointerp.llm.call_file_pruning import prune_call_files
from autointerp.pipeline.pausable_asker import PausableAsker
from autointerp.steering_judge import ASPECTS, SteeredText, SteeringRating
from feature_store.errors import InputError
from feature_store.jobs import Jobs
from feature_store.records import FeatureId
from feature_store.statistics.estimate import Estimate

if TYPE_CHECKING:
    from backend.steering.sweep_results import SweepOutcome

TASK, PROBLEM = "judge_task", "judge_problem"
AWAY_S = 8.0
"""A page that has not asked for so long is gone."""
MEASURES = {name: f"judge_{name}" for name in ASPECTS}
HOW = (
    "Texts can be judged for concept, instruction and fluency once a language-model server is "
    "configured: a servers.toml, or OPENAI_API_KEY (docs/servers.md)."
)


@dataclass
class ServerTicket:
    """A ticket for work that only a language-model server does: the local model's line of waiting
    visitors does not concern it, and it ends with its page."""

    place: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    seen: float = field(default_factory=time.monotonic)

    def turn(self) -> bool:
        """Return at once, True unless the work was stopped before it began."""
        return not self.stop.is_set()

    def __enter__(self) -> "ServerTicket":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()

    @property
    def queue(self) -> "ServerTicket":
        """It tidies after itself."""
        return self

    def touch(self) -> None:
        """The page is still there."""
        self.seen = time.monotonic()

    def tidy(self) -> None:
        """Stop where it is not."""
        if time.monotonic() - self.seen > AWAY_S:
            self.stop.set()


@dataclass(frozen=True)
class Judge:
    """Whom to ask, about what, within which limit."""

    server: LlmServer
    model: str
    concept: str
    budget: float | None
    """US dollars; None is no cap."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, kept with the run; no key is part of it."""
        return {
            "server": self.server.name,
            "base_url": self.server.base_url,
            "model": self.model,
            "concept": self.concept,
            "prompt": steering_judge.prompt_version(),
        }


def latest(request: Plain, result: Plain) -> tuple[Plain, Plain]:
    """The sweep with what the judge has just said of it, else as it is."""
    done = task.running(TASK)
    if done is not None and done.result is not None and base(done.request) == base(request):
        return done.request, done.result
    return request, result


def base(request: Plain) -> dict[str, Any]:
    """A sweep's request without a judge."""
    return {name: value for name, value in request.items() if name != "judge"}


def unjudged(result: Plain) -> dict[str, Any]:
    """A result without what a judge said; as it is, if it is of another kind."""
    if "doses" not in result:
        return dict(result)

    def dose(one: Plain) -> dict[str, Any]:
        mine = ("judge", *MEASURES.values())
        heard = [
            {**h, "values": {k: v for k, v in h["values"].items() if k not in mine}}
            for h in one["heard"]
        ]
        return {**one, "heard": heard}

    plain = {name: value for name, value in result.items() if name != "judge"}
    return {
        **plain,
        "default": dose(result["default"]),
        "doses": [dose(one) for one in result["doses"]],
    }


def draw(subject: SteeringTabContext, request: Plain, result: Plain, experiment: str) -> None:
    """Under a sweep's figure: what was judged, or the way to it. `experiment`: the sweep's id, if
    it is kept."""
    if "judge" in result:
        summary(request, result)
        keep_it(experiment)
        return
    with st.expander("judge these texts with a language model"):
        form(subject, request, result)
        task.watch(TASK)
        if said := st.session_state.get(PROBLEM):
            st.markdown(f":orange[{session.literal(said)}]")


def form(subject: SteeringTabContext, request: Plain, result: Plain) -> None:
    """Whom to ask about what."""
    try:
        known = load_servers()
    except InputError as error:
        st.caption(session.literal(str(error)))
        return
    if not known:
        st.caption(HOW)
        return
    texts = texts_of(request, result)
    asked, sweep = sweeping.parts(request)
    key = sweep.concept or str(len(asked.edits))
    concept = st.text_input(
        "concept",
        label_of(subject, sweep.concept),
        key=f"judge_concept_{key}",
        max_chars=500,
        placeholder="what the texts should show more of, in words",
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        name = st.selectbox("server", sorted(known), key="judge_server", width=160)
        models = list(known[name].models)
        model = st.selectbox(
            "model",
            models,
            key=f"judge_model_{name}",
            accept_new_options=True,
            placeholder="name a model",
            width=260,
        )
        budget = st.number_input(
            "at most, US $", 0.0, value=None, key="judge_budget", width=140, placeholder="no cap"
        )
        n = len(set(texts))
        judge = Judge(known[name], model or "", concept.strip(), budget)
        label = f"judge {plural(n, 'text')} ▶"
        draw_costly_button(label, begin, args=(request, result, judge), key="judge_run")
    st.caption(
        "Concept, instruction and fluency are rated 0 to 2 each, one question a text (controls are "
        "not asked about); a text's score is their harmonic mean, 0 where any is 0."
    )


def label_of(subject: SteeringTabContext, feature: str) -> str:
    """What the feature is called, else what it was explained as."""
    if not feature:
        return ""
    one = FeatureId.parse(feature)
    key = (one.dictionary, one.index)
    found = subject.said.annotations
    return found.label_index.label_of(key) or found.explanation_index.label_of(key)


def begin(request: Plain, result: Plain, judge: Judge) -> None:
    """Callback: ask, in a thread of its own."""
    st.session_state.pop(PROBLEM, None)
    if not judge.model or not judge.concept:
        lacks = "the concept in words" if judge.model else "a model to ask"
        st.session_state[PROBLEM] = f"The judge needs {lacks}."
        return
    wanted = {**request, "judge": judge.to_json()}
    work = partial(ask, session.store().path, judge, request, result)
    try:
        task.begin(TASK, wanted, work, ServerTicket())
    except InputError as error:
        st.session_state[PROBLEM] = str(error)


def ask(store: Path, judge: Judge, request: Plain, result: Plain, mine: Task) -> Plain | None:
    """The thread's part: the sweep's result with ratings; None where it was stopped."""
    texts = texts_of(request, result)
    found = asyncio.run(rated(store, judge, texts, mine))
    return None if found is None else with_ratings(result, found)


async def rated(
    store: Path, judge: Judge, texts: Sequence[SteeredText], mine: Task
) -> list[SteeringRating | RequestFailure] | None:
    """A rating of each text. InputError where nothing can be asked."""
    async with gate_to(store, judge) as gate:
        found = await steering_judge.rate_steered_texts(
            gate, judge.concept, texts, partial(tell, mine), mine.ticket.stop
        )
    given = any(isinstance(one, SteeringRating) for one in found or ())
    if found is not None and not given:
        raise InputError(next(one.sentence for one in found if isinstance(one, RequestFailure)))
    return found


def tell(mine: Task, done: int, total: int) -> None:
    """How far it is."""
    mine.tell(done, total, "texts judged:")


@asynccontextmanager
async def gate_to(store: Path, judge: Judge) -> AsyncIterator[PausableAsker]:
    """The server, with a record of its own and those of the store's jobs and newest judges at hand:
    older ones are deleted."""
    jobs = Jobs(store)
    former = await asyncio.to_thread(prune_call_files, list(jobs.path.glob("judge-*.duckdb")))
    path = jobs.path / f"judge-{uuid.uuid4().hex[:12]}.duckdb"
    others = [*(job.data_path for job in jobs.list_jobs()), *former]
    with CallLog(path, others=[one for one in others if one.exists()]) as calls:
        budget = calls.budget(judge.budget)
        async with open_asker(judge.server, judge.model, calls, budget) as asker:
            yield PausableAsker(asker, judge.server.concurrency)


def texts_of(request: Plain, result: Plain) -> list[SteeredText]:
    """The unedited texts and the edit's own, in the order of `with_ratings`."""
    asked, sweep = sweeping.parts(request)
    first = asked.prompt if isinstance(asked.prompt, str) else str(asked.prompt[-1]["content"])
    prompts = (first, *sweep.prompts)
    return [SteeredText(prompts[heard["prompt"]], heard["text"]) for heard in every(result)]


def every(result: Plain) -> Iterator[Mapping[str, Any]]:
    """The texts that are judged."""
    for dose in (result["default"], *result["doses"]):
        yield from dose["heard"]


def with_ratings(
    result: Plain, ratings: Sequence[SteeringRating | RequestFailure]
) -> dict[str, Any]:
    """The result with the judge's numbers among each text's values; a text without a rating has
    none, and is counted by the reason."""
    given = iter(ratings)

    def dose(one: Plain) -> dict[str, Any]:
        heard = [{**h, "values": {**h["values"], **values(next(given))}} for h in one["heard"]]
        return {**one, "heard": heard}

    return {
        **result,
        "default": dose(result["default"]),
        "doses": [dose(one) for one in result["doses"]],
        "judge": {
            "texts": len(ratings),
            "failed": dict(Counter(one.kind for one in ratings if isinstance(one, RequestFailure))),
        },
    }


def values(one: SteeringRating | RequestFailure) -> dict[str, float]:
    """A rating as measures of its text."""
    if isinstance(one, RequestFailure):
        return {}
    each = {measure: float(getattr(one, name)) for name, measure in MEASURES.items()}
    return {"judge": one.score, **each}


def summary(request: Plain, result: Plain) -> None:
    """Who judged what, how many failed, and the factor picked on one half."""
    from backend.steering.best_strength import pick_best_strength
    from backend.steering.sweep_results import SweepOutcome

    about, said = request["judge"], result["judge"]
    failed = sum(said["failed"].values())
    parts = [f"{about['model']} judged {plural(said['texts'], 'text')} for “{about['concept']}”"]
    if failed:
        why = ", ".join(f"{count(n)} {kind}" for kind, n in said["failed"].items())
        parts.append(f"{count(failed)} without a rating ({why}), left out")
    st.markdown(session.literal("; ".join(parts) + "."))
    outcome = SweepOutcome.from_json(result)
    if (found := pick_best_strength(outcome, "judge")) is None:
        st.caption("One seed of one prompt: no half is left to pick a strength on.")
        return
    for line in lines(outcome, found):
        st.markdown(session.literal(line))


def lines(outcome: "SweepOutcome", found: Any) -> list[str]:
    """What was picked, and what it came to where it was not."""
    from backend.steering.best_strength import estimate_other_half

    kind = "prompts" if found.halves == "prompts" else "seeds of the one prompt"
    aspects = estimate_other_half(outcome, found, list(MEASURES.values()))
    each = ", ".join(
        f"{name} {written(e)}" for name, e in zip(MEASURES, aspects, strict=True) if e is not None
    )
    return [
        f"On every second one of the {kind} the best strength is {measure(found.strength)}, score "
        f"{written(found.here)} there. On the others, which had no part in the choice: score "
        f"{written(found.there)}, without the edit {written(found.unedited)}.",
        f"There: {each}. Scores 0 to {steering_judge.MAX_RATING}, 95 % bootstrap over texts.",
    ]


def written(one: "Estimate | None") -> str:
    """An estimate with its interval and n."""
    if one is None:
        return "not judged"
    if one.low is None or one.high is None:
        return f"{measure(one.value)} (n {one.n}, no interval)"
    return f"{measure(one.value)} [{measure(one.low)}, {measure(one.high)}] (n {one.n})"


def keep_it(experiment: str) -> None:
    """Beside the sweep in the catalog, as one with a judge; once."""
    done = task.running(TASK)
    if done is None or done.result is None:
        return
    if not done.kept and not done.unkept:
        if not experiment:
            done.unkept = "the sweep itself is not kept"
        else:
            store_it(done, experiment)
    task.foot(done, "dose–response")


def store_it(done: Task, experiment: str) -> None:
    """With the provenance of the sweep that it judges."""
    try:
        own = kept.experiments().open(experiment)
        done.kept = kept.experiments().save(
            "sweep",
            harvest=own.harvest,
            model=own.model,
            model_hash=own.model_hash,
            dictionaries=own.dictionaries,
            request=done.request,
            result=done.result or {},
            versions=own.versions,
        )
    except InputError as error:
        done.unkept = str(error)
