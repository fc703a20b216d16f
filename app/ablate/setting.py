"""What the Ablate page is set to: widget keys, the URL's parameters, and the cases they give."""

import re
from typing import Any

import streamlit as st

from app.fields import Fields, broken
from app.session import Place
from backend.ablation.ablation_requests import (
    MAX_DETAILED_PROMPTS,
    AblationRequest,
    EffectRankingRequest,
    PromptCase,
)
from backend.ablation.model_parts import ABLATION_KINDS, ModelPart, check_ablation_kind
from feature_store.errors import InputError
from feature_store.null_dictionaries import list_model_dictionaries
from feature_store.records import FeatureId

SOURCES = {"prompts": "prompts", "task": "demo task", "contexts": "contexts", "file": "file"}
TABS = {
    "ablate": "Ablate",
    "effects": "Rank by effect",
    "splice": "Splice",
    "dataset": "Data set",
}
USUAL: dict[str, Any] = {
    "source": "prompts",
    "prompts": "",
    "pairs": "",
    "answer": "",
    "wrong": "",
    "how": "zero",
    "parts": [],
    "task": "indirect_object",
    "prompts_n": 16,
    "task_seed": 0,
    "contexts_n": 8,
    "of": "",
    "tab": "ablate",
}
"""Field → its first value; the widget's key is `ablate_` and the name."""
LINKED = ("prompts", "answer", "wrong", "how", "tab")
"""Fields that a link may set, besides `feature` and `part`."""
KEPT, FILE, OPENED = "ablate_kept", "ablate_file", "ablate_opened"
"""Of the session: the fields' values, a file's name and cases, and the URL that was adopted."""
REQUESTS = "ablate_requests"
"""Of the session: tab → the request opened there last, and how many were."""


FIELDS = Fields("ablate_", KEPT)
key, value, keep, put = FIELDS.key, FIELDS.value, FIELDS.keep, FIELDS.put


def adopt(place: Place) -> None:
    """Fill the fields: from a link that was not taken yet, else as this visitor left them."""
    state, query = st.session_state, st.query_params
    state.setdefault(KEPT, dict(USUAL))
    FIELDS.restore()
    link = {n: query.get_all(n) for n in (*LINKED, "feature", "part") if n in query}
    if link and state.get(OPENED) != link:
        state[OPENED] = link
        take(link)
    known = {p for p in value("parts") if belongs(p, place)}
    if len(known) < len(value("parts")):
        put(parts=[p for p in value("parts") if p in known])


def take(link: dict[str, list[str]]) -> None:
    """A link's fields; InputError for a part, a way or a tab that there is not."""
    given: dict[str, Any] = {n: link[n][-1] for n in LINKED if n in link}
    if "how" in given:
        check_ablation_kind(given["how"])
    if given.get("tab", "ablate") not in TABS:
        raise InputError(f"The page has no tab {given['tab']!r}. There are: {', '.join(TABS)}.")
    named = [str(FeatureId.parse(text)) for text in link.get("feature", [])]
    named += [str(ModelPart.parse(text)) for text in link.get("part", [])]
    if named:
        given["parts"] = list(dict.fromkeys(named))
    if "prompts" in given:
        given["source"] = "prompts"
    put(**given)


def belongs(text: str, place: Place) -> bool:
    """Whether a part is one of this harvest's dictionaries, or of any model."""
    try:
        name = ModelPart.parse(text).dictionary
    except InputError:
        return True  # said when it is run
    return not name or name in place.file.dictionaries


def parts() -> tuple[ModelPart, ...]:
    """The chosen parts; InputError for one that is none."""
    return tuple(ModelPart.parse(text) for text in value("parts"))


def cases(place: Place) -> tuple[PromptCase, ...]:
    """The prompts of the chosen source. InputError where there is none."""
    if value("source") == "file":
        if FILE not in st.session_state:
            raise InputError("Choose a file of prompts first.")
        return st.session_state[FILE][1]
    if value("source") == "task":
        from backend.demo import task_prompts

        found = task_prompts(value("task"), "held_out", value("prompts_n"), value("task_seed"))
        return tuple(PromptCase(p.prompt, p.answer, p.wrong) for p in found)
    return contexts(place) if value("source") == "contexts" else typed()


def typed() -> tuple[PromptCase, ...]:
    """One prompt a line. With the answer's field empty a line may carry its own:
    `prompt | answer | wrong`."""
    lines = [line for line in value("prompts").splitlines() if line.strip()]
    pairs = [line for line in value("pairs").splitlines() if line.strip()]
    if value("how") == "pair" and len(pairs) != len(lines):
        raise InputError(
            f"{len(lines)} prompts and {len(pairs)} to patch from: type one line for each."
        )
    found = []
    for number, line in enumerate(lines):
        prompt, answer, wrong = line, value("answer"), value("wrong")
        if not answer and not wrong and " | " in line:
            prompt, answer, wrong = (*re.split(r" \|(?= )", line), "")[:3]
        pair = broken(pairs[number]) if value("how") == "pair" else ""
        found.append(PromptCase(broken(prompt), broken(answer), broken(wrong), pair))
    if not found:
        raise InputError("There is no prompt. Type one.")
    return tuple(found)


def contexts(place: Place) -> tuple[PromptCase, ...]:
    """The strongest stored contexts of a feature, one a document, whole from their sequence's
    beginning; the target is the token after the peak."""
    name = value("of") or next((p for p in value("parts") if ModelPart.parse(p).feature), "")
    if not name:
        raise InputError("Name the feature whose contexts are meant, as DICTIONARY/INDEX.")
    feature = place.file.check_feature(FeatureId.parse(name))
    found: dict[int, PromptCase] = {}
    for one in sorted(place.file.contexts(feature), key=lambda c: -abs(c.value)):
        tokens = place.file.sequences.tokens(one.sequence)[: one.start + one.length].tolist()
        if one.stratum != "range" and one.peak + 1 < len(tokens):
            found.setdefault(one.document, PromptCase(tokens=tuple(tokens), at=one.peak))
    if not found:
        raise InputError(f"{feature} has no stored context with a token behind its peak.")
    return tuple(found.values())[: min(value("contexts_n"), MAX_DETAILED_PROMPTS)]


def show(request: dict[str, Any], kind: str, tab: str) -> None:
    """The fields of a kept run's request, so that it can be changed and run again."""
    asked = (EffectRankingRequest if kind != "ablate" else AblationRequest).from_json(request)
    given: dict[str, Any] = {"tab": tab, "source": "file"}
    if isinstance(asked, AblationRequest):
        given["parts"] = [str(part) for part in asked.parts]
    if isinstance(asked, AblationRequest) or kind == "effects":
        given["how"] = asked.how
    if len(asked.cases) == 1 and not asked.cases[0].tokens:
        one = asked.cases[0]
        given |= {"source": "prompts", "prompts": one.prompt.replace("\n", "\\n")}
        given |= {"pairs": one.pair.replace("\n", "\\n")}
        given |= {"answer": one.answer.replace("\n", "\\n"), "wrong": one.wrong}
    else:
        st.session_state[FILE] = ("the kept run", asked.cases)
    held = st.session_state.setdefault(REQUESTS, {})
    held[tab] = (request, held.get(tab, ({}, 0))[1] + 1)
    put(**given)


def opened(tab: str) -> tuple[dict[str, Any], str]:
    """The request of the run last opened in a tab, and what makes its widgets' keys new."""
    request, version = st.session_state.get(REQUESTS, {}).get(tab, ({}, 0))
    return request, f"_{version}" if version else ""


def ways() -> list[str]:
    """What may stand in a part's place."""
    return list(ABLATION_KINDS)


def others(place: Place, layers: int, heads: int) -> list[str]:
    """Every part that is no feature; heads and layers where the model is known."""
    names = list_model_dictionaries(place.file)
    found = [f"error:{name}" for name in names] + [f"dictionary:{name}" for name in names]
    for layer in range(layers):
        found += [f"attention:{layer}", f"mlp:{layer}"]
        found += [f"head:{layer}.{head}" for head in range(heads)]
    return found
