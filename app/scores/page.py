"""The Scores page: how well a dictionary's explanations do, beside labels that know nothing."""

import shlex

import streamlit as st

from app import components, session, theme
from app.annotations import READ_PATIENCE_S, Said
from app.jobs import watching
from app.scores import alike, charts, means, null_charts, nulls, picks, plots, read, tables
from app.scores.means import SeriesMeans
from app.scores.read import Series
from app.session import Place
from app.wording import count, plural
from feature_store import score_storage
from feature_store.jobs import Job

JOBS_SHOWN = 12
"""Jobs of which the outcome is listed, the newest."""
BEST = 8
"""Features at either end."""


def draw(here: Place, said: Said) -> None:
    """Everything under the title."""
    if said.problem:
        sentence = f"Scores may be out of date. {said.problem}"
        st.markdown(f":yellow[{session.literal(sentence)}]")
    stamp = (
        str(session.store().path),
        here.file.record.id,
        here.info.dictionary,
        said.annotations.scores.last,
        said.annotations.explanations.last,
        said.annotations.all_rows.num_rows,
    )
    found = _series(here, said, stamp)
    if not found:
        explained = bool(said.annotations.scorable.explainers(here.info.dictionary))
        empty(here, explained=explained)
        elsewhere(here, said)
        return
    lines = _lines(found, here.info.dictionary, stamp)
    by = picks.explainer(found)
    mine = [one for one in found if one.by == by]
    summary(here, lines)
    st.subheader(f"Distributions, {session.literal(by)}", anchor=False)
    picture = charts.distributions(mine, theme.palette(st.context.theme.type))
    st.plotly_chart(picture, theme=None, key="scores_spread", config=plots.QUIET)
    st.caption(
        "features by score; outlines are the labels that know nothing (one that leaves the picture "
        "goes on: hover says how far), the dotted upright is chance"
    )
    null_dictionaries(here, by, _nulls(here, said, lines, stamp))
    left, right = st.columns(2, gap="medium")
    with left:
        plots.effect(here, mine)
    with right:
        plots.density(here, mine)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        features(here, mine)
    with right:
        agreement(mine)
    alike.draw(here, said)
    jobs(here)


@st.cache_resource(show_spinner=False, max_entries=4)
def _series(_here: Place, _said: Said, stamp: tuple[object, ...]) -> list[Series]:
    return read.series(_here.file, _here.info.dictionary, _said.annotations)


@st.cache_resource(show_spinner=False, max_entries=4)
def _lines(_found: list[Series], dictionary: str, stamp: tuple[object, ...]) -> list[SeriesMeans]:
    shares = score_storage.read_yes_shares(
        session.store().catalog, dictionary, patience_s=READ_PATIENCE_S
    )
    return [means.line(one, shares) for one in _found]


@st.cache_resource(show_spinner=False, max_entries=4)
def _nulls(
    _here: Place, _said: Said, _lines: list[SeriesMeans], stamp: tuple[object, ...]
) -> list[nulls.Beside]:
    return nulls.beside(_here.file, _here.info.dictionary, _said.annotations, _lines)


def empty(here: Place, *, explained: bool) -> None:
    """In place of scores: the way to some."""
    what = "scores yet" if explained else "explanations yet, and so no scores"
    st.write(f"{session.literal(here.info.dictionary)} has no {what}.")
    st.page_link(
        session.JOBS,
        label="Explain and score on the Jobs page",
        query_params={**here.query, "start": "score" if explained else "explain"},
    )
    st.caption("or in a terminal:")
    words = ["--store", str(session.shown_store()), "--dictionary", here.info.dictionary]
    words = shlex.join([*words, "--harvest", here.file.record.id])
    lines = [f"saefari score {words} --scorer detection,fuzzing,simulation"]
    st.code("\n".join([f"saefari explain {words}"] * (not explained) + lines), language="shell")


def elsewhere(here: Place, said: Said) -> None:
    """The dictionaries of this harvest that do have scores."""
    scored = [
        name for name in said.annotations.scores.dictionaries if name in here.file.dictionaries
    ]
    if not scored:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Scores are there of", width="content")
        for name in scored:
            query = {**here.query, "dictionary": name}
            st.page_link(session.SCORES, label=session.literal(name), query_params=query)


def summary(here: Place, lines: list[SeriesMeans]) -> None:
    """Means of all series; a click on an explainer shows its distributions."""
    judges = len({(line.series.by, line.series.scorer) for line in lines}) < len(lines)
    rows = []
    for line in lines:
        query = {**here.query, "by": line.series.by}
        link = session.href(session.SCORES, query)
        note = line.verdict.sentence if line.verdict else ""
        rows.append(tables.row(tables.means(line, judges), link, line.series.by, note))
    components.rows(
        key="scores_means",
        data=tables.table(tables.MEANS, rows),
        on_go_change=lambda: picks.follow("scores_means"),
    )
    known = sorted({line.series.judge for line in lines if line.series.judge})
    st.caption(
        f"judged by: {session.literal(', '.join(known))} · each judge was asked the same of labels "
        "that know nothing of the feature: “above” is the difference to them"
    )


def null_dictionaries(here: Place, by: str, found: list[nulls.Beside]) -> None:
    """The same scores of its null dictionaries: a figure of the chosen explainer's, a
    table of all, and what to run for those that are not there."""
    if not found:
        st.caption("No null dictionary in this harvest: saefari harvest --null random adds some.")
        return
    st.subheader("Beside null dictionaries", anchor=False)
    mine, name = [one for one in found if one.series.by == by], here.info.dictionary
    if panels := nulls.panels(name, mine):
        names = list(dict.fromkeys(row.name for panel in panels for row in panel.rows))
        picture = null_charts.rows(panels, names, theme.palette(st.context.theme.type))
        st.plotly_chart(picture, theme=None, key="scores_beside", config=plots.QUIET)
        st.caption("share of features by score; the dot is the mean with its 95 % interval")
    components.rows(key="scores_nulls", data=nulls.table(found))
    given = ["--store", str(session.shown_store()), "--harvest", here.file.record.id]
    if lines := nulls.commands(mine, given):
        st.caption("what is not scored yet, in a terminal:")
        st.code("\n".join(lines), language="shell", wrap_lines=True)


def features(here: Place, mine: list[Series]) -> None:
    """The two ends of one score, and the way to any part of it in the table of features."""
    st.subheader("Worst and best", anchor=False)
    one = picks.scorer(mine)
    low, high = means.extremes(one, BEST)
    for name, places in (("worst", low), ("best", high)):
        rows = []
        for place in places.tolist():
            index = int(one.feature[place])
            link = session.href(session.FEATURE, here.at(index) | {"tab": "Explanations"})
            rows.append(tables.row(tables.feature(one, place), link, str(index)))
        heads = ((name, "", ""), *tables.FEATURES[1:])
        key = f"scores_{name}"
        got = components.rows(
            key=key, data=tables.table(heads, rows), on_go_change=components.ignore
        )
        if target := got.get("go"):
            query = here.at(int(target)) | {"tab": "Explanations"}
            st.switch_page(session.FEATURE, query_params=query)
    picks.between(here, one)


def agreement(mine: list[Series]) -> None:
    """How far the scores agree about which features are explained well."""
    st.subheader("Agreement of scores", anchor=False)
    pairs = means.agreement(mine)
    if not pairs:
        st.caption("Only one score so far.")
        return
    rows = [tables.agreement(*pair) for pair in pairs]
    components.rows(key="scores_agreement", data=tables.table(tables.AGREEMENT, rows))


def jobs(here: Place) -> None:
    """What the jobs behind the scores left out, failed at and cost."""
    found = [job for job in watching.jobs().list_jobs() if is_of(job, here)]
    if not found:
        return
    st.subheader("Jobs and what they cost", anchor=False)
    rows = [row for job in found[:JOBS_SHOWN] for row in tables.job(job)]
    components.rows(key="scores_jobs", data=tables.table(tables.JOBS, rows))
    if len(found) > JOBS_SHOWN:
        st.caption(f"the newest {JOBS_SHOWN} of {plural(len(found), 'job')}")
    if alive := sum(job.is_active for job in found):
        st.caption(f"{count(alive)} at work")


def is_of(job: Job, here: Place) -> bool:
    """Whether a job scores this dictionary's features."""
    mine = {"harvest": here.file.record.id, "dictionary": here.info.dictionary}
    return job.kind == "score" and mine.items() <= job.arguments.items() and bool(job.result)
