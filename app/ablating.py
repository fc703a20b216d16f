"""The Ablate page put together: starting runs, opening kept ones, and showing their answers."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import streamlit as st

from app import live, session
from app.ablate import dataset, outcome, ranked, setting, snippet, splicing
from app.ablate.runs import HELD, BackgroundRun, RunAnswer, held, hold, keeper
from app.ablate.setting import cases, parts, value
from app.session import Place
from app.time_estimates import count_tokens_roughly, draw_estimate
from app.wording import plural
from backend.ablation.ablation_requests import (
    AblationRequest,
    EffectRankingRequest,
    check_prompt_cases,
)
from backend.ablation.model_parts import check_ablation_kind
from backend.model.run_token_counts import (
    RunTokenCounts,
    count_ablation_tokens,
    count_ranking_tokens,
)
from feature_store.errors import InputError
from feature_store.experiments import ExperimentKind, Experiments
from feature_store.strict_json import dump_json

GO = "ablate_go"
"""Of the session: the tab whose run was asked for; it stays while the model loads."""
POLL_S = 1.0
"""Asking more often takes the interpreter from the run: the model is many small calls."""
PROMPTLY_S = 1.2
"""Small runs answer within this: then nothing flickers."""
KINDS: dict[str, ExperimentKind] = {
    "ablate": "ablate",
    "effects": "effects",
    "splice": "splice",
    "dataset": "ablate",
}
DRAW: dict[str, Callable[[Place, Any], None]] = {
    "ablate": outcome.draw,
    "effects": ranked.draw,
    "splice": splicing.draw,
    "dataset": dataset.draw,
}
CONTROLS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "effects": ranked.controls,
    "splice": splicing.controls,
    "dataset": dataset.controls,
}
STEPS = 10
"""Points at which integrated gradients are taken (as `backend/attribution/effect_estimates.py`
has them)."""
COSTLY = ("effects", "splice", "dataset")
"""Tabs whose runs take many passes of the model. One ablation of a few prompts is a visitor's."""
EMPTY = {
    "ablate": "Choose prompts and parts, then run: what the model predicts without them.",
    "effects": "Choose prompts: which features push toward the answer, and which away from it.",
    "splice": "Choose prompts: what they cost with each dictionary in the model's place.",
    "dataset": "Choose a task or a file, and parts: mean effects with intervals, as a job.",
}


def requested(place: Place, tab: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the fields ask, as a kept run's request. InputError where they ask nothing."""
    if tab == "ablate":
        return (
            AblationRequest(cases(place), parts(), check_ablation_kind(value("how")))
            .check()
            .to_json()
        )
    check_prompt_cases(found := cases(place), 64)
    names = tuple(given["on"])
    if tab == "splice":
        return EffectRankingRequest(found, names, exact=0).to_json()
    how = check_ablation_kind(value("how"))
    return EffectRankingRequest(
        found, names, given["method"], given["exact"], given["unit"], how
    ).to_json()


def work_of(place: Place, tab: str, given: dict[str, Any]) -> RunTokenCounts:
    """Count the passes that a tab's run will take. InputError where the fields ask nothing."""
    texts = [case.prompt for case in cases(place)]
    tokens = sum(map(count_tokens_roughly, texts))
    if tab == "dataset":
        return count_ablation_tokens(tokens, len(parts()), given["controls"])
    if tab == "splice":
        return count_ablation_tokens(tokens, len(given["on"]), 0)
    steps = STEPS if given["method"] == "integrated" else 1
    return count_ranking_tokens(tokens, len(given["on"]), steps, given["exact"])


def begin(place: Place, tab: str, given: dict[str, Any]) -> None:
    """Start what the fields ask."""
    if tab == "dataset":
        dataset.begin(place, given)
        st.session_state.get(HELD, {}).pop(tab, None)
        return
    request = requested(place, tab, given)
    engine: Any = live.engine(place.file)
    file, keep = place.file, keeper(place.file, engine, KINDS[tab])

    def work(tick: Callable[[int, int], None]) -> dict[str, Any]:
        return run(engine, file, tab, request, tick)

    hold(tab, BackgroundRun(file.record.id, request, work, keep, costly=tab in COSTLY))


def run(engine: Any, file: Any, tab: str, request: dict[str, Any], tick: Any) -> dict[str, Any]:
    """In the run's thread: torch is there by now."""
    from backend.ablation.effect_ranking import rank_effects
    from backend.ablation.harvest_means import read_harvest_means
    from backend.ablation.prompt_ablation import ablate_prompts
    from backend.ablation.splice import splice_losses_by_dictionary

    if tab == "ablate":
        return ablate_prompts(
            engine, AblationRequest.from_json(request), read_harvest_means(file), tick
        )
    asked = EffectRankingRequest.from_json(request)
    if tab == "effects":
        return rank_effects(engine, asked, tick, read_harvest_means(file))
    return splice_losses_by_dictionary(engine, asked.cases, asked.dictionaries, tick)


def answer(place: Place, tab: str) -> RunAnswer | None:
    """What a tab shows; while it is under way the page says how far."""
    if tab == "dataset" and held(tab) is None:
        found = dataset.waiting()
        if found is not None:
            hold(tab, found)
    what = held(tab)
    if isinstance(what, str):
        raise InputError(what)
    if isinstance(what, RunAnswer):
        return what
    if what is None:
        if not (tab == "dataset" and dataset.job()):
            st.caption(EMPTY[tab])
        return None
    if what.harvest != place.file.record.id:
        st.caption(EMPTY[tab])
        return None
    if not what.wait(PROMPTLY_S):
        under_way(what)
        return None
    found = what.answer()
    if found is None:
        st.caption(
            "It ended when this page was left. Run it again."
            if what.left
            else "Cancelled. Run it again, perhaps on fewer prompts."
        )
        return None
    hold(tab, found)
    if found.experiment:
        st.query_params["experiment"] = found.experiment
        st.session_state["ablate_shown"] = found.experiment
    return found


@st.fragment(run_every=POLL_S)
def under_way(what: BackgroundRun) -> None:
    """How far it is, and a way to stop it; the page comes back when it ends."""
    if what.wait(0):
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        share = what.done / what.total if what.total else 0.0
        said = f"pass {what.done} of {what.total}" if what.total else "waiting for the model"
        st.progress(min(share, 1.0), text=said, width=420)
        st.button("Cancel", on_click=what.cancel, type="tertiary")


def opened(place: Place) -> None:
    """Show the kept run that the URL names, once. InputError for an unknown one."""
    name = st.query_params.get("experiment")
    if not name or st.session_state.get("ablate_shown") == name:
        return
    kept = Experiments(session.store().catalog).open(name)
    if kept.kind not in ("ablate", "effects", "splice"):
        raise InputError(f"Experiment {name} is no ablation but a run of {kept.kind}.")
    there = [file.record.id for file in session.store().harvests()]
    if kept.harvest != place.file.record.id and kept.harvest in there:
        st.query_params.from_dict({"experiment": name, "harvest": kept.harvest})
        st.rerun()
    tab = snippet.form_of(kept.kind, kept.request)
    setting.show(dict(kept.request), kept.kind, tab)
    st.session_state["ablate_shown"] = name
    hold(tab, RunAnswer(kept.request, kept.result, kept.id))
    if not place.file.has_weights(kept.model_hash, kept.dictionaries):
        st.markdown(
            ":yellow[This run was made with other weights than this harvest's: running it again "
            "will differ.]"
        )


def kept_line(place: Place, tab: str, found: RunAnswer) -> None:
    """Where the answer is kept, and what can be taken away."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        if found.experiment:
            query = {**place.query, "experiment": found.experiment}
            st.page_link(session.ABLATE, label=f"Kept as {found.experiment}", query_params=query)
        elif found.problem:
            st.caption(f":orange[Computed, but not kept: {session.literal(found.problem)}]")
        st.download_button(
            "JSON",
            lambda: as_json(found),
            f"saefari-{tab}.json",
            type="tertiary",
            on_click="ignore",
        )
        with st.popover("Python", type="tertiary"):
            st.caption("The same without the page")
            path, harvest = session.shown_store(), place.file.record.id
            st.code(snippet.lines(path, harvest, KINDS[tab], found.request), language="python")
        n = len(found.request["cases"])
        st.caption(f"{plural(n, 'prompt')}", width="content")


def as_json(found: RunAnswer) -> str:
    """Request and result."""
    whole = {"request": found.request, "result": found.result, "experiment": found.experiment}
    return dump_json(whole, indent=1)


def stale(place: Place, tab: str, given: dict[str, Any], found: RunAnswer) -> bool:
    """Whether the fields ask something else by now."""
    try:
        if tab == "dataset":
            return False
        return requested(place, tab, given) != dict(found.request)
    except InputError:
        return True


def go(tab: str) -> None:
    """Callback: run what the fields of this tab say."""
    st.session_state[GO] = tab


def page(place: Place, tab: str) -> None:
    """Controls of the tab, and its answer."""
    given = CONTROLS[tab](place) if tab in CONTROLS else {}
    if tab in COSTLY:
        with suppress(InputError):  # fields that say nothing yet; Run says what they lack
            draw_estimate(place, work_of(place, tab, given))
    try:
        if st.session_state.get(GO) == tab:
            begin(place, tab, given)
            st.session_state.pop(GO)
        found = answer(place, tab)
    except InputError as error:
        st.session_state.pop(GO, None)
        hold(tab, str(error))
        st.markdown(f":red[{session.literal(str(error))}]")
        return
    if found is None:
        return
    if stale(place, tab, given, found):
        st.markdown(":yellow[The fields have changed since: Run gives their result.]")
    DRAW[tab](place, found.result)
    kept_line(place, tab, found)
