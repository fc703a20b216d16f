"""Progress of long work by stages: a bar on a terminal, otherwise a line every 10 seconds."""

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
    """Show the progress of the steps until the work ends. On Ctrl-C, print how to resume the
    harvest whose id `name` returns; without `name` nothing is saved."""
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
        way_on = "run the same command again to resume"
        out.print(f"\nStopped. The results of {what} so far are saved: {way_on}.")
        raise


def draw(steps: Iterator[Any], out: Console) -> None:
    """Draw a bar for each stage, with its speed and the time left."""
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
    """Format the units per second of this process in this stage."""
    seconds = time.monotonic() - began
    if not step.fresh or seconds < 0.5:
        return ""
    return f"{step.fresh / seconds:,.0f}/s"


def lines(steps: Iterator[Any]) -> None:
    """Print, for logs, the start of each stage and its progress every 10 seconds."""
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
