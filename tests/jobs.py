"""A store with enough windows to explain and score, and explainers and scorers of a few lines."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autointerp.contexts import FeatureSample
from autointerp.explainers.explainer_interface import Explainer, WrittenExplanation
from autointerp.explainers.explainer_interface import ExplainerTools as ExplainTools
from autointerp.llm.requests_and_replies import ChatMessage, ChatRequest, Reply, RequestFailure
from autointerp.scorers.scorer_interface import (
    LLM_JUDGE,
    PATTERN_JUDGE,
    JudgedItem,
    LabelScore,
    Scorer,
    ScorerTools,
)
from feature_store.job_process import hold_job
from feature_store.statistics import ClassAnswers, balanced_accuracy
from feature_store.store import Store
from tests.harvests import Rig

NAME, MANY = "top", "abs"
"""A dictionary of which 18 features have windows enough, and one of which 45 have."""


def explainable(rig: Rig, folder: Path) -> Store:
    """A store in which features can be explained and scored."""
    rig.harvest(folder, top=20, ranged=40, silent=160, window=4)
    return Store(folder)


def word(windows: FeatureSample) -> str:
    """What the feature fires on most."""
    return f"fires on “{(windows.top_token or '').strip()}”"


async def by_word(windows: FeatureSample, tools: ExplainTools) -> WrittenExplanation:
    return WrittenExplanation(word(windows), "word", shown=tuple(e.key for e in windows.explain))


async def by_asking(
    windows: FeatureSample, tools: ExplainTools
) -> WrittenExplanation | RequestFailure:
    """Asks for a sentence; the question names the feature."""
    assert tools.ask
    asked = ChatRequest((ChatMessage("user", f"explain {windows.feature}"),), purpose="explain")
    answer = await tools.ask.ask(asked)
    if isinstance(answer, RequestFailure):
        return answer
    return WrittenExplanation(answer.text, "asking", tools.ask.model)


EXPLAINERS = {
    "word": Explainer("Word", "", by_word),
    "asking": Explainer("Asking", "", by_asking, frozenset(("server",))),
}


async def by_hand(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Says yes where the label's word stands in the window."""
    named = label.partition("“")[2].rpartition("”")[0]

    def item(e: Any) -> JudgedItem:
        truth, answer = float(bool(e.peak >= 0)), float(bool(named) and named in e.text)
        return JudgedItem(e.sequence, e.start, e.document, e.kind, truth, answer)

    rows = [item(e) for e in (*windows.positives, *windows.random)]
    hits, quiet = (
        ClassAnswers.of(
            [r.answer == r.truth for r in rows if r.truth == side],
            [r.document for r in rows if r.truth == side],
        )
        for side in (1.0, 0.0)
    )
    value = balanced_accuracy(hits, quiet)
    return LabelScore("by-hand", "balanced accuracy", value, {"hard": value}, tuple(rows))


async def by_reply(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """One question a window; a window that is not answered is failed."""
    assert tools.ask
    chosen = (*windows.positives[:20], *windows.random[:20])
    asked = [ChatRequest((ChatMessage("user", f"{label} in {e.key} {e.text}?"),)) for e in chosen]
    replies = await asyncio.gather(*map(tools.ask.ask, asked))
    rows, lost = [], 0
    for e, reply in zip(chosen, replies, strict=True):
        said = float(reply.text == "1") if isinstance(reply, Reply) else None
        lost += said is None
        rows.append(
            JudgedItem(
                e.sequence,
                e.start,
                e.document,
                e.kind,
                float(e.peak >= 0),
                said,
                failed=reply.kind if isinstance(reply, RequestFailure) else "",
            )
        )
    good = [r for r in rows if r.answer is not None]
    sides = (
        ClassAnswers.of(
            [r.answer == r.truth for r in good if r.truth == side],
            [r.document for r in good if r.truth == side],
        )
        for side in (1.0, 0.0)
    )
    value = balanced_accuracy(*sides)
    return LabelScore("by-reply", "balanced accuracy", value, {}, tuple(rows), lost)


SCORERS = {
    "by-hand": Scorer(
        "By hand", "", "balanced accuracy", 0.5, by_hand, frozenset((PATTERN_JUDGE, LLM_JUDGE))
    ),
    "by-reply": Scorer("By reply", "", "balanced accuracy", 0.5, by_reply),
}


def carry(store: Store, kind: str, arguments: dict[str, Any], do: Callable[..., Any]) -> Any:
    """A new job's work, here and now; what it raises comes out."""
    from feature_store.jobs import Jobs

    job = Jobs(store.path).create(kind, arguments, "a test")
    with hold_job(job) as work:
        result = do(store, work)
        work.finish("done", result=result)
    return job, result


def again(store: Store, job: Any, do: Callable[..., Any]) -> Any:
    """The same job once more, in a new process as it were."""
    with hold_job(job) as work:
        return do(store, work)
