"""An ablation over many prompts, as a job: mean effects with intervals, by label, and the null."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import session, theme
from app.ablate import chart
from app.ablate.outcome import TARGETS, grid
from app.ablate.ranked import told
from app.ablate.runs import RunAnswer
from app.ablate.setting import cases, key, parts, value
from app.jobs import ablating, starting, watching
from app.session import Place
from app.wording import ABSENT, count, measure, plural, share, signed
from backend.ablation.ablation_requests import AblationRequest
from backend.ablation.model_parts import check_ablation_kind
from feature_store.errors import InputError
from feature_store.experiments import Experiments
from feature_store.jobs import Job
from feature_store.permissions import require_costly_work_allowed

CONTROLS, MOST_CONTROLS = 30, 200
JOB = "ablate_job"
"""Of the session: the job that the page waits for."""


def controls(place: Place) -> dict[str, Any]:
    """How many matched sets, and the seed."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        wanted = st.number_input(
            "Matched controls",
            0,
            MOST_CONTROLS,
            CONTROLS,
            10,
            key=key("controls"),
            width=150,
            help="Sets of random active features of the same dictionaries, alike in tokens and in "
            "‖Δh‖ on these prompts; 30 or more make a null. Only where every part is a feature.",
        )
        seed = st.number_input("Seed", 0, 10_000, 0, key=key("seed"), width=110)
    return {"controls": wanted, "seed": seed}


def begin(place: Place, given: dict[str, Any]) -> None:
    """Start the job, unless the same one is at work."""
    require_costly_work_allowed()
    asked = AblationRequest(
        cases(place),
        parts(),
        check_ablation_kind(value("how")),
        given["seed"],
        given["controls"],
    ).check()
    named = ", ".join(map(str, asked.parts[:3])) + (" …" if len(asked.parts) > 3 else "")
    what = f"{named} on {plural(len(asked.cases), 'prompt')}"
    given = ablating.arguments(place.file.record.id, asked.to_json())
    st.session_state[JOB] = starting.start(session.store().path, "ablate", given, what).id


def job() -> Job | None:
    """The job that this page waits for, or waited for."""
    try:
        return watching.jobs().get(st.session_state[JOB]) if JOB in st.session_state else None
    except InputError:  # deleted elsewhere
        return None


def waiting() -> RunAnswer | None:
    """The answer of the job that is over; while it works the page says how far it is."""
    found = job()
    if found is None:
        return None
    if found.is_active:
        watching.watch(found.id)
        return None
    if found.state != "done":
        said = found.error or f"The job was {found.state}."
        st.markdown(f":red[{session.literal(said)}]")
        return None
    kept = Experiments(session.store().catalog).open(found.result["experiment"])
    return RunAnswer(kept.request, kept.result, kept.id)


def draw(place: Place, result: Mapping[str, Any]) -> None:
    """Means over the prompts; each part; each label; the controls."""
    left, right = st.columns([1, 1], gap="medium")
    with left:
        target = TARGETS[result["target"]]
        rows = [
            [f"{target}, clean", *estimate(result["clean"])],
            [f"{target}, ablated", *estimate(result["ablated"])],
            ["change of the target", *estimate(result["effect"], sign=True)],
        ]
        if result["removed"]:
            rows.append(["share of the difference gone", *shares(result["removed"])])
        if result["loss"]:
            rows.append(["change of the loss, nats a token", *estimate(result["loss"], sign=True)])
        grid("ablate_over", head(plural(result["n"], "prompt")), rows)
    with right:
        features(place, result)
    null(result)
    by_label(result)
    st.caption(
        "Intervals: 95 %, bootstrap-t over prompts (4\u202f000 resamples; Student's t below 10 "
        "prompts, none below 5)."
    )


def head(first: str) -> list[tuple[str, str]]:
    """Headings of a table of estimates."""
    return [(first, ""), ("mean", "number"), ("95 %", "number")]


def estimate(one: Mapping[str, Any], *, sign: bool = False) -> list[str]:
    """A value and its interval."""
    say = (lambda x: signed(x, 3)) if sign else measure
    if one["low"] is None:
        return [say(one["value"]), ABSENT]
    return [say(one["value"]), f"[{say(one['low'])}, {say(one['high'])}]"]


def shares(one: Mapping[str, Any]) -> list[str]:
    """The same in per cent."""
    if one["low"] is None:
        return [share(one["value"]), ABSENT]
    return [share(one["value"]), f"[{share(one['low'])}, {share(one['high'])}]"]


def features(place: Place, result: Mapping[str, Any]) -> None:
    """Each part away alone."""
    rows = []
    for one in result["features"]:
        dictionary, _, index = one["part"].rpartition("/")
        row = {"dictionary": dictionary, "feature": int(index) if dictionary else None}
        label = told(place, [row]).get(one["part"], "") if dictionary else ""
        rows.append([f"{one['part']}  {label}".strip(), *estimate(one, sign=True)])
    if len(rows) > 1:
        rows.append(["together", *estimate(result["effect"], sign=True)])
    grid("ablate_alone", head("away alone"), rows)


def null(result: Mapping[str, Any]) -> None:
    """The effect among those of matched features."""
    found = result["null"]
    if not found:
        st.caption("No controls: none were asked for, or a part is no feature, or none is like it.")
        return
    st.subheader("Beside matched features", anchor=False)
    effect = result["effect"]["value"]
    st.plotly_chart(
        chart.null(effect, found["effects"], theme.palette(st.context.theme.type)),
        theme=None,
        key="ablate_null",
        config={"displaylogo": False, "displayModeBar": False},
    )
    st.caption(
        session.literal(
            f"{found['note']}. 95 % of them move the target by less than "
            f"{measure(found['percentile_95'])} nats; {count(found['as_large'])} of {found['n']} "
            f"by {measure(abs(effect))} or more."
        )
    )


def by_label(result: Mapping[str, Any]) -> None:
    """The same for each label of the data set."""
    if not result["by_label"]:
        return
    st.subheader("By label", anchor=False)
    heads = [
        ("label", ""),
        ("n", "number"),
        ("clean", "number"),
        ("change", "number"),
        ("95 %", "number"),
        ("share gone", "number"),
        ("95 %", "number"),
    ]
    rows = [
        [
            one["label"] or "(none)",
            count(one["effect"]["n"]),
            measure(one["clean"]["value"]),
            *estimate(one["effect"], sign=True),
            *(shares(one["removed"]) if one["removed"] else [ABSENT, ABSENT]),
        ]
        for one in result["by_label"]
    ]
    grid("ablate_labels", heads, rows)
