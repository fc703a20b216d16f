"""What a job of explanations or scores has found and cost, for the list of jobs."""

from collections.abc import Mapping
from typing import Any

from app.jobs.asking import so_far
from app.scores import words
from app.wording import count, plural
from autointerp.statistics import Estimate
from feature_store.jobs import Job

KINDS = ("explain", "score")
SHOWN = 3
"""Means and sentences told of a job at most."""


def known(job: Job) -> bool:
    """Whether this is such a job."""
    return job.kind in KINDS


def line(job: Job) -> str:
    """Calls, cost and means as they came in last; empty before there are any."""
    facts = so_far(job)
    parts = [asked(facts), *means(facts), explained(facts), words.skipped(facts.get("skipped", {}))]
    if failed := facts.get("failed"):
        parts.append(f"{count(failed)} failed")
    return " · ".join(filter(None, parts))


def asked(facts: Mapping[str, Any]) -> str:
    """`1 200 calls, $0.034`; empty where nobody was asked."""
    if not facts.get("calls"):
        return ""
    refused = f", {count(facts['refused'])} refused" if facts.get("refused") else ""
    return f"{plural(facts['calls'], 'call')}{refused}, {words.dollars(facts.get('cost'))}"


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
    failed = f", {count(row['failed'])} failed" if row.get("failed") else ""
    if row.get("scorer"):
        found = f"{row['explainer']}: {row['scorer']} {mean(row)}{failed}"
        return " · ".join(filter(None, [found, words.says_yes(row.get("yes")), verdict(row)]))
    return f"{row['explainer']}: {count(row['n'])} explained{failed}"


def verdict(row: Mapping[str, Any]) -> str:
    """Whether own labels differ from borrowed ones; empty where that was not asked."""
    return (row.get("verdict") or {}).get("sentence", "").rstrip(".")


def mean(one: Mapping[str, Any]) -> str:
    """`0.70 [0.66, 0.74] of 50`, or that there is none yet."""
    estimate = Estimate(one["mean"], one.get("low"), one.get("high"), one["n"], one["n"])
    if estimate.value is None:
        return f"too few for a mean ({count(one['n'])})"
    return f"{words.ranged(estimate)} of {count(one['n'])}"
