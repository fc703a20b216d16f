"""Kept runs as files, and back: JSON of one run or of several."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from backend.generation.steering_request import SteeringRequest
from feature_store.errors import InputError
from feature_store.experiments import Experiment, ExperimentKind, Experiments
from feature_store.strict_json import dump_json, parse_json

ONE, SEVERAL = "experiment", "experiments"
TEXTS = ("kind", "harvest", "model", "model_hash", "created", "note")
TABLES = ("dictionaries", "request", "result", "versions")
NUMBERS = ("logprob", "clean_logprob", "kl")


@dataclass(frozen=True)
class Taken:
    """What an import brought."""

    new: int
    same: int
    ids: tuple[str, ...]


def plain(experiment: Experiment) -> dict[str, Any]:
    """A whole run as data."""
    return {
        "saefari": ONE,
        "id": experiment.id,
        "kind": experiment.kind,
        "created": experiment.created.isoformat(),
        "note": experiment.note,
        "harvest": experiment.harvest,
        "model": experiment.model,
        "model_hash": experiment.model_hash,
        "dictionaries": dict(experiment.dictionaries),
        "versions": dict(experiment.versions),
        "request": dict(experiment.request),
        "result": dict(experiment.result),
    }


def written(runs: Sequence[Experiment]) -> bytes:
    """A file of runs, in UTF-8."""
    found = [plain(run) for run in runs]
    whole = found[0] if len(found) == 1 else {"saefari": SEVERAL, SEVERAL: found}
    return dump_json(whole, indent=1).encode()


def read(content: bytes, name: str) -> list[dict[str, Any]]:
    """The runs of a file. InputError for the first thing that is wrong in it, with its place."""
    whole = parse_json(content, f"{name} is not JSON in UTF-8")
    mark = whole.get("saefari") if isinstance(whole, dict) else None
    if mark not in (ONE, SEVERAL):
        raise InputError(f"{name} is no file of experiments: its `saefari` is not {ONE!r}.")
    runs = [whole] if mark == ONE else whole.get(SEVERAL)
    if not isinstance(runs, list) or not runs:
        raise InputError(f"{name} has no experiment in it.")
    return [_checked(run, f"{name}, experiment {number}") for number, run in enumerate(runs, 1)]


def take_in(experiments: Experiments, runs: Iterable[Mapping[str, Any]]) -> Taken:
    """Keep what `read` gave. A run that is there already stays as it is."""
    known = {
        entry.id
        for gone in (False, True)
        for entry in experiments.list_summaries(10**9, deleted=gone)
    }
    ids = []
    for run in runs:
        given = {name: run[name] for name in (*TEXTS[1:4], *TABLES)}
        kept = experiments.save(run["kind"], **given, created=run["created"])
        if run["note"] and kept not in known:
            experiments.annotate(kept, run["note"])
        ids.append(kept)
    new = len(set(ids) - known)
    return Taken(new, len(ids) - new, tuple(ids))


def _checked(run: Any, where: str) -> dict[str, Any]:
    if not isinstance(run, dict):
        raise InputError(f"{where} is not an object.")
    for names, kind, words in ((TEXTS, str, "a text"), (TABLES, dict, "an object")):
        for name in names:
            if not isinstance(run.get(name, "" if name == "note" else None), kind):
                raise InputError(f"{where}: its {name} is not {words}.")
    if run["kind"] not in get_args(ExperimentKind):
        raise InputError(
            f"{where}: {run['kind']!r} is no kind. {', '.join(get_args(ExperimentKind))} are."
        )
    for name in ("dictionaries", "versions"):
        if not all(isinstance(value, str) for value in run[name].values()):
            raise InputError(f"{where}: its {name} are not texts.")
    if run["kind"] == "steer":
        _check_steer(run, where)
    return {**run, "note": run.get("note", ""), "created": _time(run["created"], where)}


def _check_steer(run: Mapping[str, Any], where: str) -> None:
    """A page draws a run's texts as they are: they must have their shape."""
    try:
        SteeringRequest.from_json(run["request"])
    except InputError as bad:
        raise InputError(f"{where}: {bad}") from bad
    try:
        prompt, rows = run["result"]["prompt"], run["result"]["rows"]
        good = bool(rows) and set(rows) <= {"default", "steered"}
        good = good and _tokens(prompt) and len(prompt["counted"]) == len(prompt["tokens"])
        good = good and all(_row(row) for row in rows.values())
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError(f"{where}: its result is not that of a steering run.")


def _tokens(part: Mapping[str, Any]) -> bool:
    """Ids, and as many pieces of text."""
    ids, pieces = part["tokens"], part["pieces"]
    whole = len(ids) == len(pieces) and all(isinstance(one, str) for one in pieces)
    return whole and all(type(one) is int for one in ids)


def _row(row: Mapping[str, Any]) -> bool:
    n = len(row["tokens"])
    series = [values for name in ("watched", "clean") for values in row[name].values()]
    end = row["end"] is None or (isinstance(row["end"]["text"], str) and _notes(row["end"]))
    same = all(len(row[name]) == n and _numbers(row[name]) for name in NUMBERS)
    same = same and len(row["counted"]) == n
    return _tokens(row) and same and end and all(map(_numbers, [row["shift"], *series]))


def _notes(end: Mapping[str, Any]) -> bool:
    return isinstance(end["reason"], str) and all(isinstance(one, str) for one in end["notes"])


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        one is None or (isinstance(one, int | float) and not isinstance(one, bool))
        for one in values
    )


def _time(written_: str, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(written_)
    except ValueError:
        raise InputError(f"{where}: {written_!r} is no time.") from None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
