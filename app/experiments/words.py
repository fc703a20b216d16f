"""Runs in words: what was done, to which features, on what; and which page a kind has."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app import session, steering
from app.wording import plural
from feature_store.experiments import ExperimentKind, ExperimentSummary

PAGES: dict[str, str] = {
    **dict.fromkeys(("steer", "sweep", "examples", "contrast"), session.STEER),
    **dict.fromkeys(("ablate", "effects", "splice"), session.ABLATE),
    "circuit": session.CIRCUITS,
    "shift": session.SHIFT,
    "clusters": session.BEHAVIOURS,
}
"""Kind → the page that opens it."""
TABS = {"sweep": "dose–response", "examples": "toward examples", "contrast": "contrast direction"}
"""Kind → the tab of the Steer page that shows it."""
SOUGHT = {"nodes", "clusters"}
"""Of a request: that it seeks a circuit, or clusters."""
LONGEST = 60
ID_LEAST = 4
"""Characters of an id that a filter takes for one: it has digits, as strengths do."""


def what(request: Mapping[str, Any]) -> str:
    """What was done to the model: modes and strengths, or what stood in the parts' place; of a
    circuit or of clusters, by which method."""
    edits = [
        f"{steering.spelled(edit['mode'])} {edit.get('strength', 1.0):g}"
        for edit in _edits(request)
    ]
    how = [str(request["how"])] if "how" in request else []
    sought = [str(request["method"])] if SOUGHT & request.keys() and "method" in request else []
    return " + ".join(dict.fromkeys(edits)) or ", ".join(how + sought)


def whom(request: Mapping[str, Any]) -> list[str]:
    """Features, vectors, parts or dictionaries that it was done to."""
    found: list[str] = []
    for edit in _edits(request):
        found += [str(feature) for feature in edit.get("features") or ()]
        if edit.get("vector"):
            found.append(str(edit["vector"].get("name", "a vector")))
    found += [str(part) for part in request.get("parts") or ()]
    return list(dict.fromkeys(found or map(str, request.get("dictionaries") or ())))


def text(request: Mapping[str, Any]) -> str:
    """The prompt; empty for several."""
    prompt, cases = request.get("prompt"), _cases(request)
    if prompt:
        return prompt if isinstance(prompt, str) else str(prompt[-1].get("content", ""))
    if len(cases) != 1:
        return ""
    return str(cases[0].get("prompt", "") if isinstance(cases[0], Mapping) else cases[0])


def about(request: Mapping[str, Any]) -> str:
    """The prompt in quotes, or how many there are; else the task, the tokens, the texts."""
    n, task = len(_cases(request)), str(request.get("task") or "")
    if n or text(request):
        return quoted(text(request)) or plural(n, "prompt")
    if task:
        return f"{task.replace('_', ' ')}, {plural(int(request.get('n_prompts', 0)), 'prompt')}"
    if "clusters" in request:
        return plural(int(request.get("tokens", 0)), "next token")
    return f"{plural(len(request['train']), 'text')} to learn from" if "train" in request else ""


def named(kind: ExperimentKind, request: Mapping[str, Any]) -> str:
    """A run in a line."""
    parts = [kind, what(request), some(whom(request)), about(request)]
    return " · ".join(part for part in parts if part)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def quoted(words: str) -> str:
    """A text on one line, cut."""
    line = " ".join(words.split())
    return f"“{line[: LONGEST - 1]}…”" if len(line) > LONGEST else f"“{line}”" if line else ""


def matching(
    entries: Iterable[ExperimentSummary], kind: str, words: str
) -> list[ExperimentSummary]:
    """Those of a kind (any, if empty) that have every word, in any letter case."""
    wanted = words.lower().split()
    return [
        entry
        for entry in entries
        if kind in ("", entry.kind) and all(_has(entry, word) for word in wanted)
    ]


def _has(entry: ExperimentSummary, word: str) -> bool:
    begins = len(word) >= ID_LEAST and entry.id.startswith(word)
    return begins or word in searched(entry)


def searched(entry: ExperimentSummary) -> str:
    """What a filter looks in."""
    request = entry.request
    modes = [str(edit["mode"]) for edit in _edits(request)]  # as Python and the shell name them
    parts = [entry.kind, what(request), *modes, *whom(request), text(request), entry.note]
    return "\n".join(parts).lower()


def _cases(request: Mapping[str, Any]) -> Sequence[Any]:
    return request.get("cases") or request.get("prompts") or []


def _edits(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of a run; a sweep has one, under its own name."""
    one = request.get("edit")
    return [edit for edit in request.get("edits") or ([one] if one else []) if "mode" in edit]
