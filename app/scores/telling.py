"""What a job of explanations or scores has found and cost, for the list of jobs."""

from collections.abc import Mapping
from typing import Any

from app.jobs.asking import read_estimate, so_far
from app.jobs.estimate_words import round_to_three
from app.scores import words
from app.wording import THIN, count, measure, plural
from autointerp.llm import FAILURE_KINDS
from autointerp.pipeline.question_tally import QuestionTally, describe_failures
from feature_store.jobs import Job
from feature_store.statistics import Estimate

KINDS = ("explain", "score")
SHOWN = 3
"""Means and sentences told of a job at most."""


def known(job: Job) -> bool:
    """Whether this is such a job."""
    return job.kind in KINDS


def line(job: Job) -> str:
    """Calls, cost and means as they came in last; empty before there are any."""
    facts = so_far(job)
    parts = [
        answered(job, facts),
        live(facts) if job.is_active else "",
        asked(facts),
        *means(facts),
        explained(facts),
        words.skipped(facts.get("skipped", {})),
    ]
    if failed := facts.get("failed"):
        parts.append(f"{plural(failed, 'feature')} failed")
    return " · ".join(filter(None, parts))


def answered(job: Job, facts: Mapping[str, Any]) -> str:
    """`240 of about 552 questions answered, 3 failed`; empty where nobody was asked."""
    if "questions" not in facts:
        return ""
    tally = QuestionTally.from_json(facts["questions"])
    expected = read_estimate(job).get("calls") or 0
    most = round_to_three(expected)
    of = f" of about {count(most)}" if most > tally.asked else ""
    failed = f", {count(tally.failed)} failed" if tally.failed else ""
    noun = "question" if max(most, tally.answered) == 1 else "questions"
    return f"{count(tally.answered)}{of} {noun} answered{failed}"


def live(facts: Mapping[str, Any]) -> str:
    """`2 calls in flight · 9.8 s a call · 12 tokens/s`; empty where nothing is known."""
    now = facts.get("live") or {}
    parts = [f"{plural(now['in_flight'], 'call')} in flight"] if now.get("in_flight") else []
    if (latency := now.get("latency_s")) is not None:
        parts.append(f"{measure(latency, 2)}{THIN}s a call")
    if (speed := now.get("tokens_per_s")) is not None:
        parts.append(f"{measure(speed, 2)}{THIN}tokens/s")
    return " · ".join(parts)


def asked(facts: Mapping[str, Any]) -> str:
    """`1 200 calls, $0.034`; empty where nobody was asked."""
    without = no_reply(facts)
    if not facts.get("calls"):
        return without
    calls = f"{plural(facts['calls'], 'call')}, {words.dollars(facts.get('cost'))}"
    return " · ".join(filter(None, [calls, without]))


def no_reply(facts: Mapping[str, Any]) -> str:
    """`3 more attempts failed: 2 timed out, 1 was rejected`; empty where there was none."""
    kinds: Mapping[str, int] = facts.get("no_reply") or {}
    if not kinds:
        return ""
    told = ", ".join(f"{count(n)} {attempt_title(kind)}" for kind, n in kinds.items())
    total = sum(kinds.values())
    more = "more " if facts.get("calls") else ""
    return f"{count(total)} {more}attempt{'' if total == 1 else 's'} failed: {told}"


def attempt_title(kind: str) -> str:
    """What happened to an attempt, after its count."""
    if kind == "lost":
        return "under way when the process ended"
    return FAILURE_KINDS[kind].title if kind in FAILURE_KINDS else kind


def reasons(job: Job) -> list[str]:
    """A sentence for each kind of failure so far, with an example and what would help."""
    found = job.result.get("questions") or so_far(job).get("questions") or {}
    return describe_failures(QuestionTally.from_json(found))


def means(facts: Mapping[str, Any]) -> list[str]:
    """The means so far, of those with enough features for one."""
    found = [(name, one) for name, one in facts.get("means", {}).items() if one.get("n")]
    told = [f"{name} {mean(one)}" for name, one in found[:SHOWN]]
    return [*told, f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else told


def explained(facts: Mapping[str, Any]) -> str:
    """How many have a sentence by now."""
    n = sum(facts.get("explained", {}).values())
    return f"{plural(n, 'explanation')}" if n else ""


def latest(job: Job) -> list[tuple[str, str]]:
    """(feature, sentence) of some that came last; untrusted text."""
    return [(str(name), str(text)) for name, text in so_far(job).get("latest", [])]


def ending(job: Job) -> str:
    """How it ended: means or counts with failures, and why it stopped early if it did."""
    rows = job.result.get("results", [])
    told = [said(row) for row in rows[:SHOWN]]
    told += [f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    told.append(words.skipped(job.result.get("skipped", {})))
    told.append(asked(so_far(job)))
    if stopped := job.result.get("stopped"):
        told.append(stopped)
    return " · ".join(filter(None, told))


def said(row: Mapping[str, Any]) -> str:
    """One explainer, or one explainer's score."""
    unit = "item" if row.get("scorer") else "feature"
    failed = f", {plural(row['failed'], unit)} failed" if row.get("failed") else ""
    if row.get("scorer"):
        found = f"{row['explainer']}: {row['scorer']} {mean(row)}{failed}"
        return " · ".join(filter(None, [found, words.says_yes(row.get("yes")), verdict(row)]))
    return f"{row['explainer']}: {plural(row['n'], 'feature')} explained{failed}"


def verdict(row: Mapping[str, Any]) -> str:
    """Whether own labels differ from borrowed ones; empty where that was not asked."""
    return (row.get("verdict") or {}).get("sentence", "").rstrip(".")


def mean(one: Mapping[str, Any]) -> str:
    """`0.70 [0.66, 0.74] of 50 features`, or that there is none yet."""
    estimate = Estimate(one["mean"], one.get("low"), one.get("high"), one["n"], one["n"])
    if estimate.value is None:
        return f"too few for a mean ({plural(one['n'], 'feature')})"
    return f"{words.ranged(estimate)} of {plural(one['n'], 'feature')}"
