"""What the form is set to: widget keys, what a link sets, and the request that they give."""

from typing import Any

import streamlit as st

from app.circuits.asked import CircuitRequest
from app.circuits.methods import METHODS
from app.fields import Fields, broken
from app.session import Place
from backend.ablation.ablation_requests import PromptCase
from backend.circuits.records import BASELINE_KINDS
from backend.demo.dictionary_plans import MODEL_NAME
from feature_store.errors import InputError
from feature_store.null_dictionaries import list_model_dictionaries

SOURCES = {"prompts": "prompts", "pairs": "prompt pairs", "task": "demo task", "file": "file"}
USUAL: dict[str, Any] = {
    "source": "prompts",
    "prompts": "",
    "corrupt": "",
    "target": "",
    "against": "",
    "start": "",
    "task": "indirect_object",
    "n": 64,
    "seed": 0,
    "method": "sparse-features",
    "baseline": "zero",
    "dictionaries": [],
    "nodes": 200,
    "edges": 5_000,
    "places": "",
}
"""Field → its first value; the widget's key is `circuits_f_` and the name."""
LINKED = ("prompts", "corrupt", "target", "against", "start", "method")
"""Fields that a link may set."""
KEPT, FILE, ADOPTED = "circuits_kept", "circuits_file", "circuits_adopted"
"""Of the session: the fields' values; a file's name and cases; the link that was taken."""


FIELDS = Fields("circuits_f_", KEPT)
key, value, keep, put = FIELDS.key, FIELDS.value, FIELDS.keep, FIELDS.put


def adopt(place: Place) -> None:
    """Fill the fields: from a link that was not taken yet, else as this visitor left them."""
    state = st.session_state
    state.setdefault(KEPT, dict(USUAL))
    FIELDS.restore()
    link = {name: st.query_params[name] for name in LINKED if name in st.query_params}
    if link and state.get(ADOPTED) != link:
        state[ADOPTED] = link
        if link.get("method", "trace") not in METHODS:
            raise InputError(
                f"No method called {link['method']!r}. There are: {', '.join(METHODS)}."
            )
        put(**link, source="pairs" if "corrupt" in link else "prompts")
    if value("source") == "task" and place.file.record.model != MODEL_NAME:
        put(source="prompts")
    known = [name for name in value("dictionaries") if name in place.file.dictionaries]
    if len(known) < len(value("dictionaries")):
        put(dictionaries=known)


def asked(place: Place) -> CircuitRequest:
    """The request. InputError for what cannot be run."""
    source, method = value("source"), METHODS[value("method")]
    texts = {name: tuple(filter(None, [broken(value(name))])) for name in ("target", "against")}
    if value("start"):
        texts = {"target": (), "against": ()}
    task = value("task") if source == "task" else ""
    if task:
        texts = {"target": (), "against": ()}
    return CircuitRequest(
        value("method"),
        tuple(value("dictionaries") or list_model_dictionaries(place.file)),
        cases(),
        task,
        n_prompts=int(value("n")),
        seed=int(value("seed")),
        targets=texts["target"],
        against=texts["against"],
        start=value("start").strip() if "feature" in method.targets else "",
        places=value("places") if method.baseline and not task else "",
        baseline=value("baseline") if method.baseline else "zero",
        nodes=int(value("nodes")),
        edges=int(value("edges")),
    ).check()


def cases() -> tuple[PromptCase, ...]:
    """The prompts of the chosen source; none for a task. One a line, `prompt | answer | wrong`."""
    if value("source") == "task":
        return ()
    if value("source") == "file":
        if FILE not in st.session_state:
            raise InputError("Choose a file of prompts first.")
        return st.session_state[FILE][1]
    lines = [line for line in value("prompts").splitlines() if line.strip()]
    pairs = [""] * len(lines)
    if value("source") == "pairs":
        pairs = [line for line in value("corrupt").splitlines() if line.strip()]
        if len(pairs) != len(lines):
            raise InputError(
                f"{len(lines)} prompts and {len(pairs)} corrupt ones: type one line for each."
            )
    found = []
    for line, pair in zip(lines, pairs, strict=True):
        prompt, answer, wrong = (*line.split(" |"), "", "")[:3] if " |" in line else (line, "", "")
        found.append(PromptCase(broken(prompt), broken(answer), broken(wrong), broken(pair)))
    if not found:
        raise InputError("There is no prompt. Type one.")
    return tuple(found)


def show(request: CircuitRequest) -> None:
    """The fields of a kept circuit's request, so that it can be changed and found again."""
    given: dict[str, Any] = {
        "method": request.method,
        "dictionaries": list(request.dictionaries),
        "n": request.n_prompts,
        "seed": request.seed,
        "start": request.start,
        "nodes": request.nodes,
        "edges": request.edges,
        "places": request.places,
        "target": "".join(request.targets[:1]),
        "against": "".join(request.against[:1]),
    }
    if request.baseline in BASELINE_KINDS:
        given["baseline"] = request.baseline
    if request.task:
        put(**given, source="task", task=request.task)
        return
    lines = [" |".join(filter(None, [c.prompt, c.answer, c.wrong])) for c in request.cases]
    pairs = [c.pair for c in request.cases]
    put(
        **given,
        source="pairs" if all(pairs) and pairs else "prompts",
        prompts="\n".join(line.replace("\n", "\\n") for line in lines),
        corrupt="\n".join(pair.replace("\n", "\\n") for pair in pairs),
    )
