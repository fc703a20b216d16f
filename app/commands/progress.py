"""A progress bar over the stages of long work; on a pipe, a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.commands.terminal import console

LINE_EVERY_S = 10.0


def report(steps: Iterator[Any], name: Callable[[], str] | None = None) -> None:
    """Draw `backend`'s progress until the work ends. On Ctrl-C say how to go on with the harvest
    whose id `name` gives; without `name` the work keeps nothing."""
    out = console(stderr=True)
    try:
        if out.is_terminal:
            draw(steps, out)
        else:
            lines(steps)
    except KeyboardInterrupt:
        if name is None:
            raise
        what = f"harvest {name()}" if name() else "the harvest"
        way_on = "run the same command again to go on"
        out.print(f"\nStopped. What {what} has so far is kept: {way_on}.")
        raise


def draw(steps: Iterator[Any], out: Console) -> None:
    """A bar per stage, with speed and time left."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bar:
        task, stage, began = None, "", time.monotonic()
        for step in steps:
            if step.stage != stage:
                if task is not None:
                    bar.update(task, completed=bar.tasks[task].total)
                task = bar.add_task(step.stage, total=step.total, unit=step.unit, speed="")
                stage, began = step.stage, time.monotonic()
            assert task is not None, "every step belongs to a stage"
            bar.update(task, completed=step.done, speed=speed(step, began))
        if task is not None:
            bar.update(task, completed=bar.tasks[task].total)


def speed(step: Any, began: float) -> str:
    """Units a second by this process in this stage."""
    seconds = time.monotonic() - began
    if not step.fresh or seconds < 0.5:
        return ""
    return f"{step.fresh / seconds:,.0f}/s"


def lines(steps: Iterator[Any]) -> None:
    """For logs: the beginning of each stage, and every few seconds how far it is."""
    stage, said, began = "", 0.0, 0.0
    for step in steps:
        now = time.monotonic()
        if step.stage != stage:
            stage, said, began = step.stage, now, now
            print(f"{step.stage}", file=sys.stderr)  # noqa: T201 - the command's own output
        elif now - said > LINE_EVERY_S:
            said = now
            text = f"{step.stage}: {step.done:,} of {step.total:,} {step.unit}"
            print(f"{text} {speed(step, began)}".rstrip(), file=sys.stderr)  # noqa: T201
